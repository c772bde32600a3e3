//! Real SRT sessions between ffmpeg and srt-live-transmit through a relay that loses and reorders: what the handshakes say,
//! and that the judge finds the order in which the sender sent.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate::engine::judge::{Judge, Ordering, TsBytes, UnsequencedFault};
use tidegate::engine::media::mpegts::{self, Content};
use tidegate::engine::media::srt::{Cipher, ControlType, HandshakeType, Packet as Srt, SEQUENCE_MASK};
use tidegate::engine::time::Timestamp;
use tidegate_common::digest::PacketDigest;

use crate::material::{clean, split};
use crate::oracle;

const STREAM_ID: &str = "#!::r=live/ch1,m=publish";
const LATENCY: Duration = Duration::from_secs(1);
/// How long a session may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A datagram that left the relay.
struct Seen {
    at: Timestamp,
    from_caller: bool,
    bytes: Vec<u8>,
}

/// A UDP relay between caller and listener; the caller's data suffers on the way.
struct Relay {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    fn start(listener: SocketAddr) -> Relay {
        let front = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let back = UdpSocket::bind("127.0.0.1:0").expect("a port");
        back.connect(listener).expect("a route to loopback");
        for socket in [&front, &back] {
            socket
                .set_read_timeout(Some(Duration::from_millis(5)))
                .expect("a time-out");
        }
        let address = front.local_addr().expect("an address");
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let caller = Arc::new(Mutex::new(None));
        let began = Instant::now();
        let record = {
            let seen = Arc::clone(&seen);
            move |from_caller, bytes: &[u8]| {
                let at = Timestamp::from_nanos(began.elapsed().as_nanos() as u64);
                seen.lock().expect("no panic").push(Seen {
                    at,
                    from_caller,
                    bytes: bytes.to_vec(),
                });
            }
        };
        let forward = {
            let (front, back) = (
                front.try_clone().expect("a socket"),
                back.try_clone().expect("a socket"),
            );
            let (caller, stop, record) = (Arc::clone(&caller), Arc::clone(&stop), record.clone());
            move || {
                let mut link = Link::default();
                let mut buffer = [0; 2048];
                while !stop.load(Relaxed) && began.elapsed() < PATIENCE {
                    let Ok((length, from)) = front.recv_from(&mut buffer) else {
                        continue;
                    };
                    *caller.lock().expect("no panic") = Some(from);
                    for bytes in link.carry(buffer[..length].to_vec()) {
                        record(true, &bytes);
                        let _ = back.send(&bytes);
                    }
                }
            }
        };
        let backward = {
            let stop = Arc::clone(&stop);
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Relaxed) && began.elapsed() < PATIENCE {
                    let Ok(length) = back.recv(&mut buffer) else { continue };
                    let caller = *caller.lock().expect("no panic");
                    record(false, &buffer[..length]);
                    if let Some(caller) = caller {
                        let _ = front.send_to(&buffer[..length], caller);
                    }
                }
            }
        };
        Relay {
            address,
            seen,
            stop,
            threads: vec![thread::spawn(forward), thread::spawn(backward)],
        }
    }

    fn finish(self) -> Vec<Seen> {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().expect("the relay does not panic");
        }
        std::mem::take(&mut self.seen.lock().expect("no panic"))
    }
}

/// Data packets after which the link is sound, so that the caller need not repeat anything when it hangs up.
const SUFFERING: u32 = 800;

/// Loses every 40th first transmission and holds every 25th back until three more have passed.
#[derive(Default)]
struct Link {
    data: u32,
    held: Option<(u32, Vec<u8>)>,
}

