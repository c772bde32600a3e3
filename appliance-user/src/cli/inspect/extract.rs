//! `inspect --extract DIR`: the evidence. Each stream's TS in the order in which it was sent, decrypted where it could be, and
//! what was told of the streams as JSON lines.
//!
//! Files are named after the input: `<input>-<n>-<protocol>-<source port>.ts` for its n-th stream, and
//! `<input>-events.jsonl`; further inputs of the same name are numbered from 2. Nothing that exists is overwritten.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Serialize;

use crate::control::events;
use crate::engine::Media;
use crate::engine::report::StreamIdentity;
use crate::engine::time::Timestamp;

/// Files held open at a time; more streams than this take turns.
const OPEN_FILES: usize = 64;
/// Streams written at most: a capture of forged senders must not fill the folder with files.
const MAX_FILES: usize = 4096;
/// How long an event waits for earlier ones, in the capture's time: what is judged in the order of sequence numbers is told
/// when the reorder window is over, and a rule may make that 30 s.
const SETTLING: Duration = Duration::from_secs(32);
/// Events that wait at a time; of more the earliest does not wait any longer.
const WAITING_EVENTS: usize = 65_536;

/// The folder that evidence goes to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The names that inputs were given.
    taken: HashSet<OsString>,
}

impl Folder {
    /// Makes the folder if it is not there.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Folder {
            path: path.to_owned(),
            taken: HashSet::new(),
        })
    }

    /// Begins the evidence of one input.
    pub(super) fn input(&mut self, input: &Path) -> anyhow::Result<Evidence> {
        let name = self.name(input.file_name().unwrap_or(input.as_os_str()));
        let stem = self.path.join(name);
        let events = create(&suffixed(&stem, "-events.jsonl"))?;
        Ok(Evidence {
            stem,
            events: BufWriter::new(events),
            paths: HashMap::new(),
            open: VecDeque::new(),
            left_out: 0,
            waiting: BTreeMap::new(),
            told: 0,
            newest: Timestamp::default(),
        })
    }

    /// A name that no other input of this run has.
    fn name(&mut self, plain: &OsStr) -> OsString {
        let mut name = plain.to_owned();
        let mut number = 1_u32;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = plain.to_owned();
            name.push(format!("-{number}"));
        }
        name
    }
}

/// What is written of one input.
pub(super) struct Evidence {
    stem: PathBuf,
    events: BufWriter<File>,
    paths: HashMap<u64, PathBuf>,
    /// The streams written lately, the latest last.
    open: VecDeque<(u64, BufWriter<File>)>,
    left_out: u64,
    /// Lines that wait for earlier ones, by their time and then as they were told.
    waiting: BTreeMap<(Timestamp, u64), String>,
    told: u64,
    /// The newest time of an event.
    newest: Timestamp,
}

impl Evidence {
    /// Takes an event, to be written as a line in the order of time.
    pub(super) fn event(&mut self, at: Timestamp, event: &impl Serialize) -> anyhow::Result<()> {
        let time = UNIX_EPOCH + Duration::from_nanos(at.nanos());
        self.waiting.insert((at, self.told), events::line(time, event)?);
        self.told += 1;
        self.newest = self.newest.max(at);
        let mut excess = self.waiting.len().saturating_sub(WAITING_EVENTS);
        while let Some(first) = self.waiting.first_entry() {
            let (at, _) = *first.key();
            if self.newest.since(at) < SETTLING && excess == 0 {
                break;
            }
            excess = excess.saturating_sub(1);
            self.events.write_all(first.remove().as_bytes())?;
        }
        Ok(())
    }

    /// Appends TS packets to their stream's file.
    pub(super) fn media(&mut self, media: &Media) -> anyhow::Result<()> {
        let Some(file) = self.file(media)? else { return Ok(()) };
        file.write_all(media.packets.as_flattened())?;
        Ok(())
    }

    /// Ends the files.
    ///
    /// # Errors
    /// Also where streams were left out because there were too many.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        for (_, file) in &mut self.open {
            file.flush()?;
        }
        for line in self.waiting.values() {
            self.events.write_all(line.as_bytes())?;
        }
        self.events.flush()?;
        if self.left_out > 0 {
            anyhow::bail!(
                "more than {MAX_FILES} streams: {} datagrams of others were not extracted",
                self.left_out
            );
        }
        Ok(())
    }

    fn file(&mut self, media: &Media) -> anyhow::Result<Option<&mut BufWriter<File>>> {
        let place = self.open.iter().position(|(stream, _)| *stream == media.stream);
        let entry = match place.and_then(|place| self.open.remove(place)) {
            Some(entry) => entry,
            None => {
                let Some(file) = self.reopen(media)? else {
                    return Ok(None);
                };
                (media.stream, BufWriter::new(file))
            }
        };
        if self.open.len() >= OPEN_FILES
            && let Some((_, mut oldest)) = self.open.pop_front()
        {
            oldest.flush()?;
        }
        self.open.push_back(entry);
        Ok(self.open.back_mut().map(|(_, file)| file))
    }

    fn reopen(&mut self, media: &Media) -> anyhow::Result<Option<File>> {
        if let Some(path) = self.paths.get(&media.stream) {
            let file = OpenOptions::new().append(true).open(path);
            return Ok(Some(
                file.with_context(|| format!("cannot append to {}", path.display()))?,
            ));
        }
        if self.paths.len() >= MAX_FILES {
            self.left_out += 1;
            return Ok(None);
        }
        let path = suffixed(&self.stem, &suffix(self.paths.len() + 1, &media.identity));
        let file = create(&path)?;
        self.paths.insert(media.stream, path);
        Ok(Some(file))
    }
}

fn suffix(number: usize, identity: &StreamIdentity) -> String {
    let protocol = identity.protocol.name();
    match identity.source {
        Some(source) => format!("-{number}-{protocol}-{}.ts", source.port()),
        None => format!("-{number}-{protocol}.ts"),
    }
}

fn suffixed(stem: &Path, suffix: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create_new(path).with_context(|| {
        let path = path.display();
        format!("cannot make {path}; evidence is never overwritten, so give --extract another folder if it exists")
    })
}
