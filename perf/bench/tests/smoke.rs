//! The whole lab, once around: the real program measures a scenario in namespaces, and its books have to balance. What
//! stands in the appliance's place is the lab's own XDP program, so that nothing else need be built. Needs root.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_bench::device::Places;
use tidegate_bench::measure::{Bench, Order};
use tidegate_bench::scenario::Scenario;
use tidegate_bench::stage::CollectorNapi;
use tidegate_bench::traffic::{GeneratorKind, Rate, Wish};

fn bench(out: &std::path::Path) -> Bench {
    Bench {
        places: Places {
            programs: out.to_owned(),
            out: out.to_owned(),
        },
        generator: GeneratorKind::Kernel,
        napi: CollectorNapi::default(),
        probe: false,
    }
}

fn order(scenario: &Scenario, packets_per_second: f64) -> Order {
    Order {
        wish: Wish::of(scenario, Rate::PacketsPerSecond(packets_per_second)),
        prefixes: 0,
        warm_up: Duration::from_millis(50),
        settle: Duration::from_millis(50),
        window: Duration::from_millis(300),
        round_trips: true,
        overload: false,
        trial: false,
    }
}

#[test]
fn what_was_sent_came_back_or_is_lost() {
    let out = tempfile::tempdir().expect("folder");
    let scenario = Scenario::named("xdp-tx").expect("known");
    let outcome = bench(out.path())
        .measure(&scenario, &order(&scenario, 20_000.0))
        .expect("measured");
    assert_eq!(outcome.faults, Vec::<String>::new());
    assert!(outcome.total_sent.listed > 0, "nothing was sent");
    assert_eq!(
        outcome.total_sent.listed,
        outcome.total_received.listed + outcome.start_lost + outcome.lost(&scenario)
    );
    // What came before the window is in books of its own.
    assert!(outcome.start_sent > 0 && outcome.start_sent < outcome.total_sent.listed);
    assert_eq!(
        outcome.start_sent + outcome.counted(&scenario),
        outcome.total_sent.listed
    );
    // Everything that was sent reached the other end, and what did not come back is what the link refused.
    assert_eq!(
        outcome.total_sent.listed,
        outcome.total_arrived + outcome.total_sent.not_delivered
    );
    let trips: u64 = outcome
        .slices
        .iter()
        .flat_map(|slice| &slice.round_trips)
        .map(|(_, count)| count)
        .sum();
    assert!(trips > 0 && trips <= outcome.total_received.listed, "{trips}");
}

#[test]
fn what_is_dropped_is_all_lost_and_all_counted() {
    let out = tempfile::tempdir().expect("folder");
    let scenario = Scenario::named("xdp-drop").expect("known");
    let outcome = bench(out.path())
        .measure(&scenario, &order(&scenario, 20_000.0))
        .expect("measured");
    assert_eq!(outcome.faults, Vec::<String>::new());
    assert_eq!(outcome.total_received.packets, 0);
    assert_eq!(
        outcome.start_lost + outcome.lost(&scenario),
        outcome.total_sent.not_delivered
    );
    assert_eq!(
        outcome.total_sent.listed,
        outcome.total_arrived + outcome.total_sent.not_delivered
    );
}

#[test]
fn the_program_leaves_its_three_files_and_nothing_else() {
    let out = tempfile::tempdir().expect("folder");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"))
        .args(["--quick", "--repeats", "1", "--scenario", "xdp-tx", "--out"])
        .arg(out.path())
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{log}");
    assert!(told.contains("| xdp-tx |"), "{told}");
    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).expect(name);
    let report: Value = serde_json::from_str(&read("latest.json")).expect("JSON");
    let scenario = &report["scenarios"][0];
    assert_eq!(
        (&scenario["name"], &scenario["status"]),
        (&"xdp-tx".into(), &"ok".into()),
        "{scenario}"
    );
    for key in [
        "mpps",
        "gbps",
        "loss",
        "p50_us",
        "p90_us",
        "p99_us",
        "p999_us",
        "max_us",
        "cpu_ns_per_packet",
    ] {
        assert!(scenario[key].is_number(), "{key}: {scenario}");
    }
    // No process, and one repeat alone: there, and nothing.
    for key in ["rss_mib", "spread"] {
        assert!(scenario.get(key).is_some_and(Value::is_null), "{key}: {scenario}");
    }
    assert!(report["machine"].is_object());
    assert!(read("latest.svg").starts_with("<svg") && read("latest.md").contains("xdp-tx"));
}

#[test]
fn an_interrupted_run_cleans_up() {
    let out = tempfile::tempdir().expect("folder");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"))
        .args(["--scenario", "xdp-tx", "--out"])
        .arg(out.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let prefix = format!("tg-{}-", child.id());
    let namespaces = || {
        let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .count()
    };
    let until = |what: &str, mut holds: Box<dyn FnMut() -> bool + '_>| {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("namespaces appear", Box::new(|| namespaces() == 2));
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
    until("it ends", Box::new(|| child.try_wait().expect("waited").is_some()));
    assert_eq!(namespaces(), 0);
}
