//! The demo's stage: the lab, the appliance, the load balancer, senders and receivers, each started in its own namespace.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tidegate_gwlb::Report;
use tidegate_lab::{Namespace, Process, Topology, TopologyOptions};

use crate::feeder::{Fed, Feeder, Framing};
use crate::http;
use crate::receiver::Receiver;

/// Destination ports of the demo's streams.
pub(crate) mod port {
    /// RTP straight from ffmpeg.
    pub(crate) const RTP: u16 = 5000;
    /// RTP with faults put in.
    pub(crate) const FAULTY: u16 = 5004;
    /// RTP from the source that no rule lists.
    pub(crate) const UNLISTED: u16 = 5010;
    /// Encrypted SRT.
    pub(crate) const SRT: u16 = 9000;
}

/// The passphrase of the SRT session, known to both ends and to the rule.
const PASSPHRASE: &str = "a-demo-has-no-secrets";
/// The SRT caller's stream id.
const STREAM_ID: &str = "#!::r=live/demo,m=publish";
/// Where srt-live-transmit takes datagrams of whole TS packets.
const SRT_INTAKE: &str = "127.0.0.1:7000";
/// Longest wait for something that takes a moment.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long packets, retransmissions and the judge may take after the last sender stopped: SRT's latency is 120 ms, the judge
/// holds events back for up to two seconds.
const SETTLE: Duration = Duration::from_secs(4);

/// Everything that runs, in the order in which it must stop: senders first, the lab last.
pub(crate) struct Scene {
    senders: Vec<Process>,
    feeders: Vec<JoinHandle<anyhow::Result<Fed>>>,
    srt_caller: Process,
    srt_listener: Process,
    srt_received: JoinHandle<std::io::Result<u64>>,
    taps: Vec<Process>,
    rtp: Receiver,
    faulty: Receiver,
    unlisted: Receiver,
    gwlb: Process,
    latest: Arc<Mutex<Option<Report>>>,
    appliance: Process,
    lab: Topology,
    out: PathBuf,
}

/// Everything there is to judge when the play is over.
pub(crate) struct Finale {
    /// The appliance's `/api/v1/status`, taken when nothing moved any more.
    pub status: Value,
    /// The appliance's `/api/v1/streams` at the same time.
    pub streams: Vec<Value>,
    /// The load balancer's final report.
    pub gwlb: Report,
    /// The appliance's exit code.
    pub exit: Option<i32>,
    /// Datagrams of the RTP receiver.
    pub rtp: Vec<Vec<u8>>,
    /// Datagrams that reached the unlisted stream's receiver.
    pub unlisted_arrived: u64,
    /// What the feeders did: faulty, unlisted, SRT.
    pub fed: [Fed; 3],
    /// The folder with captures and streams.
    pub out: PathBuf,
}

