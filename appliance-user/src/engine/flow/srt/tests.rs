//! SRT through the engine: captures of real sessions, and sessions made by hand.

mod bench;
mod by_hand;
mod captures;
