//! The stage: a load balancer's and an appliance's namespace with one veth pair between them, made anew for every
//! measurement.
//!
//! ```text
//! lb: generator, collector  lbN ------- eth0  appliance: what is measured
//!       core 0              10.254.0.1  10.254.0.2        core 1
//! ```
//! veth hands a frame to the other end's NAPI on the core that sends it, unless told otherwise, and the lab leaves that as it
//! is: the generator's core pays for the way in (XDP program, copy into the receive ring), the appliance's core for its own
//! work, its transmit kick and the way back through the collector. A real network card would take the way back off the
//! appliance's core and put the way in onto it. With [`CollectorNapi::Thread`] the collector moves to the generator's core:
//! what it costs then no longer dilutes a ratio of two appliances, but every packet waits for a thread to wake, and the
//! generator for its core, so the plain placement is the default, the same for all scenarios.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Pid;
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
/// The appliance's interface.
pub const APPLIANCE_INTERFACE: &str = "eth0";
/// Bytes: GENEVE around a full RTP packet needs 1,424; jumbo frames would need several buffers each.
const MTU: u32 = 1600;

/// The load balancer's interface: named after this process, so that the kernel's threads for it can be told from those of
/// another lab on the same machine.
pub fn lb_interface() -> String {
    format!("lb{}", std::process::id())
}

/// Where the load balancer's end of the link does its receiving, the collector included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CollectorNapi {
    /// On the core that sends: the appliance's, within its transmit kick
    #[default]
    Sender,
    /// In a kernel thread of its own on the generator's core, ahead of the generator
    Thread,
}

impl CollectorNapi {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            CollectorNapi::Sender => "sender",
            CollectorNapi::Thread => "thread",
        }
    }
}

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
            name: &lb_interface(),
            mac: LB_MAC,
        };
        let appliance_end = VethEnd {
            namespace: &stage.appliance,
            name: APPLIANCE_INTERFACE,
            mac: APPLIANCE_MAC,
        };
        veth(lb_end, appliance_end, 1, MTU).context("cannot make the link")?;
        stage.lb.add_address(&lb_interface(), &format!("{LB_IP}/24"))?;
        stage
            .appliance
            .add_address(APPLIANCE_INTERFACE, &format!("{APPLIANCE_IP}/24"))?;
        stage
            .lb
            .add_neighbour(&lb_interface(), &APPLIANCE_IP.to_string(), APPLIANCE_MAC)?;
        stage
            .appliance
            .add_neighbour(APPLIANCE_INTERFACE, &LB_IP.to_string(), LB_MAC)?;
        Ok(stage)
    }

    /// Moves the load balancer's receiving into a kernel thread on the generator's core, under real-time priority. To be called
    /// when the collector is attached, for veth makes its receive contexts anew with a program.
    ///
    /// # Errors
    /// A kernel without threaded NAPI (before 5.12), or none of its threads within a second.
    pub fn collect_in_thread(&self) -> Result<()> {
        let interface = lb_interface();
        // A network namespace's interfaces show in the sysfs that was mounted inside.
        let switch = format!("echo 1 > /sys/class/net/{interface}/threaded");
        tidegate_lab::run(Command::new("ip").args(["netns", "exec", self.lb.name(), "sh", "-c", &switch]))?;
        let prefix = format!("napi/{interface}-");
        let mut moved = 0;
        tidegate_lab::wait_until("the receiving thread", Duration::from_secs(1), || {
            moved = kernel_threads(&prefix)
                .into_iter()
                .filter(|thread| move_ahead(*thread).is_ok())
                .count();
            moved > 0
        })?;
        Ok(())
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

/// The kernel's threads whose name begins like this.
fn kernel_threads(prefix: &str) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| {
            std::fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.starts_with(prefix))
        })
        .filter_map(|process| process.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .collect()
}

/// Puts a thread on the generator's core, ahead of everything ordinary there.
fn move_ahead(thread: Pid) -> Result<()> {
    const PRIORITY: &str = "50";
    rustix::thread::sched_setaffinity(Some(thread), &set_of(&[GENERATOR_CORE]))?;
    let number = thread.as_raw_nonzero().to_string();
    tidegate_lab::run(Command::new("chrt").args(["--fifo", "--pid", PRIORITY, &number]))?;
    Ok(())
}

fn set_of(cores: &[usize]) -> rustix::thread::CpuSet {
    let mut set = rustix::thread::CpuSet::new();
    for core in cores.iter().filter(|core| **core < rustix::thread::CpuSet::MAX_CPU) {
        set.set(*core);
    }
    set
}

/// Lets the calling thread, and what it starts from now on, run on these cores only.
///
/// # Errors
/// When a core is not there or not ours.
pub fn run_on(cores: &[usize]) -> Result<()> {
    rustix::thread::sched_setaffinity(None, &set_of(cores))
        .with_context(|| format!("cannot run on the cores {cores:?}"))
}
