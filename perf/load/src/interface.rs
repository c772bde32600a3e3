//! What an interface refused to carry, from the kernel's own counters.

use std::fs::File;
use std::io::{Read, Seek};

use crate::error::{Error, Result};

/// Counters of one interface. They stay those of the network namespace in which this was opened, whoever reads them.
#[derive(Debug)]
pub(crate) struct Interface {
    name: String,
    file: File,
}

/// Frames that were dropped for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// On their way out. On veth: the peer's ring was full.
    pub(crate) out: u64,
    /// On their way in. On veth: this end's ring was full when the peer's XDP program sent something back.
    pub(crate) back: u64,
}

impl Interface {
    pub(crate) fn open(name: &str) -> Result<Interface> {
        let file = File::open("/proc/thread-self/net/dev")
            .map_err(|source| Error::io("opening the interfaces' counters", source))?;
        Ok(Interface {
            name: name.to_owned(),
            file,
        })
    }

    pub(crate) fn refused(&mut self) -> Result<Refused> {
        let mut text = String::new();
        self.file
            .rewind()
            .and_then(|()| self.file.read_to_string(&mut text))
            .map_err(|source| Error::io("reading the interfaces' counters", source))?;
        parse(&text, &self.name).ok_or(Error::Missing("interface of that name in /proc/net/dev"))
    }
}

/// A line is `name: ` and sixteen numbers: received bytes, packets, errors, drops and four more, then the same of what was sent.
fn parse(text: &str, name: &str) -> Option<Refused> {
    text.lines().find_map(|line| {
        let (interface, numbers) = line.split_once(':')?;
        if interface.trim() != name {
            return None;
        }
        let mut numbers = numbers.split_ascii_whitespace();
        let back = numbers.nth(3)?.parse().ok()?;
        let out = numbers.nth(7)?.parse().ok()?;
        Some(Refused { out, back })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_both_directions_are_found() {
        let text = "Inter-|   Receive        |  Transmit\n face |bytes packets errs drop\n\
                    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0: 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36\n";
        assert_eq!(parse(text, "eth0"), Some(Refused { out: 32, back: 24 }));
        assert_eq!(parse(text, "eth"), None);
    }
}
