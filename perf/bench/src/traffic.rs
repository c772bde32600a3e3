//! placeholder
use crate::scenario::Scenario;
use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use tidegate_lab::Namespace;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Rtp,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GeneratorKind {
    Kernel,
    AfXdp,
}
impl GeneratorKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::AfXdp => "af-xdp",
        }
    }
}
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    FlatOut,
    PacketsPerSecond(f64),
}
#[derive(Clone, Debug)]
pub struct Wish {
    pub streams: u32,
    pub listed: bool,
    pub unlisted_each: u32,
    pub rate: Rate,
}
impl Default for Wish {
    fn default() -> Self {
        Wish {
            streams: 50,
            listed: true,
            unlisted_each: 0,
            rate: Rate::FlatOut,
        }
    }
}
impl Wish {
    pub fn of(s: &Scenario, rate: Rate) -> Wish {
        Wish {
            streams: s.streams,
            rate,
            ..Wish::default()
        }
    }
    pub fn sources(&self) -> Vec<String> {
        vec![]
    }
    pub fn floods(&self) -> bool {
        self.unlisted_each > 0 || !self.listed
    }
    pub fn frame_bytes(&self) -> u32 {
        1438
    }
    pub fn start(&self, _: &Namespace, _: GeneratorKind) -> Result<Running> {
        bail!("x")
    }
}
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub listed: u64,
    pub unlisted: u64,
}
impl Sent {
    pub fn since(&self, e: &Sent) -> Sent {
        Sent {
            listed: self.listed - e.listed,
            unlisted: self.unlisted - e.unlisted,
        }
    }
}
pub struct Running;
impl Running {
    pub fn sent(&self) -> Result<Sent> {
        bail!("x")
    }
    pub fn stop(&mut self) -> Result<Sent> {
        bail!("x")
    }
    pub fn faults(&self) -> Vec<String> {
        vec![]
    }
}
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub packets: u64,
    pub listed: u64,
    pub unlisted: u64,
    pub altered: u64,
    pub duplicated: u64,
    pub reordered: u64,
}
impl Tally {
    pub fn since(&self, _: &Tally) -> Tally {
        self.clone()
    }
    pub fn round_trips(&self) -> Result<Histogram<u64>> {
        bail!("x")
    }
    pub fn alterations(&self) -> String {
        String::new()
    }
}
pub struct Collector;
impl Collector {
    pub fn attach(_: &Namespace, _: &Wish) -> Result<Collector> {
        bail!("x")
    }
    pub fn read(&mut self) -> Result<Tally> {
        bail!("x")
    }
}
pub struct Program;
impl Program {
    pub fn drop_all(_: &Namespace, _: &str) -> Result<Program> {
        bail!("x")
    }
    pub fn reflect(_: &Namespace, _: &str) -> Result<Program> {
        bail!("x")
    }
}
