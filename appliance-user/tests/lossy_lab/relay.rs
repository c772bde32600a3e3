//! Relays that lose, swap and duplicate datagrams by a seed and keep account of it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_lab::Namespace;

/// How long a relay waits for the next datagram before it looks at what it holds and whether it is to end.
const LOOK: Duration = Duration::from_millis(5);

/// SplitMix64: the same harm in every run.
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    pub(crate) fn per_mille(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1000
    }
}

/// A UDP socket on the namespace's loopback.
pub(crate) fn socket(namespace: &Namespace, port: u16) -> UdpSocket {
    let socket = namespace
        .run_in(|| UdpSocket::bind(("127.0.0.1", port)))
        .expect("the namespace")
        .expect("a free port");
    socket.set_read_timeout(Some(LOOK)).expect("a timeout");
    socket
}

/// What a one-way relay did.
#[derive(Default)]
pub(crate) struct OneWay {
    /// Datagrams as they were delivered, copies included.
    pub(crate) delivered: Vec<Vec<u8>>,
    /// Datagrams that were dropped.
    pub(crate) lost: Vec<Vec<u8>>,
    /// Pairs that changed places.
    pub(crate) swapped: u64,
    /// Copies that were added.
    pub(crate) duplicated: u64,
}

/// A thread that ends when its owner does.
pub(crate) struct Running<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Running<T> {
    pub(crate) fn start(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Running<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Running {
            stop,
            thread: Some(std::thread::spawn(move || work(&flag))),
        }
    }

    pub(crate) fn finish(mut self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .expect("finished once")
            .join()
            .expect("the relay works")
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Swallows what a receiver would take.
pub(crate) fn sink(socket: UdpSocket) -> Running<()> {
    Running::start(move |stop| {
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            let _ = socket.recv(&mut buffer);
        }
    })
}

/// Relays one way: of a thousand datagrams about ten times one to three are lost, ten pairs swapped, ten copied, never two
/// harms side by side, so that each shows as what it is.
pub(crate) fn one_way(from: UdpSocket, to: SocketAddr, seed: u64) -> Running<OneWay> {
    Running::start(move |stop| {
        let (mut random, mut did, mut held) = (Seeded(seed), OneWay::default(), None::<Vec<u8>>);
        let (mut unharmed, mut losing) = (30, 0);
        let mut buffer = [0; 2048];
        let deliver = |did: &mut OneWay, datagram: &[u8]| {
            from.send_to(datagram, to).expect("loopback takes it");
            did.delivered.push(datagram.to_vec());
        };
        while !stop.load(Ordering::Relaxed) {
            let Ok(length) = from.recv(&mut buffer) else { continue };
            let datagram = &buffer[..length];
            if let Some(first) = held.take() {
                deliver(&mut did, datagram);
                deliver(&mut did, &first);
                did.swapped += 1;
                continue;
            }
            if losing > 0 {
                losing -= 1;
                did.lost.push(datagram.to_vec());
                continue;
            }
            if unharmed > 0 {
                unharmed -= 1;
                deliver(&mut did, datagram);
                continue;
            }
            unharmed = 4;
            match random.per_mille() {
                lot @ 0..10 => {
                    losing = lot % 3;
                    did.lost.push(datagram.to_vec());
                }
                10..20 => held = Some(datagram.to_vec()),
                20..30 => {
                    deliver(&mut did, datagram);
                    deliver(&mut did, datagram);
                    did.duplicated += 1;
                }
                _ => {
                    unharmed = 0;
                    deliver(&mut did, datagram);
                }
            }
        }
        if let Some(last) = held {
            deliver(&mut did, &last);
        }
        did
    })
}

/// What a relay of SRT did to what the caller sent.
#[derive(Default)]
pub(crate) struct Caller {
    /// Data packets delivered: sequence number, and whether the sender marked it as retransmitted.
    pub(crate) delivered: Vec<(u32, bool)>,
    /// Data packets dropped.
    pub(crate) lost: u64,
    /// Sequence numbers of which every copy was dropped.
    pub(crate) forbidden: Vec<u32>,
}

/// A relay between an SRT caller and a listener.
pub(crate) struct Srt {
    up: Running<Caller>,
    down: Running<()>,
    answers: Arc<AtomicU64>,
}

impl Srt {
    /// Whether the listener has answered the caller's conclusion.
    pub(crate) fn is_connected(&self) -> bool {
        self.answers.load(Ordering::Relaxed) >= 2
    }

