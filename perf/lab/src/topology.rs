//! The lab that the demo and the end-to-end tests use.
//!
//! ```text
//! source eth0 ---- source0 gwlb sink0 ---- eth0 sink
//!                          appN ---- eth0 appliance N
//! ```
//! In `gwlb` policy routing sends whatever arrives from the source's side into the TUN device `forward0`, from the sink's
//! side into `reverse0`; what the simulator writes into either is routed on to its destination. The two devices are made
//! here and outlive the simulator, so that it can be stopped and started: without it nothing gets through.

use std::net::Ipv4Addr;

use crate::error::Result;
use crate::namespace::Namespace;
use crate::veth::{MacAddr, VethEnd, veth};
use crate::xdp_pass::XdpPass;

/// The packets that a TUN device holds while the simulator is busy: some 50 ms stalls at tens of thousands a second.
const TUN_QUEUE: &str = "10000";
/// Routing tables of the two directions.
const TABLES: [(&str, &str, &str); 2] = [("source0", "forward0", "100"), ("sink0", "reverse0", "101")];

/// What the lab looks like.
#[derive(Clone, Debug)]
pub struct TopologyOptions {
    /// How many appliances, 1 to 100.
    pub appliances: u8,
    /// Receive and transmit queues of the appliance links.
    pub queues: u32,
    /// MTU of the inner network, bytes.
    pub inner_mtu: u32,
    /// MTU of the appliance links, bytes; at least 68 more than the inner one, 8568 and more for GWLB's largest.
    pub appliance_mtu: u32,
}

impl Default for TopologyOptions {
    fn default() -> Self {
        TopologyOptions {
            appliances: 1,
            queues: 1,
            inner_mtu: 1500,
            appliance_mtu: 1600,
        }
    }
}

/// One appliance's namespace and link; its interface is [`Topology::APPLIANCE_INTERFACE`].
#[derive(Debug)]
pub struct Appliance {
    /// Where `tidegate run` goes.
    pub namespace: Namespace,
    /// The appliance's address, the outer destination of what GWLB sends.
    pub ip: Ipv4Addr,
    /// The appliance's Ethernet address.
    pub mac: MacAddr,
    /// The interface of the link in the gwlb namespace.
    pub gwlb_interface: String,
    /// GWLB's address on the link.
    pub gwlb_ip: Ipv4Addr,
    /// GWLB's Ethernet address on the link.
    pub gwlb_mac: MacAddr,
    /// Without it the appliance's frames from XDP_TX and AF_XDP would not arrive.
    _pass: XdpPass,
}

/// Source, load balancer, appliances and sink, wired up; all of it goes when dropped.
#[derive(Debug)]
pub struct Topology {
    /// Where traffic is sent from.
    pub source: Namespace,
    /// Where traffic goes to.
    pub sink: Namespace,
    /// The appliances, in the order of their numbers.
    pub appliances: Vec<Appliance>,
    /// Where the simulator runs.
    pub gwlb: Namespace,
}

impl Topology {
    /// The source's IPv4 address.
    pub const SOURCE_V4: &str = "10.10.0.2";
    /// A second IPv4 address of the source, for what no rule lists.
    pub const SOURCE_V4_SECOND: &str = "10.10.0.3";
    /// The source's IPv6 address.
    pub const SOURCE_V6: &str = "fd00:10::2";
    /// The sink's IPv4 address.
    pub const SINK_V4: &str = "10.20.0.2";
    /// The sink's IPv6 address.
    pub const SINK_V6: &str = "fd00:20::2";
    /// The interface in each of source, sink and appliances.
    pub const APPLIANCE_INTERFACE: &str = "eth0";
    /// The TUN device that takes what comes from the source.
    pub const TUN_FORWARD: &str = "forward0";
    /// The TUN device that takes what comes from the sink.
    pub const TUN_REVERSE: &str = "reverse0";

    /// Builds the lab; takes well under a second.
    ///
    /// # Errors
    /// [`crate::Error::NotRoot`] or whatever step failed; what was made by then is removed.
    pub fn build(options: &TopologyOptions) -> Result<Topology> {
        let source = Namespace::new("source")?;
        let gwlb = Namespace::new("gwlb")?;
        let sink = Namespace::new("sink")?;
        for namespace in [&source, &gwlb, &sink] {
            namespace.set_sysctl("ipv6/conf/default/accept_dad", "0")?;
        }
        forwarding(&gwlb)?;
        edge(
            &source,
            &gwlb,
            "source0",
            "10.10.0",
            "fd00:10:",
            0x1000,
            options.inner_mtu,
        )?;
        edge(&sink, &gwlb, "sink0", "10.20.0", "fd00:20:", 0x2000, options.inner_mtu)?;
        source.add_address("eth0", &format!("{}/24", Self::SOURCE_V4_SECOND))?;
        gwlb.add_neighbour("source0", Self::SOURCE_V4_SECOND, MacAddr::local(0x1002))?;
        for (arrives_on, tun, table) in TABLES {
            into_tun(&gwlb, arrives_on, tun, table, options.inner_mtu)?;
        }
        let appliances = (0..options.appliances)
            .map(|number| appliance(&gwlb, number, options))
            .collect::<Result<Vec<_>>>()?;
        Ok(Topology {
            source,
            sink,
            appliances,
            gwlb,
        })
    }

