//! A link between a sender and a receiver on several ports, both ways, that loses, reorders and delays by a seed and writes
//! down what became of every datagram. The account is also the capture: what was written down is what was passed on.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use tidegate_lab::Namespace;

use super::relay::{Running, Seeded, socket};
use crate::inspect_support::{Timed, ethernet, pcap, udp};

/// Datagrams that pass unharmed first: sessions are set up, and a judge's probation is over.
const UNHARMED: usize = 50;
/// An overtaken datagram waits no longer than this for others to overtake it.
const HELD: Duration = Duration::from_millis(20);
/// How long a thread waits for a datagram before it looks at what it holds.
const LOOK: Duration = Duration::from_millis(2);
/// Room for a second of a stream while the machine is busy elsewhere.
const SOCKET_BUFFER: usize = 4 << 20;
/// Of so many new datagrams, on a link that loses, one never passes however often it is sent.
const NEVER_PASSES: usize = 137;

/// What a link does to what passes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Harm {
    /// Of a thousand datagrams so many are lost, each way.
    pub(crate) lost: u64,
    /// Of a thousand datagrams so many are overtaken by the one to three behind them, each way.
    pub(crate) overtaken: u64,
    /// How long each datagram takes, each way.
    pub(crate) delay: Duration,
}

/// Which of the datagrams from the sender carry media, and under which number.
pub(crate) type Numbered = fn(&[u8]) -> Option<u32>;

/// What became of a datagram.
pub(crate) struct Passage {
    /// Since the link was made.
    pub(crate) at: Duration,
    /// From the sender to the receiver.
    pub(crate) is_up: bool,
    /// The lane's place in the order in which they were given.
    pub(crate) lane: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) delivered: bool,
}

#[derive(Default)]
struct Account {
    passages: Vec<Passage>,
    /// Numbers seen on the first lane.
    seen: BTreeSet<u32>,
    /// Numbers of which no copy passes.
    never: BTreeSet<u32>,
}

/// Both ends of one port.
struct Lane {
    place: usize,
    near: UdpSocket,
    far: UdpSocket,
    sender: Mutex<Option<SocketAddr>>,
}

struct Shared {
    began: Instant,
    harm: Harm,
    numbered: Numbered,
    harmful: AtomicBool,
    account: Mutex<Account>,
}

/// A running link. The first lane carries the media.
pub(crate) struct Link {
    shared: Arc<Shared>,
    threads: Vec<Running<()>>,
    ends: Vec<(SocketAddr, SocketAddr)>,
}

impl Link {
    /// Relays between ports to which the sender sends and ports at which the receiver listens, all on the loopback.
    pub(crate) fn start(
        namespace: &Namespace,
        lanes: &[(u16, u16)],
        harm: Harm,
        numbered: Numbered,
        seed: u64,
    ) -> Link {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            harm,
            numbered,
            harmful: AtomicBool::new(false),
            account: Mutex::default(),
        });
        let (mut threads, mut ends) = (Vec::new(), Vec::new());
        for (place, (near, receiver)) in lanes.iter().enumerate() {
            let receiver = SocketAddr::from(([127, 0, 0, 1], *receiver));
            let (near, far) = (socket(namespace, *near), socket(namespace, 0));
            far.connect(receiver).expect("loopback");
            for socket in [&near, &far] {
                socket.set_read_timeout(Some(LOOK)).expect("a timeout");
                set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER).expect("root may");
            }
            ends.push((far.local_addr().expect("it is bound"), receiver));
            let lane = Arc::new(Lane {
                place,
                near,
                far,
                sender: Mutex::default(),
            });
            for is_up in [true, false] {
                let seed = seed.wrapping_mul(31) + 2 * place as u64 + u64::from(is_up);
                let (shared, lane) = (Arc::clone(&shared), Arc::clone(&lane));
                threads.push(Running::start(move |stop| {
                    Way::new(&shared, &lane, is_up, seed).run(stop);
                }));
            }
        }
        Link { shared, threads, ends }
    }

    /// How many datagrams have come from the receiver.
    pub(crate) fn answers(&self) -> usize {
        let account = self.shared.account.lock().expect("no panic");
        account.passages.iter().filter(|passage| !passage.is_up).count()
    }

    /// Ends the link.
    pub(crate) fn finish(self) -> Ledger {
        for thread in self.threads {
            thread.finish();
        }
        let passages = std::mem::take(&mut self.shared.account.lock().expect("no panic").passages);
        Ledger {
            passages,
            ends: self.ends,
        }
    }
}

/// One direction of a lane.
struct Way<'a> {
    shared: &'a Shared,
    lane: &'a Lane,
    is_up: bool,
    random: Seeded,
    /// A datagram that is being overtaken, since when, and by how many more.
    held: Option<(Vec<u8>, Instant, u64)>,
    /// Datagrams on their way and when they arrive.
    flying: VecDeque<(Instant, Vec<u8>)>,
}

