//! Tests of the policy as a whole: what is accepted and what it means, what is refused and where, and the matcher and the
//! kernel's prefixes against naive ones.

mod accept;
mod kernel;
mod large;
mod matching;
mod refuse;
mod refuse_judge;
mod sample;
mod secrets;
mod warn;