    pub(crate) fn finish(self) -> Caller {
        self.down.finish();
        self.up.finish()
    }
}

/// Relays both ways; from the 50th data packet on 1% is lost and 1% overtaken by the one to three packets behind it. Of
/// the data packets that are new at the places `forbidden`, no copy ever passes.
pub(crate) fn srt(near: UdpSocket, far: UdpSocket, seed: u64, forbidden: &'static [usize]) -> Srt {
    let caller = Arc::new(Mutex::new(None::<SocketAddr>));
    let answers = Arc::new(AtomicU64::new(0));
    let harmful = Arc::new(AtomicBool::new(false));
    let (near_up, far_up) = (near.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
    let (known, harm) = (Arc::clone(&caller), Arc::clone(&harmful));
    let up = Running::start(move |stop| {
        let mut did = Caller::default();
        let mut new = Vec::new();
        let mut harmer = Harmer::new(seed);
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = near_up.recv_from(&mut buffer) else {
                harmer.release(&mut |datagram| up_one(&far_up, datagram, &mut did));
                continue;
            };
            *known.lock().expect("no panic") = Some(from);
            let datagram = &buffer[..length];
            let number = data_number(datagram);
            if let Some(number) = number
                && !new.contains(&number)
            {
                if forbidden.contains(&new.len()) {
                    did.forbidden.push(number);
                }
                new.push(number);
                harm.store(new.len() >= 50, Ordering::Relaxed);
            }
            if number.is_some_and(|number| did.forbidden.contains(&number)) {
                did.lost += 1;
            } else if !harmer.pass(datagram, harm.load(Ordering::Relaxed), &mut |d| {
                up_one(&far_up, d, &mut did)
            }) {
                did.lost += u64::from(number.is_some());
            }
        }
        did
    });
    let counted = Arc::clone(&answers);
    let down = Running::start(move |stop| {
        let mut harmer = Harmer::new(!seed);
        let mut buffer = [0; 2048];
        let mut back = |datagram: &[u8]| {
            if let Some(caller) = *caller.lock().expect("no panic") {
                let _ = near.send_to(datagram, caller);
            }
        };
        while !stop.load(Ordering::Relaxed) {
            let Ok(length) = far.recv(&mut buffer) else {
                harmer.release(&mut back);
                continue;
            };
            counted.fetch_add(1, Ordering::Relaxed);
            harmer.pass(&buffer[..length], harmful.load(Ordering::Relaxed), &mut back);
        }
    });
    Srt { up, down, answers }
}

fn up_one(far: &UdpSocket, datagram: &[u8], did: &mut Caller) {
    let _ = far.send(datagram);
    did.delivered
        .extend(data_number(datagram).map(|number| (number, datagram[4] & 0x04 != 0)));
}

/// The sequence number of an SRT data packet (draft-sharabayko-srt 3.1); `None` of control packets.
pub(crate) fn data_number(datagram: &[u8]) -> Option<u32> {
    let number = u32::from_be_bytes(*datagram.first_chunk()?);
    (number >> 31 == 0).then_some(number)
}

/// Loss and reordering of one direction.
struct Harmer {
    random: Seeded,
    held: Option<(Vec<u8>, u64)>,
}

impl Harmer {
    fn new(seed: u64) -> Self {
        Harmer {
            random: Seeded(seed),
            held: None,
        }
    }

    /// Sends a datagram on, holds it or loses it; `false` when it is lost.
    fn pass(&mut self, datagram: &[u8], harm: bool, send: &mut impl FnMut(&[u8])) -> bool {
        match self.random.per_mille() {
            0..10 if harm => return false,
            lot @ 10..20 if harm && self.held.is_none() => self.held = Some((datagram.to_vec(), lot % 3)),
            _ => {
                send(datagram);
                match &mut self.held {
                    Some((_, 0)) => self.release(send),
                    Some((_, behind)) => *behind -= 1,
                    None => {}
                }
            }
        }
        true
    }

    fn release(&mut self, send: &mut impl FnMut(&[u8])) {
        if let Some((datagram, _)) = self.held.take() {
            send(&datagram);
        }
    }
}
