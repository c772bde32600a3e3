//! How fast streams are inspected: `cargo bench -p tidegate --bench inspect`.
//!
//! A `.ts` file of a gigabyte is made under `target/tmp` once and inspected on one thread as `tidegate inspect` does it;
//! then live RTP goes through the engine. Figures are medians of repeats that take turns, in processor time of the thread.
//!
//! Flags after `--`: `--gate` fails below the floors that a release must keep; `--packets N` makes a smaller file and
//! `--repeats N` chooses how often; `--file` and `--live` choose one part; `--analysis on|off` one kind of
//! inspection; `--streams N` and `--datagrams N` one live measurement. A profiler that cannot follow system calls without libc
//! (valgrind) needs `RUSTFLAGS="--cfg rustix_use_libc"`.

mod file;
mod live;
mod measure;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

/// One gigabyte.
const PACKETS: u64 = 5_319_149;
const REPEATS: usize = 7;
const DATAGRAMS: usize = 400_000;

struct Flags {
    gate: bool,
    file: bool,
    live: bool,
    packets: u64,
    repeats: usize,
    streams: Vec<u16>,
    datagrams: usize,
    analysis: Option<bool>,
}

impl Flags {
    fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut flags = Flags {
            gate: false,
            file: true,
            live: true,
            packets: PACKETS,
            repeats: REPEATS,
            streams: vec![1, 50, 1000],
            datagrams: DATAGRAMS,
            analysis: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().context("a value is missing");
            match word.as_str() {
                // What cargo says to every benchmark.
                "--bench" => {}
                "--gate" => flags.gate = true,
                "--file" => flags.live = false,
                "--live" => flags.file = false,
                "--packets" => flags.packets = value()?.parse()?,
                "--repeats" => flags.repeats = value()?.parse()?,
                "--streams" => flags.streams = vec![value()?.parse()?],
                "--datagrams" => flags.datagrams = value()?.parse()?,
                "--analysis" => flags.analysis = Some(value()? == "on"),
                other => bail!("unknown flag {other}"),
            }
        }
        Ok(flags)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let flags = Flags::read(std::env::args().skip(1))?;
    let mut kept = true;
    if flags.file {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        kept = file::run(directory, flags.packets, flags.repeats, flags.analysis)?;
    }
    if flags.live {
        for streams in &flags.streams {
            live::run(*streams, flags.datagrams, flags.analysis)?;
        }
    }
    Ok(if flags.gate && !kept {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
