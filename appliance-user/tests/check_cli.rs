//! `tidegate check` as an operator meets it: exit codes, and what goes to which stream.
#![cfg(feature = "appliance")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const VALID: &str = r#"version = 1
default_action = "drop"

[[rule]]
name = "contribution"
protocol = "rist"
source = ["203.0.113.0/24"]
destination = ["10.0.1.10"]
destination_port = [5000]
on_failure = "pass"
ts = { continuity = { max_incidents = 9, window = "1s", on_exceed = "block" } }
"#;

fn check(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("check")
        .arg(file)
        .output()
        .unwrap()
}

fn written(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Exit code, standard output, standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_valid_policy_exits_0_and_shows_what_it_compiles_to() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir, "good.toml", VALID.as_bytes());
    let (code, out, err) = told(&check(&path));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let place = path.display();
    for part in [
        format!("{place} is valid\n"),
        "rule 1 \"contribution\"\n".to_owned(),
        "companions        RTCP on each port + 1\n".to_owned(),
        "reorder_window    auto: 1s\n".to_owned(),
        "continuity        more than 9 incidents within 1s: block for 10s\n".to_owned(),
        "network_loss      more than 100 packets within 1s: alert\n".to_owned(),
        "the kernel admits 2 prefixes".to_owned(),
        "10.0.1.10/32       pass\n".to_owned(),
        "203.0.113.0/24     pass\n".to_owned(),
        format!("{place}:11:39: this limit can never be exceeded"),
    ] {
        assert!(out.contains(&part), "{part:?} is missing in\n{out}");
    }
}

#[test]
fn an_invalid_policy_exits_2_with_every_error_on_standard_error() {
    let dir = TempDir::new().unwrap();
    let text = VALID
        .replace("203.0.113.0/24", "203.0.113.1/24")
        .replace("on_failure = \"pass\"", "silence = \"2s\"");
    let path = written(&dir, "bad.toml", text.as_bytes());
    let (code, out, err) = told(&check(&path));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let lines: Vec<_> = err.lines().collect();
    let [first, second] = lines[..] else {
        panic!("two errors: {err}")
    };
    let place = path.display();
    assert!(
        first.starts_with(&format!("{place}:7:11: \"203.0.113.1/24\" has bits set")),
        "{first}"
    );
    assert!(
        second.starts_with(&format!("{place}:10:1: key \"silence\" is not supported yet")),
        "{second}"
    );
}

#[test]
fn what_cannot_be_read_exits_2_with_path_and_reason() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing.toml");
    let (code, out, err) = told(&check(&missing));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(
        err,
        format!("{}: No such file or directory (os error 2)\n", missing.display())
    );
    let (code, _, err) = told(&check(dir.path()));
    assert_eq!(code, Some(2));
    assert_eq!(err, format!("{}: Is a directory (os error 21)\n", dir.path().display()));
}

#[test]
fn neither_binary_nor_endless_input_is_swallowed() {
    let dir = TempDir::new().unwrap();
    let path = written(&dir, "binary.toml", b"version = 1\n\xff");
    let (code, _, err) = told(&check(&path));
    assert_eq!(code, Some(2));
    assert_eq!(
        err,
        format!("{}:2:1: the file is not UTF-8 text; save it as UTF-8\n", path.display())
    );
    let (code, _, err) = told(&check(Path::new("/dev/zero")));
    assert_eq!(code, Some(2));
    assert!(
        err.starts_with("/dev/zero:1:1: the policy is longer than 1048576 bytes"),
        "{err}"
    );
}

#[test]
fn a_missing_argument_exits_2_with_the_usage() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("check")
        .output()
        .unwrap();
    let (code, _, err) = told(&output);
    assert_eq!(code, Some(2));
    assert!(err.contains("Usage: tidegate check <FILE>"), "{err}");
}