impl<'a> Way<'a> {
    fn new(shared: &'a Shared, lane: &'a Lane, is_up: bool, seed: u64) -> Self {
        Way {
            shared,
            lane,
            is_up,
            random: Seeded::new(seed),
            held: None,
            flying: VecDeque::new(),
        }
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            if let Ok(length) = self.receive(&mut buffer) {
                self.take(&buffer[..length]);
            }
            if self.held.as_ref().is_some_and(|(_, since, _)| since.elapsed() >= HELD) {
                self.release();
            }
            self.land(Instant::now());
        }
        self.release();
        while let Some((_, datagram)) = self.flying.pop_front() {
            self.pass(datagram, true);
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_up {
            return self.lane.far.recv(buffer);
        }
        let (length, from) = self.lane.near.recv_from(buffer)?;
        *self.lane.sender.lock().expect("no panic") = Some(from);
        Ok(length)
    }

    /// Decides over a datagram that has come.
    fn take(&mut self, datagram: &[u8]) {
        if self.never_passes(datagram) {
            return self.pass(datagram.to_vec(), false);
        }
        let lot = self.random.per_mille();
        let Harm { lost, overtaken, .. } = self.shared.harm;
        let harmful = self.shared.harmful.load(Ordering::Relaxed);
        if harmful && lot < lost {
            return self.pass(datagram.to_vec(), false);
        }
        if harmful && lot < lost + overtaken && self.held.is_none() {
            self.held = Some((datagram.to_vec(), Instant::now(), lot % 3));
            return;
        }
        self.send_off(datagram.to_vec());
        match &mut self.held {
            Some((_, _, 0)) => self.release(),
            Some((_, _, behind)) => *behind -= 1,
            None => {}
        }
    }

    /// Whether it carries a number of which no copy passes; new numbers are chosen here.
    fn never_passes(&self, datagram: &[u8]) -> bool {
        if !self.is_up || self.lane.place != 0 {
            return false;
        }
        let Some(number) = (self.shared.numbered)(datagram) else {
            return false;
        };
        let mut account = self.shared.account.lock().expect("no panic");
        if account.seen.insert(number) {
            let count = account.seen.len();
            self.shared.harmful.store(count > UNHARMED, Ordering::Relaxed);
            if self.shared.harm.lost > 0 && count % NEVER_PASSES == NEVER_PASSES - 1 {
                account.never.insert(number);
            }
        }
        account.never.contains(&number)
    }

    fn release(&mut self) {
        if let Some((datagram, ..)) = self.held.take() {
            self.send_off(datagram);
        }
    }

    fn send_off(&mut self, datagram: Vec<u8>) {
        self.flying
            .push_back((Instant::now() + self.shared.harm.delay, datagram));
    }

    /// Passes on what has arrived by now.
    fn land(&mut self, now: Instant) {
        while self.flying.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, datagram)) = self.flying.pop_front() {
                self.pass(datagram, true);
            }
        }
    }

    /// Writes down what becomes of a datagram, and sends it on where that is to be delivered. The lock keeps the account
    /// in the order of the sending.
    fn pass(&self, bytes: Vec<u8>, delivered: bool) {
        let mut account = self.shared.account.lock().expect("no panic");
        if delivered && self.is_up {
            // A receiver that is gone already does not change what passed the link.
            let _ = self.lane.far.send(&bytes);
        } else if delivered && let Some(sender) = *self.lane.sender.lock().expect("no panic") {
            let _ = self.lane.near.send_to(&bytes, sender);
        }
        account.passages.push(Passage {
            at: self.shared.began.elapsed(),
            is_up: self.is_up,
            lane: self.lane.place,
            bytes,
            delivered,
        });
    }
}

/// All that a link did.
pub(crate) struct Ledger {
    passages: Vec<Passage>,
    ends: Vec<(SocketAddr, SocketAddr)>,
}

impl Ledger {
    /// Datagrams that the sender sent on the first lane, in the order of their delivery or loss.
    pub(crate) fn media(&self) -> impl Iterator<Item = &Passage> {
        self.passages
            .iter()
            .filter(|passage| passage.is_up && passage.lane == 0)
    }

    /// How many datagrams were passed on, all lanes, both ways.
    pub(crate) fn delivered(&self) -> usize {
        self.passages.iter().filter(|passage| passage.delivered).count()
    }

    /// A capture behind the link: what it passed on, both ways.
    pub(crate) fn capture(&self) -> Vec<u8> {
        let delivered = self.passages.iter().filter(|passage| passage.delivered);
        let frames: Vec<Timed> = delivered
            .map(|passage| {
                let (link, receiver) = self.ends[passage.lane];
                let (from, to) = if passage.is_up {
                    (link, receiver)
                } else {
                    (receiver, link)
                };
                (passage.at.as_micros() as u64, ethernet(&udp(from, to, &passage.bytes)))
            })
            .collect();
        pcap(&frames)
    }
}
