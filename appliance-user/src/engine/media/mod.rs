//! Parsers of the media protocols: borrowed views that are proven valid once, when they are made.
//!
//! Nothing here keeps state or allocates per packet; what must be remembered between packets is the judge's or the
//! stream's business.

#![forbid(unsafe_code)]

pub mod fec;
mod hash;
pub mod mpegts;
pub mod rtcp;
pub mod rtmp;
pub mod rtp;
pub mod scte35;
pub mod srt;
