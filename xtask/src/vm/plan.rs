//! What runs in a guest, and what does not and why: the one list of both.

use std::time::Duration;

use super::kernel::Line;

/// A test binary of the appliance and what of it is left out.
pub(super) struct Tests {
    pub(super) binary: &'static str,
    /// The longest it may take, seconds of the guest.
    limit: u32,
    /// Which of the guest's two lanes it runs in; what shares a lane runs one after the other.
    lane: u32,
    /// The guest's clock at which it may start, seconds.
    not_before: u32,
    left_out: &'static [LeftOut],
}

/// A test that does not run in a guest.
struct LeftOut {
    test: &'static str,
    on: &'static [Line],
    why: &'static str,
}

const EVERYWHERE: &[Line] = &[Line::V6_1, Line::V6_12];
const OLD: &[Line] = &[Line::V6_1];

/// Why a test that starts an appliance of its own is left out where others start one too.
const SHOWN_ELSEWHERE: &str =
    "some ten seconds of emulation for what does not depend on the kernel; cargo xtask test has it";
/// Why a test of the appliance's life is left out.
const KEEPS_TIME: &str = "holds a stream of 2,000 packets a second to times that emulation does not keep";

/// Why a test of the sockets is left out that asks the kernel for nothing that the others do not ask it for.
const BOOKS: &str =
    "the frames' books in user space, which no kernel changes; the other tests and the load balance them";

const fn left_out_of(on: &'static [Line], test: &'static str, why: &'static str) -> LeftOut {
    LeftOut { test, on, why }
}

/// The test binaries that run in a guest, all their tests but those named.
pub(super) const TESTS: &[Tests] = &[
    Tests {
        binary: "xsk",
        limit: 90,
        lane: 1,
        not_before: 0,
        left_out: &[
            left_out_of(
                EVERYWHERE,
                "every_frame_is_accounted_after_100_000_packets_with_a_full_ring",
                "emulation does not send 100,000 packets in the time that the test has; the load accounts for frames",
            ),
            left_out_of(EVERYWHERE, "a_dropped_packet_finds_its_way_home_and_is_counted", BOOKS),
            left_out_of(
                EVERYWHERE,
                "a_packet_outlives_its_socket_and_cannot_enter_another",
                BOOKS,
            ),
            left_out_of(EVERYWHERE, "a_settled_burst_shows_what_the_ring_has_no_room_for", BOOKS),
            left_out_of(
                OLD,
                "a_backlog_is_discarded_and_counted",
                "its backlog holds jumbo packets; AF_XDP carries packets of several buffers since Linux 6.6",
            ),
            left_out_of(
                OLD,
                "a_settled_burst_is_sent_and_recycled_as_it_was_decided",
                "every seventh of its packets is a jumbo; AF_XDP carries packets of several buffers since Linux 6.6",
            ),
            left_out_of(
                OLD,
                "without_multi_buffer_the_kernel_counts_the_jumbos_it_drops",
                "before Linux 6.6 the driver drops them, and the socket's statistics do not tell",
            ),
        ],
    },
    // What meets the kernel: shapes of packets through native XDP and AF_XDP, several queues, packets of several buffers.
    Tests {
        binary: "datapath",
        limit: 90,
        lane: 1,
        not_before: 0,
        left_out: &[
            left_out_of(
                OLD,
                "forward::jumbo_packets_come_back_whole",
                "its MTU of 9000 is refused: AF_XDP carries packets of several buffers since Linux 6.6",
            ),
            left_out_of(
                EVERYWHERE,
                "forward::a_default_of_return_sends_the_unlisted_back_from_the_kernel",
                SHOWN_ELSEWHERE,
            ),
            left_out_of(
                EVERYWHERE,
                "companions::fec_on_another_queue_rebuilds_what_its_media_lost",
                SHOWN_ELSEWHERE,
            ),
            left_out_of(
                EVERYWHERE,
                "forward::an_unlisted_source_ends_in_the_kernel",
                SHOWN_ELSEWHERE,
            ),
            left_out_of(
                EVERYWHERE,
                "forward::bursts_come_back_whole_and_in_order",
                SHOWN_ELSEWHERE,
            ),
            left_out_of(EVERYWHERE, "forward::fragments_follow_their_first", SHOWN_ELSEWHERE),
            left_out_of(
                EVERYWHERE,
                "forward::icmp_errors_follow_the_flow_they_quote",
                SHOWN_ELSEWHERE,
            ),
            left_out_of(
                EVERYWHERE,
                "host::arp_ping_and_health_are_answered_while_traffic_flows",
                SHOWN_ELSEWHERE,
            ),
            left_out_of(
                EVERYWHERE,
                "refuse::each_malformed_packet_is_dropped_for_its_reason",
                SHOWN_ELSEWHERE,
            ),
            left_out_of(
                EVERYWHERE,
                "refuse::what_is_not_for_the_appliance_is_left_to_the_kernel",
                SHOWN_ELSEWHERE,
            ),
        ],
    },
    // What meets the kernel: links and pins that outlive a process, and their removal.
    Tests {
        binary: "lifecycle",
        limit: 90,
        lane: 1,
        not_before: 0,
        left_out: &[
            left_out_of(
                EVERYWHERE,
                "ends::a_handover_costs_nothing_but_the_order_of_a_few",
                KEEPS_TIME,
            ),
            left_out_of(
                EVERYWHERE,
                "ends::a_killed_appliance_lets_the_stream_flow_and_the_next_one_takes_over",
                KEEPS_TIME,
            ),
            left_out_of(EVERYWHERE, "ends::on_failure_drop_lets_nothing_through", KEEPS_TIME),
            left_out_of(EVERYWHERE, "ends::on_failure_pass_leaves_it_to_the_stack", KEEPS_TIME),
            left_out_of(
                EVERYWHERE,
                "stalls::a_stall_is_bypassed_and_its_backlog_discarded",
                KEEPS_TIME,
            ),
            left_out_of(
                EVERYWHERE,
                "refusals::a_queue_that_another_program_holds_is_refused",
                SHOWN_ELSEWHERE,
            ),
        ],
    },
    // The verifier and the JIT compiler are the kernel's, so every test of the program counts here.
    Tests {
        binary: "xdp_program",
        limit: 90,
        lane: 2,
        // They set a heartbeat of ten seconds back by eleven, which a machine must have been up for.
        not_before: 12,
        left_out: &[],
    },
];

