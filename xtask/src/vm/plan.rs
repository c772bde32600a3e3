//! What runs in a guest, and what does not and why: the one list of both.

use std::time::Duration;

/// A test binary of the appliance and what of it is left out.
pub(super) struct Tests {
    pub(super) binary: &'static str,
    /// The longest it may take, seconds of the guest.
    limit: u32,
    /// Tests that do not run there, with the reason.
    left_out: &'static [(&'static str, &'static str)],
}

/// The test binaries that run in a guest, all their tests but those named.
pub(super) const TESTS: &[Tests] = &[
    Tests {
        binary: "xdp_program",
        limit: 100,
        left_out: &[],
    },
    Tests {
        binary: "xsk",
        limit: 60,
        left_out: &[],
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
const SCRIPTS: &[(&str, u32, &str)] = &[("load", 60, "/guest/load.sh")];

/// The longest a guest may take from qemu's start to its end.
pub(super) fn boot_limit() -> Duration {
    Duration::from_secs(150)
}

/// The guest's list: a run a line, as `NAME SECONDS COMMAND`.
pub(super) fn text() -> String {
    let tests = TESTS.iter().map(|tests| {
        let skips = tests.left_out.iter().map(|(name, _)| format!(" --skip {name}"));
        // One at a time: two would share the emulated processors and starve each other's clocks.
        let flags = format!("--test-threads=1 --show-output{}", skips.collect::<String>());
        format!("{0} {1} /tests/{0} {flags}\n", tests.binary, tests.limit)
    });
    let scripts = SCRIPTS
        .iter()
        .map(|(name, limit, command)| format!("{name} {limit} {command}\n"));
    tests.chain(scripts).collect()
}

/// Every test that is left out, as `binary: test`, and why.
pub(super) fn left_out() -> impl Iterator<Item = (String, &'static str)> {
    let each = |tests: &'static Tests| {
        tests
            .left_out
            .iter()
            .map(|(name, why)| (format!("{}: {name}", tests.binary), *why))
    };
    TESTS.iter().flat_map(each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_line_of_the_list_is_name_limit_and_command() {
        for line in text().lines() {
            let mut words = line.split(' ');
            assert!(words.next().is_some_and(|name| !name.is_empty()));
            assert!(words.next().unwrap().parse::<u32>().unwrap() > 0, "{line}");
            assert!(words.next().unwrap().starts_with('/'), "{line}");
        }
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
            for (name, why) in tests.left_out {
                assert!(!why.is_empty());
                let name = name.rsplit("::").next().unwrap();
                assert!(sources.contains(&format!("fn {name}()")), "{}: {name}", tests.binary);
            }
        }
    }
}
