//! `tidegate-load`: sends a load and checks what comes back, from a second machine or namespace. The arguments and the table
//! are here; all work is the library's.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_load::{
    Collector, Generator, GeneratorKind, Lane, Load, Part, Protocol, Rate, Received, Sent, Unlisted, policy_toml,
};

/// How often a run looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);
/// After the last frame, what is on its way is waited for so long.
const SETTLE: Duration = Duration::from_millis(200);

/// Makes streams of RTP/TS or SRT/TS in GENEVE for an inline appliance and checks every packet that comes back.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send a load and check what comes back.
    Send(Options),
    /// Only check what comes back of a load that another process sends with the same options, until the time is over or Ctrl-C.
    Collect(Options),
    /// Print the policy that lists exactly the load's streams.
    Policy(Options),
}

#[derive(Args)]
struct Options {
    /// The load balancer's interface: frames leave and come back here.
    #[arg(long, value_name = "IF")]
    interface: String,
    /// The appliance.
    #[arg(long, value_name = "MAC/IP", value_parser = mac_and_ip)]
    to: ([u8; 6], Ipv4Addr),
    /// The load balancer; frames come back to this address.
    #[arg(long, value_name = "MAC/IP", value_parser = mac_and_ip)]
    from: ([u8; 6], Ipv4Addr),
    /// Streams, 1 to 65,536.
    #[arg(long, default_value_t = 1)]
    streams: u32,
    /// What carries the transport stream.
    #[arg(long, value_enum, default_value_t = Carrier::Rtp)]
    protocol: Carrier,
    /// Packets a second in all, as 250000, 250kpps or 1.5Mpps; or flat-out.
    #[arg(long, default_value = "flat-out", value_parser = rate)]
    rate: Rate,
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Stop after so many packets.
    #[arg(long)]
    packets: Option<u64>,
    /// TS packets in a datagram, 1 to 7.
    #[arg(long, default_value_t = 7)]
    ts_packets: u32,
    /// Datagrams in a second of a stream's own time, if not those that it gets.
    #[arg(long)]
    stream_rate: Option<f64>,
    /// A flood of sources that no rule lists: `alone`, or how many packets of it after each listed one.
    #[arg(long, default_value = "none", value_parser = unlisted)]
    unlisted: Unlisted,
    /// Who makes frames.
    #[arg(long, value_enum, default_value_t = Maker::Kernel)]
    generator: Maker,
    /// Check every byte of the media too.
    #[arg(long)]
    whole: bool,
    /// The core on which frames are made.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// First inner source address.
    #[arg(long, default_value_t = Load::default().source)]
    source: Ipv4Addr,
    /// Inner destination address.
    #[arg(long, default_value_t = Load::default().destination)]
    destination: Ipv4Addr,
    /// Inner ports.
    #[arg(long, default_value_t = Load::default().port)]
    port: u16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Carrier {
    Rtp,
    Srt,
}

#[derive(Clone, Copy, ValueEnum)]
enum Maker {
    Kernel,
    AfXdp,
}

impl Options {
    fn load(&self) -> Load {
        Load {
            protocol: match self.protocol {
                Carrier::Rtp => Protocol::RtpTs,
                Carrier::Srt => Protocol::SrtTs,
            },
            streams: self.streams,
            unlisted: self.unlisted,
            rate: self.rate,
            generator: match self.generator {
                Maker::Kernel => GeneratorKind::Kernel,
                Maker::AfXdp => GeneratorKind::AfXdp,
            },
            ts_packets: self.ts_packets,
            stream_rate: self.stream_rate,
            packets: self.packets,
            seconds: Some(self.seconds),
            whole: self.whole,
            source: self.source,
            destination: self.destination,
            port: self.port,
            ..Load::default()
        }
    }

    fn lane(&self) -> Lane {
        Lane {
            interface: self.interface.clone(),
            local_mac: self.from.0,
            peer_mac: self.to.0,
            local_ip: self.from.1,
            peer_ip: self.to.1,
            core: self.core,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Exit 0: everything that was delivered came back whole; 1: it did not.
fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Policy(options) => {
            print!("{}", policy_toml(&options.load(), false));
            Ok(ExitCode::SUCCESS)
        }
        Command::Send(options) => {
            let (load, lane, stop) = (options.load(), options.lane(), stopped()?);
            let collector = Collector::attach(&lane, &load)?;
            let start = Instant::now();
            let running = Generator::start(&lane, &load)?;
            while !running.is_finished() && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
            }
            let sent = running.stop()?;
            let took = start.elapsed();
            std::thread::sleep(SETTLE);
            let received = collector.read()?;
            print_sent(&sent, took);
            print_received(&received, took);
            let missing = (sent.listed + sent.unlisted)
                .saturating_sub(sent.not_delivered + sent.not_collected)
                .saturating_sub(received.packets);
            println!("not returned {missing:>14}");
            let sound = received.missing_of(sent.listed) <= sent.not_delivered + sent.not_collected;
            Ok(verdict(sound && received.altered == 0 && received.duplicated == 0))
        }
        Command::Collect(options) => {
            let stop = stopped()?;
            let collector = Collector::attach(&options.lane(), &options.load())?;
            let start = Instant::now();
            while start.elapsed().as_secs_f64() < options.seconds && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
            }
            let received = collector.read()?;
            print_received(&received, start.elapsed());
            Ok(verdict(
                received.packets > 0 && received.altered + received.lost + received.duplicated == 0,
            ))
        }
    }
}