impl Link {
    fn carry(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        match Srt::parse(&bytes) {
            Ok(Srt::Data(data)) if !data.is_retransmitted() => self.data += 1,
            _ => return vec![bytes],
        }
        if self.data > SUFFERING {
            let held = self.held.take().map(|(_, bytes)| bytes);
            return held.into_iter().chain([bytes]).collect();
        }
        if self.data.is_multiple_of(40) {
            return vec![];
        }
        if self.data % 25 == 7 && self.held.is_none() {
            self.held = Some((self.data + 3, bytes));
            return vec![];
        }
        let due = self.held.take_if(|(until, _)| *until <= self.data);
        [Some(bytes), due.map(|(_, bytes)| bytes)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// A child that does not outlive its test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn start(command: &mut Command) -> Program {
        let name = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).spawn();
        Program(child.unwrap_or_else(|e| panic!("{name:?} is needed by this test (cargo xtask setup): {e}")))
    }

    fn wait(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().expect("a child to ask") {
                return status.success();
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// Five seconds of live media over SRT; what left the relay, and what the receiver wrote.
fn session(security: &str) -> (Vec<Seen>, Vec<u8>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (sent, received) = (directory.path().join("sent.ts"), directory.path().join("received.ts"));
    std::fs::write(&sent, clean().as_flattened()).expect("room for a file");
    let free = UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port");
    let latency = LATENCY.as_millis();
    let mut listener = Program::start(
        Command::new("srt-live-transmit")
            .args(["-a:no", "-q"])
            .arg(format!(
                "srt://127.0.0.1:{}?mode=listener&latency={latency}{security}",
                free.port()
            ))
            .arg("file://con")
            .stdout(std::fs::File::create(&received).expect("a file"))
            .stderr(Stdio::null()),
    );
    let relay = Relay::start(free);
    let target = format!(
        "srt://{}?mode=caller&latency={}&pkt_size=1316&streamid={STREAM_ID}{security}",
        relay.address,
        LATENCY.as_micros()
    );
    let mut caller = Program::start(
        Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-re", "-t", "5", "-i"])
            .arg(&sent)
            .args(["-map", "0", "-c", "copy", "-f", "mpegts"])
            .arg(target),
    );
    assert!(caller.wait(), "ffmpeg sent its media");
    listener.wait();
    (relay.finish(), std::fs::read(&received).expect("what was received"))
}

/// What the session's handshakes and data say.
#[derive(Default)]
struct Observed {
    stream_id: Option<String>,
    requested: Option<Duration>,
    agreed: Option<Duration>,
    keys: Vec<(Cipher, usize)>,
    listener_id: u32,
    initial_sequence: u32,
    kinds: Vec<ControlType>,
}

fn observe(seen: &[Seen]) -> Observed {
    let mut observed = Observed::default();
    for datagram in seen {
        let packet = Srt::parse(&datagram.bytes).expect("everything on the wire is SRT");
        let Srt::Control(control) = packet else { continue };
        if !observed.kinds.contains(&control.control_type()) {
            observed.kinds.push(control.control_type());
        }
        let Some(handshake) = control.handshake() else { continue };
        if handshake.kind() != HandshakeType::Conclusion {
            assert_eq!(handshake.kind(), HandshakeType::Induction);
            continue;
        }
        observed
            .keys
            .extend(handshake.key_material().map(|keys| (keys.cipher, keys.key_length)));
        if datagram.from_caller {
            assert_eq!(control.destination_socket_id(), 0);
            observed.initial_sequence = handshake.initial_sequence_number();
            observed.stream_id = handshake.stream_id();
            observed.requested = handshake.request_latency();
        } else {
            observed.agreed = handshake.response_latency();
            observed.listener_id = handshake.socket_id();
        }
    }
    observed
}

/// The payloads of the caller's data, each once, by sequence number.
fn in_sequence(seen: &[Seen], initial: u32) -> Vec<u8> {
    let mut payloads = BTreeMap::new();
    for datagram in seen.iter().filter(|datagram| datagram.from_caller) {
        if let Ok(Srt::Data(data)) = Srt::parse(&datagram.bytes) {
            payloads.insert(
                data.sequence_number().wrapping_sub(initial) & SEQUENCE_MASK,
                data.payload(),
            );
        }
    }
    payloads.into_values().flatten().copied().collect()
}

/// Judges the caller's data.
fn judge(seen: &[Seen], ordering: Ordering, listener_id: u32) -> Judge {
    let mut judge = Judge::new(ordering, LATENCY, UnsequencedFault::Unknown);
    for datagram in seen.iter().filter(|datagram| datagram.from_caller) {
        let Ok(Srt::Data(data)) = Srt::parse(&datagram.bytes) else {
            continue;
        };
        assert_eq!(data.destination_socket_id(), listener_id);
        let (sequence, retransmitted) = (data.sequence_number(), data.is_retransmitted());
        let mut digest = PacketDigest {
            sequence,
            retransmitted,
            ..PacketDigest::default()
        };
        if data.is_encrypted() {
            digest.hash = mpegts::hash_payload(data.payload(), Content::Sampled);
        } else {
            mpegts::digest_datagram(data.payload(), Content::Sampled, &mut digest).expect("whole packets");
        }
        judge.offer_digest(datagram.at, &digest, TsBytes::default(), &mut |_| {});
    }
    judge.flush(&mut |_| {});
    judge
}

#[test]
fn a_lossy_session_is_sound_in_sequence_order() {
    let (seen, received) = session("");
    let observed = observe(&seen);
    assert_eq!(observed.stream_id.as_deref(), Some(STREAM_ID));
    assert_eq!((observed.requested, observed.agreed), (Some(LATENCY), Some(LATENCY)));
    assert_eq!(observed.keys, []);
    for kind in [
        ControlType::Ack,
        ControlType::Nak,
        ControlType::AckAck,
        ControlType::Shutdown,
    ] {
        assert!(observed.kinds.contains(&kind), "{kind:?} in {:?}", observed.kinds);
    }
    assert!(split(&received).len() > 3000, "{} bytes arrived", received.len());
    assert_eq!(
        oracle::dvb_conformance(&split(&received)),
        0,
        "the receiver put everything in order"
    );
    // The receiver throws away what still waits for its time to play when the caller goes.
    let sent = in_sequence(&seen, observed.initial_sequence);
    assert!(
        sent.starts_with(&received),
        "payloads in sequence order are what the receiver wrote"
    );

    let judged = judge(&seen, Ordering::Srt, observed.listener_id);
    let (errors, transport) = (judged.ts().continuity_errors, *judged.transport());
    assert_eq!(
        (errors.source, errors.network, errors.unknown),
        (0, 0, 0),
        "{transport:?}"
    );
    assert_eq!(
        (transport.lost, transport.late, transport.resets),
        (0, 0, 0),
        "{transport:?}"
    );
    assert!(
        transport.retransmitted >= 10 && transport.reordered >= 10,
        "{transport:?}"
    );
    assert_eq!(judged.ts().packets, split(&sent).len() as u64);

    let by_arrival = judge(&seen, Ordering::Arrival, observed.listener_id)
        .ts()
        .continuity_errors
        .unknown;
    assert!(by_arrival >= 40, "{by_arrival} errors in arrival order");
}

#[test]
fn an_encrypted_session_shows_its_cipher_and_its_losses() {
    let (seen, received) = session("&passphrase=correct-horse-battery&pbkeylen=32");
    assert!(received.len() > 500_000, "the passphrase was accepted");
    let observed = observe(&seen);
    assert_eq!(observed.stream_id.as_deref(), Some(STREAM_ID));
    assert!(
        observed.keys.len() >= 2,
        "the answer repeats the keys: {:?}",
        observed.keys
    );
    assert!(
        observed.keys.iter().all(|keys| *keys == (Cipher::AesCtr, 32)),
        "{:?}",
        observed.keys
    );
    let judged = judge(&seen, Ordering::Srt, observed.listener_id);
    let transport = judged.transport();
    assert_eq!(
        (transport.lost, transport.late, transport.resets),
        (0, 0, 0),
        "{transport:?}"
    );
    assert!(
        transport.retransmitted >= 10 && transport.reordered >= 10,
        "{transport:?}"
    );
    assert_eq!(judged.ts().packets, 0, "nothing is said of what cannot be seen");
}