/// Runs besides the tests: lane, name, limit in seconds, command. The longest of its lane, so it begins it.
const SCRIPTS: &[(u32, &str, u32, &str)] = &[(2, "load", 150, "/guest/load.sh")];

/// The longest a guest may take from qemu's start to its end. Measured: 43 s on two cores with little else to do, two minutes on two
/// that ran other builds too.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(270);

/// Every run by its name.
pub(super) fn names() -> Vec<&'static str> {
    let tests = TESTS.iter().map(|tests| tests.binary);
    tests.chain(SCRIPTS.iter().map(|(_, name, ..)| *name)).collect()
}

/// A guest's list: a run a line, as `LANE NAME LIMIT NOT_BEFORE COMMAND`; all of them, or one.
pub(super) fn text(line: Line, only: Option<&str>) -> String {
    let scripts = SCRIPTS
        .iter()
        .map(|(lane, name, limit, command)| (*lane, *name, *limit, 0, (*command).to_owned()));
    let tests = TESTS.iter().map(|tests| {
        let skips = tests.left_out.iter().filter(|left_out| left_out.on.contains(&line));
        let skips: String = skips.map(|left_out| format!(" --skip {}", left_out.test)).collect();
        // One at a time: each lane has an emulated processor, and more would starve each other's clocks.
        let command = format!("/tests/{} --test-threads=1 --show-output{skips}", tests.binary);
        (tests.lane, tests.binary, tests.limit, tests.not_before, command)
    });
    let all = scripts
        .chain(tests)
        .filter(|(_, name, ..)| only.is_none_or(|only| only == *name));
    all.map(|(lane, name, limit, not_before, command)| format!("{lane} {name} {limit} {not_before} {command}\n"))
        .collect()
}

/// Every test that is left out on a line, as `binary: test`, and why.
pub(super) fn left_out(line: Line) -> impl Iterator<Item = (String, &'static str)> {
    TESTS.iter().flat_map(move |tests| {
        let here = tests
            .left_out
            .iter()
            .filter(move |left_out| left_out.on.contains(&line));
        here.map(|left_out| (format!("{}: {}", tests.binary, left_out.test), left_out.why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_line_of_the_list_is_lane_name_limit_start_and_command() {
        for line in text(Line::V6_1, None).lines() {
            let mut words = line.split(' ');
            assert!(
                matches!(words.next(), Some("1" | "2")),
                "the guest has two lanes: {line}"
            );
            assert!(words.next().is_some_and(|name| !name.is_empty()));
            assert!(words.next().unwrap().parse::<u32>().unwrap() > 0, "{line}");
            assert!(words.next().unwrap().parse::<u32>().is_ok(), "{line}");
            assert!(words.next().unwrap().starts_with('/'), "{line}");
        }
    }

    #[test]
    fn one_run_can_be_asked_for_and_what_is_left_out_depends_on_the_kernel() {
        let load = text(Line::V6_12, Some("load"));
        assert_eq!(load.lines().count(), 1);
        assert!(names().contains(&"load") && load.starts_with("2 load "));
        assert_eq!(text(Line::V6_12, None).lines().count(), names().len());
        let (old, new) = (text(Line::V6_1, None), text(Line::V6_12, None));
        assert!(old.contains("--skip a_backlog") && !new.contains("--skip a_backlog"));
        assert_eq!(left_out(Line::V6_1).count(), old.matches("--skip ").count());
    }

    /// A test that was renamed would run in the guest after all, and its reason would speak of nothing.
    #[test]
    fn every_test_that_is_left_out_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appliance-user/tests");
        for tests in TESTS {
            let file = root.join(format!("{}.rs", tests.binary));
            let sources = if file.is_file() {
                fs::read_to_string(file).unwrap()
            } else {
                let files = fs::read_dir(root.join(tests.binary)).unwrap().flatten();
                files.map(|file| fs::read_to_string(file.path()).unwrap()).collect()
            };
            for left_out in tests.left_out {
                assert!(!left_out.why.is_empty() && !left_out.on.is_empty());
                let name = left_out.test.rsplit("::").next().unwrap();
                assert!(sources.contains(&format!("fn {name}()")), "{}: {name}", tests.binary);
            }
        }
    }
}
