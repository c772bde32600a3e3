//! Load for Tidegate: streams of well-formed RTP/TS or SRT/TS in GENEVE, as a Gateway Load Balancer sends them, made at a set
//! rate or flat out, and a check of every packet that comes back.
//!
//! A [`Collector`] sits on the load balancer's end of the link, a [`Generator`] sends from there; what an appliance on the other
//! end returns is compared byte for byte with what it must be, each stream's running numbers are followed, and the time away is
//! measured. Both are XDP programs, so that they cost little beside what is measured. [`Peer`] puts a stand-in for an appliance
//! on the other end.
//!
//! ```no_run
//! # fn main() -> tidegate_load::Result<()> {
//! # let lane = tidegate_load::Lane {
//! #     interface: "gwlb0".into(), local_mac: [2, 0, 0, 0, 0, 1], peer_mac: [2, 0, 0, 0, 0, 2],
//! #     local_ip: [10, 254, 0, 1].into(), peer_ip: [10, 254, 0, 2].into(), core: 0,
//! # };
//! use tidegate_load::{Collector, Generator, Load, Rate};
//! let load = Load { streams: 50, rate: Rate::PacketsPerSecond(100_000.0), ..Load::default() };
//! let mut collector = Collector::attach(&lane, &load)?;
//! let running = Generator::start(&lane, &load)?;
//! std::thread::sleep(std::time::Duration::from_secs(1)); // warm-up
//! collector.reset()?;
//! let before = running.sent()?;
//! std::thread::sleep(std::time::Duration::from_secs(10));
//! let (after, received) = (running.sent()?, collector.read()?);
//! println!("{} sent, {} lost", after.packets - before.packets, received.lost);
//! running.stop()?;
//! # Ok(()) }
//! ```

mod af_xdp;
mod collector;
mod error;
mod frames;
mod generator;
mod interface;
mod kernel;
mod latency;
mod load;
mod multiplex;
mod object;
mod peer;
mod planned;
mod policy;
mod sys;

pub use collector::{Collector, Received};
pub use error::{Error, Result};
pub use frames::Frames;
pub use generator::{Generator, Running};
pub use latency::Latency;
pub use load::{GeneratorKind, Lane, Load, MAX_SECONDS, Position, Protocol, Rate, Sent, Unlisted};
pub use peer::{Peer, PeerProgram};
pub use policy::policy_toml;
/// What of a frame came back wrong, see [`Received::parts`].
pub use tidegate_frames::check::Part;
