//! What a transport stream says about itself.

mod clock;
mod pcr;
mod pts;
mod rates;
mod si;
mod tr101290;

pub use self::tr101290::Indicator;

/// Something that the analyser found.
pub enum TsEvent {
    /// A violation of ETSI TR 101 290.
    Tr101290 {
        /// What was violated.
        indicator: Indicator,
        /// The PID, where it is about one.
        pid: Option<u16>,
    },
}
