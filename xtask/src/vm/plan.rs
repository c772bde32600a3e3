//! What runs in a guest, and what does not and why: the one list of both.

use std::time::Duration;

use super::kernel::Line;

/// A test binary of the appliance and what of it is left out.
pub(super) struct Tests {
    pub(super) binary: &'static str,
    /// The longest it may take, seconds of the guest.
    limit: u32,
    left_out: &'static [LeftOut],
}

/// A test that does not run in a guest.
struct LeftOut {
    test: &'static str,
    on: &'static [Line],
    why: &'static str,
}

/// The test binaries that run in a guest, all their tests but those named.
pub(super) const TESTS: &[Tests] = &[
    Tests {
        binary: "xdp_program",
        limit: 60,
        left_out: &[],
    },
    Tests {
        binary: "xsk",
        limit: 60,
        left_out: &[
            LeftOut {
                test: "a_backlog_is_discarded_and_counted",
                on: &[Line::V6_1],
                why: "its backlog holds jumbo packets; AF_XDP carries packets of several buffers since Linux 6.6",
            },
            LeftOut {
                test: "without_multi_buffer_the_kernel_counts_the_jumbos_it_drops",
                on: &[Line::V6_1],
                why: "before Linux 6.6 the driver drops them, and the socket's statistics do not tell",
            },
        ],
    },
    Tests {
        binary: "datapath",
        limit: 60,
        left_out: &[],
    },
    Tests {
        binary: "lifecycle",
        limit: 60,
        left_out: &[],
    },
];

/// Runs besides the tests: name, limit in seconds, command.
const SCRIPTS: &[(&str, u32, &str)] = &[("load", 90, "/guest/load.sh")];

/// The longest a guest may take from qemu's start to its end.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(150);

/// Every run by its name.
pub(super) fn names() -> Vec<&'static str> {
    let tests = TESTS.iter().map(|tests| tests.binary);
    tests.chain(SCRIPTS.iter().map(|(name, ..)| *name)).collect()
}

/// A guest's list: a run a line, as `NAME SECONDS COMMAND`; all of them, or one.
pub(super) fn text(line: Line, only: Option<&str>) -> String {
    let tests = TESTS.iter().map(|tests| {
        let skips = tests.left_out.iter().filter(|left_out| left_out.on.contains(&line));
        let skips: String = skips.map(|left_out| format!(" --skip {}", left_out.test)).collect();
        // One at a time: two would share the emulated processors and starve each other's clocks.
        let command = format!("/tests/{} --test-threads=1 --show-output{skips}", tests.binary);
        (tests.binary, tests.limit, command)
    });
    let scripts = SCRIPTS
        .iter()
        .map(|(name, limit, command)| (*name, *limit, (*command).to_owned()));
    let all = tests
        .chain(scripts)
        .filter(|(name, ..)| only.is_none_or(|only| only == *name));
    all.map(|(name, limit, command)| format!("{name} {limit} {command}\n"))
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
    fn a_line_of_the_list_is_name_limit_and_command() {
        for line in text(Line::V6_1, None).lines() {
            let mut words = line.split(' ');
            assert!(words.next().is_some_and(|name| !name.is_empty()));
            assert!(words.next().unwrap().parse::<u32>().unwrap() > 0, "{line}");
            assert!(words.next().unwrap().starts_with('/'), "{line}");
        }
    }

    #[test]
    fn one_run_can_be_asked_for_and_what_is_left_out_depends_on_the_kernel() {
        let load = text(Line::V6_12, Some("load"));
        assert_eq!(load.lines().count(), 1);
        assert!(names().contains(&"load") && load.starts_with("load "));
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
