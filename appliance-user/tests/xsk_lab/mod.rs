//! Two network namespaces joined by a veth pair, a six-instruction XDP program that redirects everything into an XSKMAP, and
//! a raw packet socket as the independent peer.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use tidegate_lab::Namespace;
use tidegate_lab::xdp::{self, Link, Program, SocketMap};

/// EtherType for local experiments (IEEE 802): no stack answers it.
pub(crate) const ETHERTYPE: u16 = 0x88b5;

/// `near` (the appliance's end, where AF_XDP sockets are) and `far` (the peer's), both up, in namespaces of their own.
pub(crate) struct Lab {
    near: Namespace,
    far: Namespace,
}

impl Lab {
    pub(crate) const NEAR: &str = "near";
    pub(crate) const FAR: &str = "far";

    pub(crate) fn new(mtu: u32) -> Self {
        tidegate_lab::sweep().expect("the AF_XDP tests make namespaces and sockets: run them as root");
        let namespace = |role| Namespace::new(role).expect("a namespace");
        let lab = Lab {
            near: namespace(Self::NEAR),
            far: namespace(Self::FAR),
        };
        let queues = ["numrxqueues", "1", "numtxqueues", "1"];
        let mut add = vec!["link", "add", Self::NEAR];
        add.extend(queues);
        add.extend(["type", "veth", "peer", "name", Self::FAR]);
        add.extend(queues);
        add.extend(["netns", lab.far.name()]);
        ip(&lab.near, &add);
        let mtu = mtu.to_string();
        for (namespace, interface) in [(&lab.near, Self::NEAR), (&lab.far, Self::FAR)] {
            // No address, no neighbour discovery: only the test's own packets.
            ip(
                namespace,
                &["link", "set", interface, "addrgenmode", "none", "mtu", &mtu],
            );
            ip(namespace, &["link", "set", interface, "up"]);
        }
        lab
    }

    pub(crate) fn near<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.near.run_in(work).expect("the namespace can be entered")
    }

    pub(crate) fn far<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.far.run_in(work).expect("the namespace can be entered")
    }

    /// Sets the near interface down or up.
    pub(crate) fn set_near(&self, state: &str) {
        ip(&self.near, &["link", "set", Self::NEAR, state]);
    }

    /// Removes the veth pair.
    pub(crate) fn remove(&self) {
        ip(&self.near, &["link", "del", Self::NEAR]);
    }

    /// Steers everything that arrives at `near` into this socket, for as long as the result lives.
    pub(crate) fn steer_near(&self, socket: BorrowedFd<'_>) -> Steering {
        self.near(|| Steering::new(Self::NEAR, socket))
    }

    /// The same at the far end.
    pub(crate) fn steer_far(&self, socket: BorrowedFd<'_>) -> Steering {
        self.far(|| Steering::new(Self::FAR, socket))
    }

    /// A raw packet socket on the far end.
    pub(crate) fn wire(&self) -> Wire {
        self.far(|| Wire::new(Self::FAR))
    }
}

fn ip(namespace: &Namespace, arguments: &[&str]) {
    namespace.ip(arguments).expect("ip does it");
}

/// An attached XDP program with its XSKMAP; dropping it detaches.
pub(crate) struct Steering {
    _link: Link,
    _map: SocketMap,
}

impl Steering {
    fn new(interface: &str, socket: BorrowedFd<'_>) -> Self {
        let map = SocketMap::new(4).expect("create the XSKMAP");
        map.enter(0, socket).expect("enter the socket into the map");
        let program = Program::load(&xdp::redirecting(&map)).expect("load the program");
        let facts = tidegate::io::interface::query(interface).expect("the interface is there");
        let link = program.attach(facts.index).expect("attach the program");
        Steering { _link: link, _map: map }
    }
}

/// A packet socket: what it sends and receives is the kernel's view of the wire, not ours.
pub(crate) struct Wire {
    socket: OwnedFd,
}

impl Wire {
    fn new(interface: &str) -> Self {
        let index = tidegate::io::interface::query(interface)
            .expect("the interface is there")
            .index;
        // SAFETY: holds because `socket` takes no pointer, and `sockaddr_ll` is plain data read for the size given.
        let socket = unsafe {
            let protocol = i32::from(ETHERTYPE.to_be());
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol);
            assert!(socket >= 0, "packet socket: {}", io::Error::last_os_error());
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = ETHERTYPE.to_be();
            address.sll_ifindex = index as i32;
            let length = size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(
                libc::bind(socket, (&raw const address).cast(), length),
                0,
                "{}",
                io::Error::last_os_error()
            );
            OwnedFd::from_raw_fd(socket)
        };
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20).expect("root may");
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(Duration::from_millis(500)),
        )
        .expect("a socket has time-outs");
        Wire { socket }
    }

    /// Sends a frame; while the link's queue is full it waits, as the peer at the end of a real link does.
    pub(crate) fn send(&self, frame: &[u8]) {
        until("room on the wire", || {
            match rustix::net::send(&self.socket, frame, rustix::net::SendFlags::empty()) {
                Err(rustix::io::Errno::NOBUFS) => {
                    std::thread::yield_now();
                    false
                }
                sent => {
                    assert_eq!(sent.expect("send on the wire"), frame.len());
                    true
                }
            }
        });
    }

    /// The next frame that arrives within half a second.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0u8; 16_384];
        let (length, _) = rustix::net::recv(&self.socket, &mut buffer[..], rustix::net::RecvFlags::empty()).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }
}

/// An Ethernet frame of the experimental type whose every byte depends on its number.
pub(crate) fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    bytes.extend_from_slice(&ETHERTYPE.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    while bytes.len() < length {
        bytes.push((number as usize).wrapping_mul(31).wrapping_add(bytes.len() * 7) as u8);
    }
    bytes
}

/// Repeats `step` until it says that it is done; a test that does not come to an end in 20 s fails.
pub(crate) fn until(what: &str, mut step: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !step() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
    }
}
