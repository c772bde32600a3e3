//! AMF0 (Adobe's Action Message Format 0), read without allocation: scalars as views, objects by their properties.

use super::Error;

/// How deep objects may be nested; a client's commands nest one deep.
pub const MAX_DEPTH: u8 = 8;

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const REFERENCE: u8 = 0x07;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0a;
const DATE: u8 = 0x0b;
const LONG_STRING: u8 = 0x0c;
const UNSUPPORTED: u8 = 0x0d;
const XML: u8 = 0x0f;
const TYPED_OBJECT: u8 = 0x10;

/// One value; what has parts is skipped whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Number (2.2).
    Number(f64),
    /// Boolean (2.3).
    Boolean(bool),
    /// String or long string (2.4, 2.14): UTF-8 by the specification, unchecked here.
    String(&'a [u8]),
    /// Null, undefined or unsupported (2.7, 2.8, 2.15).
    Nothing,
    /// Anything else.
    Other,
}

impl<'a> Value<'a> {
    /// The text of a string.
    pub const fn text(self) -> Option<&'a [u8]> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// A row of values, read from its beginning.
#[derive(Clone, Debug)]
pub struct Amf0<'a>(&'a [u8]);

impl<'a> Amf0<'a> {
    /// Values that begin at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Amf0(bytes)
    }

    /// Whether every value was read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next value.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Marker`] or [`Error::Depth`].
    pub fn value(&mut self) -> Result<Value<'a>, Error> {
        self.nested(0)
    }

    /// The next value, which must be an object (2.5, 2.10, 2.18): each of its properties is shown in turn.
    ///
    /// # Errors
    /// As [`Amf0::value`]; [`Error::Marker`] where it is no object.
    pub fn object(&mut self, each: impl FnMut(&'a [u8], Value<'a>)) -> Result<(), Error> {
        match self.byte()? {
            OBJECT => {}
            ECMA_ARRAY => drop(self.take(4)?),
            TYPED_OBJECT => drop(self.short_text()?),
            other => return Err(Error::Marker(other)),
        }
        self.properties(1, each)
    }

    fn nested(&mut self, depth: u8) -> Result<Value<'a>, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::Depth);
        }
        Ok(match self.byte()? {
            NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            BOOLEAN => Value::Boolean(self.byte()? != 0),
            STRING => Value::String(self.short_text()?),
            LONG_STRING => Value::String(self.long_text()?),
            NULL | UNDEFINED | UNSUPPORTED => Value::Nothing,
            marker => {
                self.skip(marker, depth)?;
                Value::Other
            }
        })
    }

    /// Skips a value that is no scalar, behind its marker.
    fn skip(&mut self, marker: u8, depth: u8) -> Result<(), Error> {
        match marker {
            REFERENCE => drop(self.take(2)?),
            DATE => drop(self.take(10)?),
            XML => drop(self.long_text()?),
            OBJECT => self.properties(depth + 1, |_, _| ())?,
            ECMA_ARRAY => {
                // The count is a hint only (2.10): the end marker ends it.
                self.take(4)?;
                self.properties(depth + 1, |_, _| ())?;
            }
            TYPED_OBJECT => {
                self.short_text()?;
                self.properties(depth + 1, |_, _| ())?;
            }
            STRICT_ARRAY => {
                // Each value takes at least a byte, so the input's length bounds the loop.
                for _ in 0..u32::from_be_bytes(self.array()?) {
                    self.nested(depth + 1)?;
                }
            }
            other => return Err(Error::Marker(other)),
        }
        Ok(())
    }

    /// Each property takes at least three bytes, so the input's length bounds the loop.
    fn properties(&mut self, depth: u8, mut each: impl FnMut(&'a [u8], Value<'a>)) -> Result<(), Error> {
        loop {
            let key = self.short_text()?;
            if key.is_empty() && self.0.first() == Some(&OBJECT_END) {
                return self.byte().map(drop);
            }
            each(key, self.nested(depth)?);
        }
    }

    fn short_text(&mut self) -> Result<&'a [u8], Error> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(length.into())
    }

    fn long_text(&mut self) -> Result<&'a [u8], Error> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(length).map_err(|_| Error::Truncated)?)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        self.0.split_off(..length).ok_or(Error::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The object of AMF0's own specification has no bytes, so this is one that ffmpeg 5.1 sent.
    const CONNECT: &[u8] = b"\x03\x00\x03app\x02\x00\x04live\x00\x04type\x02\x00\x0anonprivate\x00\x00\x09\x00";

    #[test]
    fn properties_are_shown_in_turn() {
        let mut values = Amf0::new(CONNECT);
        let mut seen = Vec::new();
        values.object(|key, value| seen.push((key, value))).unwrap();
        assert_eq!(
            seen,
            [
                (&b"app"[..], Value::String(b"live")),
                (b"type", Value::String(b"nonprivate"))
            ]
        );
        assert_eq!(values.value(), Err(Error::Truncated), "half a number");
    }

    #[test]
    fn every_kind_is_skipped_by_its_own_length() {
        let row: &[&[u8]] = &[
            b"\x03\x00\x01a\x03\x00\x00\x09\x00\x00\x09",
            b"\x08\x00\x00\x00\x07\x00\x01a\x05\x00\x00\x09",
            b"\x0a\x00\x00\x00\x02\x05\x01\x01",
            b"\x0b0123456789",
            b"\x0f\x00\x00\x00\x01x",
            b"\x10\x00\x01T\x00\x00\x09",
            b"\x07\x00\x00",
        ];
        for kind in row {
            let bytes = [kind, &b"\x00\x3f\xf0\x00\x00\x00\x00\x00\x00"[..]].concat();
            let mut values = Amf0::new(&bytes);
            assert_eq!(values.value(), Ok(Value::Other), "{kind:x?}");
            assert_eq!(values.value(), Ok(Value::Number(1.0)), "{kind:x?}");
            assert!(values.is_empty());
        }
    }

    #[test]
    fn nesting_and_lengths_are_bounded() {
        let deep = [0x0a, 0, 0, 0, 1].repeat(1000);
        assert_eq!(Amf0::new(&deep).value(), Err(Error::Depth));
        assert_eq!(Amf0::new(b"\x0a\xff\xff\xff\xff").value(), Err(Error::Truncated));
        assert_eq!(Amf0::new(b"\x0c\xff\xff\xff\xffx").value(), Err(Error::Truncated));
        assert_eq!(Amf0::new(b"\x11").value(), Err(Error::Marker(0x11)));
        assert_eq!(Amf0::new(b"\x03\x00\x01a").value(), Err(Error::Truncated));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut values = Amf0::new(&bytes);
            let mut count = 0;
            while values.value().is_ok() {
                count += 1;
            }
            prop_assert!(count <= bytes.len());
            let _ = Amf0::new(&bytes).object(|_, _| ());
        }

        #[test]
        fn strings_and_numbers_round_trip(text in proptest::collection::vec(any::<u8>(), 0..600), number in any::<f64>()) {
            let mut bytes = vec![NUMBER];
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.push(STRING);
            bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&text);
            let mut values = Amf0::new(&bytes);
            prop_assert!(matches!(values.value(), Ok(Value::Number(n)) if n.to_bits() == number.to_bits()));
            prop_assert_eq!(values.value(), Ok(Value::String(&text)));
            prop_assert!(values.is_empty());
        }
    }
}