impl Scene {
    /// Builds the lab and starts everything; when this returns, streams flow.
    ///
    /// # Errors
    /// Whatever step failed, by name; what was started is stopped.
    pub(crate) fn set(programs: &Path, out: &Path, seconds: u64) -> anyhow::Result<Scene> {
        let lab = Topology::build(&TopologyOptions::default())?;
        let appliance = start_appliance(&lab, programs, out)?;
        let (gwlb, latest) = start_gwlb(&lab, programs, out)?;
        let receive = |port: u16| -> anyhow::Result<Receiver> {
            let address = SocketAddr::new(Topology::SINK_V4.parse()?, port);
            Ok(Receiver::start(bind(&lab.sink, address)?)?)
        };
        let (rtp, faulty, unlisted) = (receive(port::RTP)?, receive(port::FAULTY)?, receive(port::UNLISTED)?);
        let taps = vec![tap(&lab.source, "sent", out)?, tap(&lab.sink, "received", out)?];
        let (srt_caller, srt_listener, srt_received) = start_srt(&lab, out)?;

        let mut senders = Vec::new();
        let rtp_url = format!("rtp://{}:{}", Topology::SINK_V4, port::RTP);
        let mut direct = ffmpeg(&lab.source, seconds);
        direct.args(["-f", "rtp_mpegts", &rtp_url]);
        senders.push(Process::spawn("ffmpeg-rtp", direct, &out.join("ffmpeg-rtp.log"))?);
        let mut feeders = Vec::new();
        let sink = |port: u16| format!("{}:{port}", Topology::SINK_V4);
        for (name, framing, faulty, from, to) in [
            (
                "faulty",
                Framing::Rtp(0xfa),
                true,
                Topology::SOURCE_V4,
                sink(port::FAULTY),
            ),
            (
                "unlisted",
                Framing::Rtp(0xbad),
                false,
                Topology::SOURCE_V4_SECOND,
                sink(port::UNLISTED),
            ),
            ("srt", Framing::Bare, false, "127.0.0.1", SRT_INTAKE.to_owned()),
        ] {
            let socket = bind(&lab.source, SocketAddr::new(from.parse()?, 0))?;
            socket.connect(&to).with_context(|| format!("no way to {to}"))?;
            let (process, stream) = piped_ffmpeg(&lab.source, name, seconds, out)?;
            senders.push(process);
            let record = out.join(format!("{name}-sent.ts"));
            feeders.push(std::thread::spawn(move || {
                Feeder::new(framing, faulty).run(stream, &socket, &record)
            }));
        }
        let out = out.to_owned();
        Ok(Scene {
            senders,
            feeders,
            srt_caller,
            srt_listener,
            srt_received,
            taps,
            rtp,
            faulty,
            unlisted,
            gwlb,
            latest,
            appliance,
            lab,
            out,
        })
    }

    /// Fails when something ended that must not.
    ///
    /// # Errors
    /// The name of what ended, and the end of its log.
    pub(crate) fn check_alive(&self) -> anyhow::Result<()> {
        for process in [&self.appliance, &self.gwlb, &self.srt_caller, &self.srt_listener] {
            if !process.is_running() {
                bail!("{} ended by itself:\n{}", process.name(), last_lines(&process.log()));
            }
        }
        Ok(())
    }

    /// The appliance's streams now.
    ///
    /// # Errors
    /// When the appliance does not answer.
    pub(crate) fn streams(&self) -> anyhow::Result<Vec<Value>> {
        ask_streams(&self.lab)
    }

    /// The load balancer's latest report.
    pub(crate) fn gwlb_report(&self) -> Option<Report> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Datagrams that reached the unlisted stream's receiver so far.
    pub(crate) fn unlisted_arrived(&self) -> u64 {
        self.unlisted.count()
    }