fn verdict(sound: bool) -> ExitCode {
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Set by Ctrl-C and SIGTERM.
fn stopped() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("handling signals")?;
    }
    Ok(stop)
}

/// A direction's packets and bytes with what they are in a second, and what is told apart of them.
fn print_direction(name: &str, packets: u64, bytes: u64, took: Duration, counts: &[(&str, u64)]) {
    let seconds = took.as_secs_f64();
    println!(
        "{name:<13}{packets:>14}  {:.3} Mpps  {:.3} Gbit/s",
        packets as f64 / seconds / 1e6,
        bytes as f64 * 8.0 / seconds / 1e9
    );
    for (name, count) in counts {
        println!("{name:<13}{count:>14}");
    }
}

fn print_sent(sent: &Sent, took: Duration) {
    let counts = [
        ("of unlisted", sent.unlisted),
        ("not delivered", sent.not_delivered),
        ("not collected", sent.not_collected),
        ("left out", sent.left_out),
    ];
    print_direction("sent", sent.packets, sent.bytes, took, &counts);
}

fn print_received(received: &Received, took: Duration) {
    let counts = [
        ("of unlisted", received.unlisted),
        ("lost", received.lost),
        ("reordered", received.reordered),
        ("duplicated", received.duplicated),
        ("altered", received.altered),
    ];
    print_direction("received", received.packets, received.bytes, took, &counts);
    for part in Part::ALL {
        let count = received.altered_part(part);
        if count > 0 {
            println!("  {:<11}{count:>14}", part.name());
        }
    }
    let micros = |share: f64| received.latency.quantile(share) as f64 / 1e3;
    println!(
        "latency us   p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
        micros(0.5),
        micros(0.9),
        micros(0.99),
        micros(0.999),
        micros(1.0)
    );
}

fn mac_and_ip(text: &str) -> Result<([u8; 6], Ipv4Addr)> {
    let (mac, ip) = text.split_once('/').ok_or_else(|| anyhow!("MAC/IP is wanted"))?;
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<std::result::Result<_, _>>()
        .context("the Ethernet address")?;
    let mac = bytes
        .try_into()
        .map_err(|_| anyhow!("an Ethernet address has six bytes"))?;
    Ok((mac, ip.parse().context("the IPv4 address")?))
}

fn rate(text: &str) -> Result<Rate> {
    if text == "flat-out" {
        return Ok(Rate::FlatOut);
    }
    let lower = text.to_ascii_lowercase();
    let number = lower.strip_suffix("pps").unwrap_or(&lower);
    let (number, factor) = match (number.strip_suffix('k'), number.strip_suffix('m')) {
        (Some(number), _) => (number, 1e3),
        (_, Some(number)) => (number, 1e6),
        _ => (number, 1.0),
    };
    let rate: f64 = number.trim().parse().context("packets a second")?;
    Ok(Rate::PacketsPerSecond(rate * factor))
}

fn unlisted(text: &str) -> Result<Unlisted> {
    match text {
        "none" => Ok(Unlisted::None),
        "alone" => Ok(Unlisted::Alone),
        number => match number.parse().context("none, alone or a number")? {
            0 => bail!("at least 1 after each listed one"),
            per_listed => Ok(Unlisted::Beside { per_listed }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_are_written() {
        assert_eq!(rate("250kpps").unwrap(), Rate::PacketsPerSecond(250_000.0));
        assert_eq!(rate("1.5Mpps").unwrap(), Rate::PacketsPerSecond(1_500_000.0));
        assert_eq!(rate("70").unwrap(), Rate::PacketsPerSecond(70.0));
        assert_eq!(rate("flat-out").unwrap(), Rate::FlatOut);
        assert!(rate("fast").is_err());
        assert_eq!(unlisted("3").unwrap(), Unlisted::Beside { per_listed: 3 });
        assert!(unlisted("0").is_err());
        let (mac, ip) = mac_and_ip("02:00:00:00:00:0a/10.0.0.1").unwrap();
        assert_eq!((mac, ip), ([2, 0, 0, 0, 0, 10], Ipv4Addr::new(10, 0, 0, 1)));
        assert!(mac_and_ip("02:00/10.0.0.1").is_err());
    }
}
