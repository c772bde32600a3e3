//! The handshake (RTMP 1.0, 5.2), the client's side: C0 and C1 together, then C2.
//!
//! The later, "complex" handshake hides digests in the random bytes and has the same sizes, so it is the same here.

use super::Error;

/// The version of C0.
pub const VERSION: u8 = 3;
/// Bytes of C1 and of C2 each.
pub const BLOCK: usize = 1536;
/// Bytes of C0, C1 and C2: the chunks begin behind them.
pub const LENGTH: usize = 1 + 2 * BLOCK;

/// What a connection's first byte announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// RTMP in the clear.
    Clear,
    /// A TLS record of type handshake (RFC 8446 5.1): RTMPS.
    Tls,
    /// RTMPE: RTMP encrypted after a key exchange within C1 (versions 6, 8 and 9).
    Rtmpe,
}

impl Opening {
    /// Reads the first byte that a client sends.
    ///
    /// # Errors
    /// [`Error::Version`] where the connection is of none of these kinds.
    pub const fn of(first: u8) -> Result<Self, Error> {
        match first {
            VERSION => Ok(Opening::Clear),
            0x16 => Ok(Opening::Tls),
            6 | 8 | 9 => Ok(Opening::Rtmpe),
            other => Err(Error::Version(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_tells_what_follows() {
        assert_eq!(Opening::of(3), Ok(Opening::Clear));
        assert_eq!(Opening::of(0x16), Ok(Opening::Tls));
        assert_eq!(Opening::of(6), Ok(Opening::Rtmpe));
        assert_eq!(Opening::of(b'P'), Err(Error::Version(b'P')));
        assert_eq!(LENGTH, 3073);
    }
}