    /// Waits for the senders, lets everything settle, takes the last figures, and stops all in order.
    ///
    /// # Errors
    /// When something does not end as it should, or an interruption is wanted.
    pub(crate) fn finish(mut self, interrupted: &AtomicBool) -> anyhow::Result<Finale> {
        for sender in &mut self.senders {
            sender
                .wait(PATIENCE)
                .with_context(|| format!("{} does not end", sender.name()))?;
        }
        let mut fed = [Fed::default(); 3];
        for (fed, feeder) in fed.iter_mut().zip(self.feeders.drain(..)) {
            *fed = feeder.join().map_err(|_| anyhow::anyhow!("a feeder panicked"))??;
        }
        let settled = Instant::now() + SETTLE;
        while Instant::now() < settled {
            ensure!(
                !interrupted.load(Ordering::Acquire),
                "interrupted; everything is cleaned up"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.srt_caller.stop(PATIENCE)?;
        self.srt_listener.stop(PATIENCE)?;
        self.srt_received
            .join()
            .map_err(|_| anyhow::anyhow!("the SRT receiver's reader panicked"))??;
        // SRT's farewell is on its way, and the worker publishes its figures every few milliseconds.
        std::thread::sleep(Duration::from_millis(300));
        for tap in &mut self.taps {
            tap.stop(PATIENCE)?;
        }
        let streams = ask_streams(&self.lab)?;
        let status = ask(&self.lab, "/api/v1/status")?;
        self.gwlb.stop(PATIENCE).context("the load balancer does not end")?;
        let report = std::fs::read_to_string(self.out.join("gwlb.json")).context("the load balancer left no report")?;
        let exit = self
            .appliance
            .stop(PATIENCE)
            .context("the appliance does not end")?
            .code();
        self.faulty.finish();
        Ok(Finale {
            status,
            streams,
            gwlb: serde_json::from_str(&report)?,
            exit,
            unlisted_arrived: self.unlisted.finish().len() as u64,
            rtp: self.rtp.finish(),
            fed,
            out: self.out,
        })
    }
}

fn ask_streams(lab: &Topology) -> anyhow::Result<Vec<Value>> {
    let answer = ask(lab, "/api/v1/streams")?;
    answer["streams"]
        .as_array()
        .cloned()
        .context("the appliance's answer has no streams")
}

fn ask(lab: &Topology, path: &str) -> anyhow::Result<Value> {
    http::get_json(
        appliance_namespace(lab)?,
        SocketAddr::from(([127, 0, 0, 1], 9090)),
        path,
    )
}

fn appliance_namespace(lab: &Topology) -> anyhow::Result<&Namespace> {
    Ok(&lab.appliances.first().context("the lab has no appliance")?.namespace)
}

/// Nobody but its owner may read a secret, or the appliance refuses it.
fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot create {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(cannot)?;
    file.write_all(secret.as_bytes()).with_context(cannot)
}

fn start_appliance(lab: &Topology, programs: &Path, out: &Path) -> anyhow::Result<Process> {
    let policy = out.join("policy.toml");
    write_secret(&out.join("passphrase"), PASSPHRASE)?;
    let mut file = File::create(&policy).with_context(|| format!("cannot create {}", policy.display()))?;
    write!(
        file,
        r##"version = 1
default_action = "drop"

[[rule]]
name = "studio"
protocol = "rtp"
source = ["{source}"]
destination_port = [{rtp}]

[[rule]]
name = "faulty"
protocol = "rtp"
source = ["{source}"]
destination_port = [{faulty}]

[[rule]]
name = "contribution"
protocol = "srt"
source = ["{source}"]
destination = ["{sink}"]
destination_port = [{srt}]
srt = {{ encryption = "required", stream_id = ["#!::r=live/*"], passphrase_file = "passphrase" }}
"##,
        source = Topology::SOURCE_V4,
        sink = Topology::SINK_V4,
        rtp = port::RTP,
        faulty = port::FAULTY,
        srt = port::SRT,
    )?;
    let namespace = appliance_namespace(lab)?;
    let mut command = namespace.command(programs.join("tidegate"));
    command
        .args(["run", "--interface", Topology::APPLIANCE_INTERFACE, "--policy"])
        .arg(&policy);
    command.arg("--events").arg(out.join("events.jsonl"));
    command.arg("--pins").arg(format!("/sys/fs/bpf/{}", namespace.name()));
    let process = Process::spawn("tidegate", command, &out.join("tidegate.log"))?;
    let health = SocketAddr::from(([127, 0, 0, 1], 80));
    process
        .wait_until("the appliance is healthy", PATIENCE, || {
            http::get(namespace, health, "/health").is_ok_and(|(status, _)| status == 200)
        })
        .with_context(|| last_lines(&process.log()))?;
    Ok(process)
}

type Latest = Arc<Mutex<Option<Report>>>;

fn start_gwlb(lab: &Topology, programs: &Path, out: &Path) -> anyhow::Result<(Process, Latest)> {
    let mut command = lab.gwlb.command(programs.join("gwlb"));
    command
        .args(lab.gwlb_arguments())
        .args(["--interval", "500ms", "--health-port", "80"]);
    command.args([
        "--health-interval",
        "500ms",
        "--health-timeout",
        "400ms",
        "--healthy-threshold",
        "1",
    ]);
    command.arg("--report").arg(out.join("gwlb.json"));
    let (process, output) = Process::spawn_piped("gwlb", command, &out.join("gwlb.log"))?;
    let latest: Latest = Arc::default();
    let theirs = Arc::clone(&latest);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Ok(report) = serde_json::from_str(&line) {
                *theirs.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            }
        }
    });
    let ready = || process.log().contains("ready") && latest.lock().is_ok_and(|report| report.is_some());
    process
        .wait_until("the load balancer is ready", PATIENCE, ready)
        .with_context(|| last_lines(&process.log()))?;
    Ok((process, latest))
}

