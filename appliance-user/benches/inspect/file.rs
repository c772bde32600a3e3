//! `tidegate inspect` over a `.ts` file: the real reader and the real inspection, beside a plain read of the same bytes.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tidegate::engine::file::Inspection;
use tidegate::engine::report::{StreamReport, StreamState};
use tidegate::io::ts_file::TsReader;

use crate::measure::{Cost, Spread, cost};
use tidegate_fixtures::multiplex::{self, Multiplex, PACKET};

/// Decimal gigabytes per second of processor time below which the benchmark fails, where it is asked to.
const FLOORS: [f64; 3] = [0.0, 4.0, 1.0];
const NAMES: [&str; 3] = ["plain read", "continuity alone", "everything"];
/// As `tidegate inspect` hands packets to the inspection.
const PACKETS_AT_A_TIME: usize = 512;
/// Grows with every change of the multiplex, so that no old file is taken for a new one.
const VERSION: u32 = 1;

/// Runs all, or one kind of inspection, several times in turn; whether every floor was kept.
pub(crate) fn run(directory: &Path, packets: u64, repeats: usize, analyse: Option<bool>) -> anyhow::Result<bool> {
    let path = made(directory, packets)?;
    let bytes = packets * PACKET as u64;
    println!(
        "file: {} packets, {:.3} GB, {repeats} repeats",
        packets,
        bytes as f64 / 1e9
    );
    let mut costs: [Vec<Cost>; 3] = Default::default();
    // The first round brings the file into the page cache.
    for round in 0..=repeats {
        let mut round_costs = vec![(0, cost(|| read(&path)).1)];
        for (place, kind) in [(1, false), (2, true)] {
            if analyse.is_none_or(|only| only == kind) {
                round_costs.push((place, inspect(&path, packets, kind)?));
            }
        }
        if round > 0 {
            round_costs
                .into_iter()
                .for_each(|(place, cost)| costs[place].push(cost));
        }
    }
    println!(
        "{:<18} {:>26} {:>12} {:>14} {:>8}",
        "", "GB/s, processor", "GB/s, wall", "ns per packet", "x read"
    );
    let rate = |time: core::time::Duration| bytes as f64 / 1e9 / time.as_secs_f64();
    let mut kept = true;
    let mut plain = f64::NAN;
    for ((name, floor), costs) in NAMES.into_iter().zip(FLOORS).zip(&costs) {
        if costs.is_empty() {
            continue;
        }
        let processor = Spread::of(costs.iter().map(|cost| rate(cost.processor)));
        let wall = Spread::of(costs.iter().map(|cost| rate(cost.wall)));
        plain = if plain.is_nan() { processor.median } else { plain };
        let figures = format!(
            "{:.2} ({:.2} to {:.2})",
            processor.median, processor.least, processor.most
        );
        let of_packet = PACKET as f64 / processor.median;
        println!(
            "{name:<18} {figures:>26} {:>12.2} {of_packet:>14.1} {:>8.2}",
            wall.median,
            plain / processor.median
        );
        if processor.median < floor {
            println!("{name}: below {floor} GB/s");
            kept = false;
        }
    }
    Ok(kept)
}

/// The file, made where it is not there yet.
fn made(directory: &Path, packets: u64) -> anyhow::Result<PathBuf> {
    let path = directory.join(format!("inspect-{VERSION}-{packets}.ts"));
    let whole = packets * PACKET as u64;
    if path.metadata().is_ok_and(|found| found.len() == whole) {
        return Ok(path);
    }
    std::fs::create_dir_all(directory)?;
    let mut multiplex = Multiplex::new(&multiplex::noise(), 0);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).context("cannot make the file")?);
    let mut packet = [0; PACKET];
    for _ in 0..packets {
        multiplex.next(&mut packet);
        file.write_all(&packet)?;
    }
    file.flush()?;
    Ok(path)
}

fn read(path: &Path) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(bytes),
            count => bytes += count as u64,
        }
    }
}

/// As `tidegate inspect` does it.
fn inspect(path: &Path, packets: u64, analyse: bool) -> anyhow::Result<Cost> {
    let (report, cost) = cost(|| -> anyhow::Result<StreamReport> {
        let mut reader = TsReader::new(File::open(path)?)?;
        let mut inspection = Inspection::new(false, analyse);
        while let Some(batch) = reader.next_batch() {
            let batch = batch?;
            let mut packets = batch.packets().map(|(_, packet)| packet).peekable();
            while packets.peek().is_some() {
                inspection.packets(packets.by_ref().take(PACKETS_AT_A_TIME));
                while inspection.next_event().is_some() {}
            }
        }
        inspection.finish();
        Ok(inspection.report())
    });
    is_sound(&report?, packets, analyse)?;
    Ok(cost)
}

/// The multiplex is sound, and it was looked at.
pub(crate) fn is_sound(report: &StreamReport, packets: u64, analyse: bool) -> anyhow::Result<()> {
    let ts = report.ts.as_ref().context("no transport stream was seen")?;
    ensure!(ts.packets == packets, "{} of {packets} packets were judged", ts.packets);
    ensure!(
        report.worst_state == StreamState::Healthy,
        "the stream was {}",
        report.worst_state.name()
    );
    ensure!(
        ts.pids.iter().all(|pid| pid.continuity_errors == 0),
        "continuity errors"
    );
    ensure!(
        report.tr101290.values().all(|count| *count == 0),
        "TR 101 290: {:?}",
        report.tr101290
    );
    ensure!(ts.analysed == analyse, "analysed: {}", ts.analysed);
    ensure!(
        !analyse
            || ts
                .analysis
                .as_ref()
                .is_some_and(|said| said.tables.programmes.len() == 1),
        "no programme"
    );
    Ok(())
}
