//! `tidegate-forward`: the bare AF_XDP forward, the yardstick of Tidegate's speed.
//!
//! It sends every GENEVE packet back to where it came from and does nothing else: one receive queue, one thread, one
//! socket with the options that Tidegate sets, the smallest XDP program that steers UDP port 6081 into it. What it
//! reaches is what AF_XDP allows on a machine; what Tidegate reaches less is what looking into the packets costs.
//!
//! It does: swap the MAC and the outer IPv4 addresses, forward jumbos of several buffers, kick until the kernel has taken
//! a burst, drop and count what the transmit ring has no room for.
//!
//! It does not: parse GENEVE, admit sources, set the outer TTL, look into a payload, keep any state of a flow, beat for
//! a watchdog, measure time, keep books of its frames, survive an interface that goes away. VLAN tags, IP options and
//! IP fragments are left to the kernel.

mod forward;
mod program;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use crate::forward::{Forwarder, Settings, Totals};
use crate::program::Steering;

/// Sends GENEVE packets back to where they came from: AF_XDP and nothing else
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The interface that the packets arrive on
    #[arg(long, value_name = "IF")]
    interface: String,
    /// Its receive queue
    #[arg(long, default_value_t = 0)]
    queue: u32,
    /// Core to run on; left to the scheduler if absent
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// What to do when there is nothing to do: burn the core or sleep
    #[arg(long, value_enum, default_value_t = Wait::Spin)]
    wait: Wait,
    /// Entries of each ring; a power of two
    #[arg(long, value_name = "N", default_value_t = 32_768)]
    ring_size: u32,
    /// Packet buffers of 4096 bytes; twice the ring if absent
    #[arg(long, value_name = "N")]
    frames: Option<u32>,
    /// Packets taken from the ring at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Put the packet buffers on huge pages
    #[arg(long)]
    huge_pages: bool,
    /// Stop after so many seconds; else at SIGINT or SIGTERM
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Write the final counts to this file as well
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
}

/// What to do when the receive ring is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Look again at once.
    Spin,
    /// Sleep until a packet comes.
    Sleep,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot catch signals")?;
    }
    if let Some(core) = args.core {
        pin_to(core)?;
    }
    let settings = Settings {
        interface: args.interface.clone(),
        queue: args.queue,
        ring_size: args.ring_size,
        frames: args.frames.unwrap_or(args.ring_size.saturating_mul(2)),
        batch: args.batch as usize,
        huge_pages: args.huge_pages,
        sleep: args.wait == Wait::Sleep,
    };
    let (mut forwarder, opened) = Forwarder::open(&settings)?;
    let steering = Steering::attach(&args.interface, args.queue, forwarder.fd())
        .with_context(|| format!("cannot attach the XDP program to {}", args.interface))?;
    say(&format!(
        "ready interface={} queue={} {opened}",
        args.interface, args.queue
    ))?;
    let limit = args.seconds.map(Duration::from_secs);
    let result = forwarder.run(&stop, limit);
    drop(steering);
    forwarder.drain();
    let totals = forwarder.totals();
    say(&counts(&totals))?;
    if let Some(file) = args.counts {
        std::fs::write(&file, counts(&totals) + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    result
}

/// The final counts, as `name=number` pairs.
fn counts(totals: &Totals) -> String {
    let Totals {
        received,
        sent,
        full,
        kicks,
        refused,
    } = totals;
    format!("received={received} sent={sent} transmit_full={full} kicks={kicks} refused={refused}")
}

/// One line on standard output, at once: a bench waits for it.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn pin_to(core: usize) -> anyhow::Result<()> {
    anyhow::ensure!(core < rustix::thread::CpuSet::MAX_CPU, "there is no core {core}");
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).with_context(|| format!("cannot run on core {core}"))
}