    /// The arguments that tell the `gwlb` program about this lab: its TUN devices and one `--target` per appliance.
    pub fn gwlb_arguments(&self) -> Vec<String> {
        let mut arguments = ["--tun-forward", Self::TUN_FORWARD, "--tun-reverse", Self::TUN_REVERSE]
            .map(String::from)
            .to_vec();
        for Appliance {
            ip,
            mac,
            gwlb_interface,
            gwlb_ip,
            ..
        } in &self.appliances
        {
            arguments.push("--target".to_owned());
            arguments.push(format!("if={gwlb_interface},local={gwlb_ip},ip={ip},mac={mac}"));
        }
        arguments
    }
}

/// Makes the load balancer's namespace a router that neither filters by reverse path nor advises shortcuts.
fn forwarding(gwlb: &Namespace) -> Result<()> {
    for (key, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
    ] {
        gwlb.set_sysctl(key, value)?;
    }
    Ok(())
}

/// Links source or sink (`.2`, `::2`, interface `eth0`) to the load balancer (`.1`, `::1`), its default gateway.
fn edge(
    host: &Namespace,
    gwlb: &Namespace,
    gwlb_interface: &str,
    v4: &str,
    v6: &str,
    mac: u32,
    mtu: u32,
) -> Result<()> {
    let (gwlb_mac, host_mac) = (MacAddr::local(mac + 1), MacAddr::local(mac + 2));
    let host_end = VethEnd {
        namespace: host,
        name: "eth0",
        mac: host_mac,
    };
    let gwlb_end = VethEnd {
        namespace: gwlb,
        name: gwlb_interface,
        mac: gwlb_mac,
    };
    veth(host_end, gwlb_end, 1, mtu)?;
    for (gateway, address, length) in [
        (format!("{v4}.1"), format!("{v4}.2"), 24),
        (format!("{v6}:1"), format!("{v6}:2"), 64),
    ] {
        host.add_address("eth0", &format!("{address}/{length}"))?;
        gwlb.add_address(gwlb_interface, &format!("{gateway}/{length}"))?;
        host.add_route("default", &gateway, "eth0")?;
        host.add_neighbour("eth0", &gateway, gwlb_mac)?;
        gwlb.add_neighbour(gwlb_interface, &address, host_mac)?;
    }
    Ok(())
}

/// Routes whatever arrives on an interface and is not for the load balancer itself into a TUN device.
fn into_tun(gwlb: &Namespace, arrives_on: &str, tun: &str, table: &str, mtu: u32) -> Result<()> {
    gwlb.ip(&["tuntap", "add", "dev", tun, "mode", "tun"])?;
    // Else the kernel's own router solicitations would leave through the device and look like traffic.
    gwlb.ip(&["link", "set", tun, "addrgenmode", "none"])?;
    gwlb.ip(&[
        "link",
        "set",
        tun,
        "mtu",
        &mtu.to_string(),
        "txqueuelen",
        TUN_QUEUE,
        "up",
    ])?;
    for family in ["-4", "-6"] {
        gwlb.ip(&[family, "route", "add", "default", "dev", tun, "table", table])?;
        gwlb.ip(&[family, "rule", "add", "iif", arrives_on, "lookup", table])?;
    }
    Ok(())
}

/// Makes appliance `number` with its link 10.254.`number`.0/24.
fn appliance(gwlb: &Namespace, number: u8, options: &TopologyOptions) -> Result<Appliance> {
    let namespace = Namespace::new(&format!("appliance{number}"))?;
    let gwlb_interface = format!("app{number}");
    let base = 0x3000 + 0x10 * u32::from(number);
    let (gwlb_mac, mac) = (MacAddr::local(base + 1), MacAddr::local(base + 2));
    let (gwlb_ip, ip) = (Ipv4Addr::new(10, 254, number, 1), Ipv4Addr::new(10, 254, number, 2));
    // GWLB speaks IPv4 on this side; router solicitations and the like would only blur the appliance's counters.
    namespace.set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    let gwlb_end = VethEnd {
        namespace: gwlb,
        name: &gwlb_interface,
        mac: gwlb_mac,
    };
    let end = VethEnd {
        namespace: &namespace,
        name: Topology::APPLIANCE_INTERFACE,
        mac,
    };
    veth(gwlb_end, end, options.queues, options.appliance_mtu)?;
    gwlb.set_sysctl(&format!("ipv6/conf/{gwlb_interface}/disable_ipv6"), "1")?;
    gwlb.add_address(&gwlb_interface, &format!("{gwlb_ip}/24"))?;
    gwlb.add_neighbour(&gwlb_interface, &ip.to_string(), mac)?;
    namespace.add_address("eth0", &format!("{ip}/24"))?;
    namespace.add_neighbour("eth0", &gwlb_ip.to_string(), gwlb_mac)?;
    let pass = XdpPass::attach(gwlb, &gwlb_interface)?;
    Ok(Appliance {
        namespace,
        ip,
        mac,
        gwlb_interface,
        gwlb_ip,
        gwlb_mac,
        _pass: pass,
    })
}
