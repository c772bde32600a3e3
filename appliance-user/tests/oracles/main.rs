//! What `tidegate inspect` says of the inside of a transport stream, beside programs that share no line with it: tables by
//! libdvbpsi's dvbinfo, by tstools' tsinfo and by the `mpeg2ts-reader` crate, synchronisation by the `dvb-conformance` crate.
#![cfg(feature = "appliance")]

#[path = "../inspect_support/mod.rs"]
mod inspect_support;

mod sync;
mod tables;