type SrtEnds = (Process, Process, JoinHandle<std::io::Result<u64>>);

fn start_srt(lab: &Topology, out: &Path) -> anyhow::Result<SrtEnds> {
    let mut listen = lab.sink.command("srt-live-transmit");
    listen
        .arg(format!("srt://:{}?mode=listener&passphrase={PASSPHRASE}", port::SRT))
        .arg("file://con");
    let (listener, mut output) = Process::spawn_piped("srt-listener", listen, &out.join("srt-listener.log"))?;
    let mut file = File::create(out.join("srt-received.ts"))?;
    let received = std::thread::spawn(move || std::io::copy(&mut output, &mut file));

    let mut call = lab.source.command("srt-live-transmit");
    call.arg(format!("udp://{SRT_INTAKE}?rcvbuf=4000000"));
    call.arg(format!(
        "srt://{}:{}?passphrase={PASSPHRASE}&pbkeylen=16&streamid={STREAM_ID}",
        Topology::SINK_V4,
        port::SRT
    ));
    let caller = Process::spawn("srt-caller", call, &out.join("srt-caller.log"))?;
    caller
        .wait_until("the SRT session stands", PATIENCE, || {
            caller.log().contains("target connected")
        })
        .with_context(|| format!("{}\n{}", last_lines(&caller.log()), last_lines(&listener.log())))?;
    Ok((caller, listener, received))
}

/// ffmpeg making H.264 and AAC in real time; where to is the caller's to add.
fn ffmpeg(namespace: &Namespace, seconds: u64) -> std::process::Command {
    let mut command = namespace.command("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "warning", "-nostdin", "-re"]);
    command.args([
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x360:rate=25",
        "-re",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440",
    ]);
    command.args([
        "-t",
        &seconds.to_string(),
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
    ]);
    command.args([
        "-g", "25", "-b:v", "2M", "-maxrate", "2M", "-bufsize", "1M", "-c:a", "aac", "-b:a", "96k",
    ]);
    command.args(["-flush_packets", "1", "-threads", "1"]);
    command
}

fn piped_ffmpeg(namespace: &Namespace, name: &str, seconds: u64, out: &Path) -> anyhow::Result<(Process, ChildStdout)> {
    let mut command = ffmpeg(namespace, seconds);
    command.args(["-f", "mpegts", "pipe:1"]);
    let log = out.join(format!("ffmpeg-{name}.log"));
    Ok(Process::spawn_piped(&format!("ffmpeg-{name}"), command, &log)?)
}

/// A capture of UDP at a namespace's interface, begun when this returns.
fn tap(namespace: &Namespace, name: &str, out: &Path) -> anyhow::Result<Process> {
    let file = out.join(format!("{name}.pcapng"));
    // dumpcap gives up its privileges and could not open the file of an earlier run.
    let _ = std::fs::remove_file(&file);
    let mut command = namespace.command("dumpcap");
    command
        .args(["-i", "eth0", "-q", "-B", "32", "-f", "udp", "-w"])
        .arg(&file);
    let process = Process::spawn(
        &format!("dumpcap-{name}"),
        command,
        &out.join(format!("dumpcap-{name}.log")),
    )?;
    process
        .wait_until("the capture has begun", PATIENCE, || process.log().contains("File:"))
        .with_context(|| last_lines(&process.log()))?;
    Ok(process)
}

fn bind(namespace: &Namespace, address: SocketAddr) -> anyhow::Result<UdpSocket> {
    namespace
        .run_in(|| UdpSocket::bind(address))?
        .with_context(|| format!("cannot bind {address}"))
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
