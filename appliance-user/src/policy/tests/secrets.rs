//! The files that a policy refers to: what is made of them, and that nothing of them is ever shown.

use std::path::Path;

use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::policy::{Policy, PolicyErrors, RuleId, SecretKind, Unreadable, parse};

const TEXT: &str = r##"version = 1
default_action = "drop"

[[rule]]
name = "plain"
protocol = "rtp"
source = ["192.0.2.0/24"]

[[rule]]
name = "contribution"
protocol = "srt"
source = ["192.0.2.0/24"]
destination = ["10.0.0.1"]
[rule.srt]
stream_id = ["live/*"]
encryption = "required"
key_length = [256, 128, 256]
[rule.srt.passphrase_file]
"live/2*" = "/etc/tidegate/second"
"live/1" = "first"
"live/*" = "/etc/tidegate/rest"

[[rule]]
name = "studio"
protocol = "srt"
source = ["198.51.100.0/24"]
destination = ["10.0.0.1"]
srt = { passphrase_file = "studio" }

[[rule]]
name = "social"
protocol = "rtmp"
source = ["198.51.100.0/24"]
destination = ["10.0.0.1"]
destination_port = [1935]
rtmp = { application = ["live", "live/*"], stream_key_file = "keys" }
"##;

fn parsed() -> Policy {
    parse("p.toml", TEXT).unwrap_or_else(|errors| panic!("refused:\n{errors}"))
}

/// The policy with these contents; a path that is not among them cannot be read.
fn with(contents: &[(&str, &[u8])]) -> Result<Policy, PolicyErrors> {
    parsed().with_secrets(&mut |file| {
        let found = contents.iter().find(|(path, _)| file.path() == Path::new(path));
        let (_, content) = found.ok_or_else(|| Unreadable {
            message: "no such file".to_owned(),
            remedy: "make it".to_owned(),
        })?;
        Ok(Zeroizing::new(content.to_vec()))
    })
}

const SOUND: [(&str, &[u8]); 5] = [
    ("first", b"passphrase of the first"),
    ("/etc/tidegate/second", b"passphrase of the second\n"),
    ("/etc/tidegate/rest", b"passphrase of the rest\r\n"),
    ("studio", b" spaces belong to it "),
    ("keys", b"# nightly\r\n\r\nabc-*\n  d?f  \n#ghi\n\\#jkl"),
];

fn with_one(path: &str, content: &[u8]) -> Result<Policy, PolicyErrors> {
    let mut contents = SOUND;
    for entry in contents.iter_mut().filter(|(known, _)| *known == path) {
        entry.1 = content;
    }
    with(&contents)
}

#[test]
fn what_is_referred_to_stands_in_the_order_of_the_file() {
    let policy = parsed();
    assert!(
        policy.lacks_secrets()
            && !parse("p.toml", "version = 1\ndefault_action = \"drop\"")
                .unwrap()
                .lacks_secrets()
    );
    let told: Vec<_> = policy
        .files()
        .map(|file| {
            let kind = match file.kind() {
                SecretKind::Passphrase { stream_id: Some(id) } => id.to_string(),
                SecretKind::Passphrase { stream_id: None } => "everyone".to_owned(),
                SecretKind::StreamKeys => "keys".to_owned(),
            };
            (file.rule(), file.path().to_str().unwrap(), kind)
        })
        .collect();
    let expected = [
        (1, "/etc/tidegate/second", "live/2*"),
        (1, "first", "live/1"),
        (1, "/etc/tidegate/rest", "live/*"),
        (2, "studio", "everyone"),
        (3, "keys", "keys"),
    ];
    assert_eq!(
        told,
        expected.map(|(rule, path, kind)| (RuleId(rule), path, kind.to_owned()))
    );
}

#[test]
fn before_the_files_are_read_no_stream_key_is_admitted() {
    let policy = parsed();
    let [_, contribution, studio, social] = policy.rules() else {
        panic!("four rules")
    };
    assert!(contribution.srt.passphrases.is_empty() && studio.srt.passphrases.is_empty());
    assert_eq!(contribution.srt.key_lengths.as_deref(), Some(&[128, 256][..]));
    assert!(contribution.srt.admits_key_length(128) && !contribution.srt.admits_key_length(192));
    assert!(studio.srt.admits_key_length(192));
    assert!(!social.rtmp.admits_stream_key(b"abc-1") && !social.rtmp.admits_stream_key(b""));
    assert!(social.rtmp.admits_application(b"live/x") && !social.rtmp.admits_application(b"vod"));
}

#[test]
fn contents_reach_their_rule() {
    let policy = with(&SOUND).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!policy.lacks_secrets());
    let [plain, contribution, studio, social] = policy.rules() else {
        panic!("four rules")
    };
    assert!(plain.srt.passphrases.is_empty());
    let of = |id| {
        contribution
            .srt
            .passphrases
            .for_stream_id(id)
            .map(|p| p.as_bytes().to_vec())
    };
    assert_eq!(of(Some("live/1")), Some(b"passphrase of the first".to_vec()));
    assert_eq!(of(Some("live/2b")), Some(b"passphrase of the second".to_vec()));
    assert_eq!(of(Some("live/3")), Some(b"passphrase of the rest".to_vec()));
    assert_eq!((of(Some("vod")), of(None)), (None, None));
    for id in [None, Some(""), Some("anything")] {
        let found = studio.srt.passphrases.for_stream_id(id).map(|p| p.as_bytes());
        assert_eq!(found, Some(&b" spaces belong to it "[..]));
    }
    for (key, admitted) in [
        ("abc-1", true),
        ("def", true),
        ("#jkl", true),
        ("ghi", false),
        ("# nightly", false),
        ("", false),
    ] {
        assert_eq!(social.rtmp.admits_stream_key(key.as_bytes()), admitted, "{key}");
    }
    let again = policy.clone();
    assert_eq!(again.rules(), policy.rules());
    assert_ne!(parsed().rules(), policy.rules());
}

