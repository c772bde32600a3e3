//! Reads what `cargo test` printed: how many tests passed, failed and were skipped, over all test binaries, and what the
//! tests say they could not prove on this machine.

/// What a test prints first on a line when the machine cannot do what the test is about: `println!("UNPROVEN: what and
/// why")`, or one of the others. The test then passes, and the line is repeated at the end of `cargo xtask test`.
const UNPROVEN: [&str; 3] = ["UNPROVEN: ", "NOT TESTED: ", "SKIPPED "];

/// The sum of all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Marked `#[ignore]`.
    pub(crate) skipped: u64,
    /// Failed tests, as `binary: test`.
    pub(crate) failures: Vec<String>,
    /// Test binaries that ended without a result: crashed or killed. Each counts as one failure.
    pub(crate) broken: Vec<String>,
    /// What could not be proven, each once.
    pub(crate) unproven: Vec<String>,
}

impl Summary {
    /// The closing line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }

    fn end_binary(&mut self, running: &mut Option<String>) {
        if let Some(binary) = running.take() {
            self.failed += 1;
            self.broken.push(binary);
        }
    }
}

/// Reads the whole output of one `cargo test`, standard output and standard error in one.
pub(crate) fn parse(output: &str) -> Summary {
    let mut summary = Summary::default();
    // The binary whose result is still to come, and the last one seen.
    let mut running: Option<String> = None;
    let mut binary = String::new();
    let mut in_failures = false;
    for line in output.lines() {
        if let Some(name) = started(line) {
            summary.end_binary(&mut running);
            name.clone_into(&mut binary);
            running = Some(name);
        } else if let Some([passed, failed, ignored]) = result(line) {
            summary.passed += passed;
            summary.failed += failed;
            summary.skipped += ignored;
            running = None;
        } else if let Some(what) = unproven(line)
            && !summary.unproven.iter().any(|known| known == what)
        {
            summary.unproven.push(what.to_owned());
        }
        // The block of names comes last: "failures:", then one name a line, indented by four, then an empty line.
        match line.strip_prefix("    ") {
            Some(name) if in_failures => summary.failures.push(format!("{binary}: {name}")),
            _ => in_failures = line == "failures:",
        }
    }
    summary.end_binary(&mut running);
    summary
}

/// What a line says could not be proven.
fn unproven(line: &str) -> Option<&str> {
    let line = line.trim_start();
    UNPROVEN.iter().find_map(|mark| line.strip_prefix(mark))
}

/// The name of the binary that cargo says it runs now.
pub(crate) fn started(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("     Running ") {
        let (what, binary) = rest.rsplit_once(" (").unwrap_or((rest, ""));
        let file = binary.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
        // target/debug/deps/NAME-HASH
        let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
        return Some(if name.is_empty() {
            what.to_owned()
        } else {
            format!("{name} {what}")
        });
    }
    line.strip_prefix("   Doc-tests ")
        .map(|name| format!("{name} doc-tests"))
}

/// Passed, failed and ignored of a binary's closing line.
pub(crate) fn result(line: &str) -> Option<[u64; 3]> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    let count = |name: &str| {
        let part = counts.split(';').find_map(|part| part.trim().strip_suffix(name))?;
        part.trim().parse().ok()
    };
    Some([count("passed")?, count("failed")?, count("ignored")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real output of cargo 1.95, both streams in one file, `--show-output`.
    const REAL: &str = include_str!("../tests/cargo-test-output.txt");

    #[test]
    fn real_output_adds_up() {
        let summary = parse(REAL);
        assert_eq!(summary.line(), "5 passed, 4 failed, 1 skipped");
        assert_eq!(summary.broken, ["crash tests/crash.rs"]);
        assert_eq!(
            summary.failures,
            [
                "sample unittests src/lib.rs: tests::fails",
                "mixed tests/mixed.rs: also_fails",
                "sample doc-tests: src/lib.rs - halve (line 3)"
            ]
        );
        assert_eq!(
            summary.unproven,
            ["zero-copy: veth has none", "vectors: not beside this checkout"]
        );
    }

    #[test]
    fn what_could_not_be_proven_is_heard_in_each_of_its_words() {
        let text = "UNPROVEN: a\n  NOT TESTED: b\nSKIPPED c: d\nUNPROVEN: a\nthis is UNPROVEN: e\n";
        assert_eq!(parse(text).unproven, ["a", "b", "c: d"]);
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(parse(""), Summary::default());
        assert_eq!(
            parse("error: could not compile `x`\n").line(),
            "0 passed, 0 failed, 0 skipped"
        );
    }

    #[test]
    fn a_binary_that_dies_counts_as_a_failure_even_when_it_is_the_last() {
        let summary = parse("     Running tests/a.rs (target/debug/deps/a-0f)\n\nrunning 2 tests\ntest x ... ok\n");
        assert_eq!(
            (summary.line().as_str(), summary.broken.len()),
            ("0 passed, 1 failed, 0 skipped", 1)
        );
    }

    #[test]
    fn a_line_that_only_looks_like_a_result_counts_nothing() {
        for line in [
            "test result: ok",
            "test result: ok. many passed; 0 failed; 0 ignored",
            "  test result: ok. 1 passed; 0 failed; 0 ignored",
        ] {
            assert_eq!(result(line), None, "{line}");
        }
        assert_eq!(
            result("test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out; finished in 0.1s"),
            Some([3, 1, 2])
        );
    }
}
