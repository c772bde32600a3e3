//! `tidegate check` as an operator meets it: exit codes, and what goes to which stream.
#![cfg(feature = "appliance")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
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
    fs::write(&path, bytes).unwrap();
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
        .replace("on_failure = \"pass\"", "expected = true");
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
        second.starts_with(&format!(
            "{place}:10:1: expected does not say how long a stream may stay away; write silence beside it"
        )),
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
        err.starts_with("/dev/zero:1:1: the policy is longer than 16777216 bytes"),
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

const SECRETIVE: &str = r##"version = 1
default_action = "drop"

[[rule]]
name = "contribution"
protocol = "srt"
source = ["203.0.113.0/24"]
destination = ["10.0.1.10"]
srt = { encryption = "required", passphrase_file = { "#!::r=live/1" = "keys/one", "*" = "keys/rest" } }

[[rule]]
name = "social"
protocol = "rtmp"
source = ["203.0.113.0/24"]
destination = ["10.0.1.11"]
destination_port = [1935]
rtmp = { application = ["live"], stream_key_file = "keys/streams" }
"##;

/// The policy with its secrets beside it.
fn secretive(dir: &TempDir) -> PathBuf {
    fs::create_dir(dir.path().join("keys")).unwrap();
    for (name, content) in [
        ("keys/one", &b"correct horse battery\n"[..]),
        ("keys/rest", b"staple staple staple"),
        ("keys/streams", b"# nightly\nqwertz-*\n"),
    ] {
        protect(&written(dir, name, content), 0o600);
    }
    written(dir, "secretive.toml", SECRETIVE.as_bytes())
}

fn protect(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Fails if any secret of [`secretive`] is in the text.
fn shows_no_secret(text: &str) {
    for secret in ["horse", "staple", "nightly", "qwertz"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn secrets_are_read_beside_the_policy_and_said_to_be_sound() {
    let dir = TempDir::new().unwrap();
    let path = secretive(&dir);
    let (code, out, err) = told(&check(&path));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for part in [
        "passphrase_file   \"keys/one\" for \"#!::r=live/1\": read, sound\n",
        "passphrase_file   \"keys/rest\" for \"*\": read, sound\n",
        "stream_key_file   \"keys/streams\": read, sound\n",
    ] {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }
    shows_no_secret(&out);
}

#[test]
fn a_bare_file_name_is_looked_for_where_the_policy_lies() {
    let dir = TempDir::new().unwrap();
    secretive(&dir);
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "secretive.toml"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn secrets_that_are_not_kept_exit_2_at_the_key_that_names_them() {
    let dir = TempDir::new().unwrap();
    let path = secretive(&dir);
    let keys = dir.path().join("keys");
    protect(&keys.join("one"), 0o644);
    fs::remove_file(keys.join("rest")).unwrap();
    fs::write(keys.join("streams"), b"qwertz-[\n").unwrap();
    let (code, out, err) = told(&check(&path));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let lines: Vec<_> = err.lines().collect();
    let [exposed, missing, glob] = lines[..] else {
        panic!("three errors: {err}")
    };
    let (place, keys) = (path.display(), keys.display());
    assert_eq!(
        exposed,
        format!(
            "{place}:9:71: cannot take a secret from \"{keys}/one\": others than its owner may use it (mode 644); \
             chmod 600 \"{keys}/one\""
        )
    );
    assert_eq!(
        missing,
        format!(
            "{place}:9:89: cannot take a secret from \"{keys}/rest\": No such file or directory (os error 2); \
             make it, or correct the path"
        )
    );
    assert!(
        glob.starts_with(&format!(
            "{place}:17:52: the file \"keys/streams\" has \"[\" without its \"]\" in line 1; "
        )),
        "{glob}"
    );
    shows_no_secret(&err);
}

#[test]
fn inspect_takes_no_policy_whose_secrets_are_not_kept() {
    let dir = TempDir::new().unwrap();
    let path = secretive(&dir);
    protect(&dir.path().join("keys/one"), 0o640);
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["inspect", "--policy"])
        .arg(&path)
        .arg("/dev/null")
        .output()
        .unwrap();
    let (code, out, err) = told(&output);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("secretive.toml:9:71: cannot take a secret from"), "{err}");
    shows_no_secret(&err);
}