#[test]
fn every_file_that_does_not_fit_is_told_where_the_policy_names_it() {
    let errors = with(&[]).expect_err("nothing to be read").to_string();
    let lines: Vec<_> = errors.lines().collect();
    let expected = [(19, 13), (20, 12), (21, 12), (28, 27), (36, 62)];
    assert_eq!(
        lines,
        expected.map(|(line, column)| format!("p.toml:{line}:{column}: no such file; make it"))
    );
}

#[test]
fn contents_that_do_not_fit() {
    let long = vec![b'a'; 5000];
    let many = "a\n".repeat(1025);
    let table: &[(&str, &[u8], &str)] = &[
        ("first", b"", "the file \"first\" holds fewer than the 10 bytes"),
        ("first", b"ninebytes\n", "holds fewer than the 10 bytes"),
        ("first", &[b'x'; 80], "holds more than the 79 bytes"),
        ("first", &long, "is longer than 4096 bytes"),
        ("first", b"line one is long\nline two\n", "has more than one line"),
        ("first", b"passphrase one\n\n", "has more than one line"),
        ("first", b"pass\0phrase one", "has more than one line"),
        ("first", b"\xEF\xBB\xBFpassphrase", "starts with a byte order mark"),
        ("keys", b"", "lists no stream key, so nobody could publish"),
        ("keys", b"# only this\n\n", "lists no stream key"),
        ("keys", b"good\n\xFFbad\n", "has bytes that are not UTF-8 in line 2"),
        ("keys", b"good\nx[z-a]\n", "has a range that runs backwards in line 2"),
        ("keys", b"[open", "has \"[\" without its \"]\" in line 1"),
        ("keys", b"x[]", "has an empty set between"),
        ("keys", b"x\\", "has a lone"),
        ("keys", &vec![b'k'; 513], "has a key that is too long in line 1"),
        ("keys", many.as_bytes(), "has more than 1024 stream keys in line 1025"),
        ("keys", &vec![b'\n'; (64 << 10) + 1], "is longer than 65536 bytes"),
    ];
    for (path, content, part) in table {
        let told = with_one(path, content).expect_err(part).to_string();
        assert!(told.contains(part), "{part:?} is not in {told}");
        let place = if *path == "first" {
            "p.toml:20:12: "
        } else {
            "p.toml:36:62: "
        };
        assert!(told.starts_with(place) && told.lines().count() == 1, "{told}");
    }
    assert!(with_one("first", b"tenletters").is_ok());
    assert!(with_one("keys", "a\n".repeat(1024).as_bytes()).is_ok());
}

#[test]
fn neither_description_nor_dump_shows_a_secret() {
    let policy = with(&SOUND).unwrap();
    let description = policy.describe().to_string();
    for text in [
        &description,
        &format!("{policy:?}"),
        &format!("{policy:#?}"),
        &format!("{:?}", policy.rules()),
    ] {
        for secret in ["passphrase of", "spaces belong", "abc-", "d?f", "jkl"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        // A list of bytes would be a dump of it, too.
        assert!(!text.contains("112, 97, 115, 115"), "{text}");
    }
    for part in [
        "  passphrase_file   \"/etc/tidegate/second\" for \"live/2*\": read, sound\n",
        "  passphrase_file   \"studio\" for every session: read, sound\n",
        "  key_length        128, 256\n",
        "  application       \"live\", \"live/*\"\n",
        "  stream_key_file   \"keys\": read, sound\n",
    ] {
        assert!(description.contains(part), "{part:?} is missing in\n{description}");
    }
    let unread = parsed().describe().to_string();
    assert!(unread.contains("  stream_key_file   \"keys\": not read\n"), "{unread}");
}

proptest! {
    /// Whatever a file holds: it is taken or refused, and the refusal shows nothing of it.
    #[test]
    fn arbitrary_contents_are_taken_or_refused(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let secret: String = content.iter().map(|byte| char::from(b'A' + byte % 26)).chain("QXZQXZQXZQ".chars()).collect();
        for path in ["first", "keys"] {
            let _ = with_one(path, &content);
            let torn = format!("{secret}[\n{secret}[");
            if let Err(errors) = with_one(path, torn.as_bytes()) {
                prop_assert!(!errors.to_string().contains("QXZ"), "{errors}");
            }
        }
        let fits = (10..=79).contains(&content.len()) && !content.iter().any(|b| matches!(b, 0 | b'\n' | b'\r'));
        if fits && !content.starts_with(b"\xEF\xBB\xBF") {
            let policy = with_one("studio", &content).unwrap();
            let passphrase = policy.rules()[2].srt.passphrases.for_stream_id(None).map(|p| p.as_bytes().to_vec());
            prop_assert_eq!(passphrase, Some(content));
        }
    }
}
