//! The stage: a load balancer's and an appliance's namespace with one veth pair between them, made anew for every
//! measurement.
//!
//! ```text
//! lb: generator, collector  lbN ------- eth0  appliance: what is measured
//!       core 0              10.254.0.1  10.254.0.2        core 1
//! ```
//! veth hands a frame to the other end's NAPI on the core that sends it, unless told otherwise, and the lab leaves that as it
//! is: the generator's core pays for the way in (XDP program, copy into the receive ring), the appliance's core for its own
//! work, its transmit kick and the way back to the collector. A real network card would take the copy out of the transmit
//! kick off the appliance's core and put the way in onto it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use tidegate_lab::{MacAddr, Namespace, VethEnd, veth};

/// The core of generator, collector and conductor.
pub const GENERATOR_CORE: usize = 0;
/// The core of what is measured.
pub const APPLIANCE_CORE: usize = 1;
/// Both.
pub const CORES: [usize; 2] = [GENERATOR_CORE, APPLIANCE_CORE];
/// The load balancer's address.
pub const LB_IP: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 1);
/// The appliance's address.
pub const APPLIANCE_IP: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 2);
/// The load balancer's Ethernet address.
pub const LB_MAC: MacAddr = MacAddr::local(0x4001);
/// The appliance's Ethernet address.
pub const APPLIANCE_MAC: MacAddr = MacAddr::local(0x4002);
/// The load balancer's interface.
pub const LB_INTERFACE: &str = "lb0";
/// The appliance's interface.
pub const APPLIANCE_INTERFACE: &str = "eth0";
/// Bytes: GENEVE around a full RTP packet needs 1,424; jumbo frames would need several buffers each.
const MTU: u32 = 1600;

/// Both namespaces and the link; gone when dropped.
#[derive(Debug)]
pub struct Stage {
    /// Where generator and collector are.
    pub lb: Namespace,
    /// Where the measured thing is.
    pub appliance: Namespace,
}

impl Stage {
    /// Builds a stage.
    ///
    /// # Errors
    /// Whatever step failed; what was made by then is removed.
    pub fn build() -> Result<Stage> {
        let stage = Stage {
            lb: Namespace::new("lb")?,
            appliance: Namespace::new("bench")?,
        };
        for namespace in [&stage.lb, &stage.appliance] {
            // Router solicitations and the like would blur the counters.
            namespace.set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        }
        let lb_end = VethEnd {
            namespace: &stage.lb,
            name: LB_INTERFACE,
            mac: LB_MAC,
        };
        let appliance_end = VethEnd {
            namespace: &stage.appliance,
            name: APPLIANCE_INTERFACE,
            mac: APPLIANCE_MAC,
        };
        veth(lb_end, appliance_end, 1, MTU).context("cannot make the link")?;
        stage.lb.add_address(LB_INTERFACE, &format!("{LB_IP}/24"))?;
        stage
            .appliance
            .add_address(APPLIANCE_INTERFACE, &format!("{APPLIANCE_IP}/24"))?;
        stage
            .lb
            .add_neighbour(LB_INTERFACE, &APPLIANCE_IP.to_string(), APPLIANCE_MAC)?;
        stage
            .appliance
            .add_neighbour(APPLIANCE_INTERFACE, &LB_IP.to_string(), LB_MAC)?;
        Ok(stage)
    }

    /// Packets that the appliance's interface has received so far, whatever became of them: veth counts them as it takes
    /// them from the other end, before its XDP program.
    ///
    /// # Errors
    /// A failing `ethtool`, or a driver without the counter.
    pub fn arrived(&self) -> Result<u64> {
        let text = tidegate_lab::run(self.appliance.command("ethtool").args(["-S", APPLIANCE_INTERFACE]))?;
        let count = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("rx_queue_0_xdp_packets:"));
        count
            .and_then(|count| count.trim().parse().ok())
            .context("veth does not count received packets")
    }
}

/// Lets the calling thread, and what it starts from now on, run on these cores only.
///
/// # Errors
/// When a core is not there or not ours.
pub fn run_on(cores: &[usize]) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for core in cores.iter().filter(|core| **core < rustix::thread::CpuSet::MAX_CPU) {
        set.set(*core);
    }
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot run on the cores {cores:?}"))
}
