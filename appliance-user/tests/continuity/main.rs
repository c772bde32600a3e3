//! Continuity end to end: media made by real encoders and senders, edited or damaged here, judged by the engine and by
//! programs that know nothing of it.

mod lossy;
mod material;
mod oracle;
mod srt;
mod table;
mod vectors;
