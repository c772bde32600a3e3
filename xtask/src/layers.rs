//! Checks that the pure parts stay pure: what `engine` and `policy` must not import or call.
//!
//! `cargo check -p tidegate --lib --no-default-features` proves that they build without the machine's crates. This catches
//! what would still build: files, sockets, clocks and printing from the standard library, and a look at a layer above.

use std::collections::BTreeSet;

use crate::rust_text::{code_only, without_tests};

/// A folder and the paths that must not appear in it.
pub(crate) struct Layer {
    /// Relative to the workspace.
    pub(crate) folder: &'static str,
    forbidden: &'static [&'static [&'static str]],
}

/// What does I/O, starts something, or knows the machine.
const MACHINE: &[&str] = &[
    "aya",
    "aya_log",
    "axum",
    "libc",
    "pcap_file",
    "prometheus_client",
    "rustix",
    "signal_hook",
    "tokio",
    "tracing",
    "tracing_subscriber",
    "xsk_rs",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
];
/// What asks for the time instead of being given it.
const CLOCKS: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
];
/// The crate's layers above both.
const ABOVE: &[&str] = &["crate::cli", "crate::control", "crate::io", "crate::worker"];

/// The pure layers.
pub(crate) const LAYERS: &[Layer] = &[
    Layer {
        folder: "appliance-user/src/engine",
        forbidden: &[MACHINE, CLOCKS, ABOVE],
    },
    Layer {
        folder: "appliance-user/src/policy",
        forbidden: &[MACHINE, CLOCKS, ABOVE, &["crate::engine"]],
    },
];

/// Macros that print.
const PRINTING: &[&str] = &["print!", "println!", "eprint!", "eprintln!", "dbg!"];

impl Layer {
    /// Every forbidden path in a file's text, as `line: path`, lines counted from 1.
    pub(crate) fn violations(&self, source: &str) -> Vec<String> {
        let code = without_tests(&code_only(source));
        let mut found = BTreeSet::new();
        for (line, path) in imports(&code).into_iter().chain(mentions(&code)) {
            if let Some(what) = self
                .forbidden
                .iter()
                .copied()
                .flatten()
                .find(|what| is_within(&path, what))
            {
                found.insert((line, (*what).to_owned()));
            }
        }
        for (index, line) in code.lines().enumerate() {
            let word = |text: &str| line.split(|c: char| !is_path(c) && c != '!').any(|word| word == text);
            found.extend(
                PRINTING
                    .iter()
                    .filter(|text| word(text))
                    .map(|text| (index + 1, (*text).to_owned())),
            );
        }
        found
            .into_iter()
            .map(|(line, what)| format!("{line}: {what}"))
            .collect()
    }
}

/// Whether a path is `what` or lies below it; a two-part `Type::function` also counts behind any module.
fn is_within(path: &str, what: &str) -> bool {
    let below = |path: &str| path == what || path.strip_prefix(what).is_some_and(|rest| rest.starts_with("::"));
    let is_call = what.starts_with(char::is_uppercase);
    below(path)
        || is_call
            && path
                .match_indices("::")
                .any(|(at, _)| path.get(at + 2..).is_some_and(below))
}

fn is_path(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == ':'
}

/// Paths that code names in full, outside of `use`.
fn mentions(code: &str) -> Vec<(usize, String)> {
    let words = |(index, line): (usize, &str)| {
        let paths = line.split(|c: char| !is_path(c)).filter(|word| word.contains("::"));
        paths
            .map(|word| (index + 1, word.trim_matches(':').to_owned()))
            .collect::<Vec<_>>()
    };
    code.lines().enumerate().flat_map(words).collect()
}

/// Every path that a `use` brings in, braces written out.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = code;
    let mut line = 1;
    while let Some(at) = next_use(rest) {
        let (before, from) = rest.split_at(at);
        line += before.matches('\n').count();
        let end = from.find(';').unwrap_or(from.len());
        let (statement, behind) = from.split_at(end);
        let tree: String = statement
            .trim_start_matches("use")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let mut paths = Vec::new();
        expand("", &tree, &mut paths);
        found.extend(paths.into_iter().map(|path| (line, path)));
        line += statement.matches('\n').count();
        rest = behind;
    }
    found
}

/// Where the next `use` statement starts.
fn next_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(at, _)| at).find(|at| {
        let before = code.get(..*at).and_then(|text| text.chars().next_back());
        !before.is_some_and(is_path)
    })
}

/// Writes a use tree out: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let name = tree
            .split(" as ")
            .next()
            .unwrap_or_default()
            .trim()
            .trim_start_matches("::");
        let name = name
            .trim_end_matches("::*")
            .trim_end_matches("self")
            .trim_end_matches("::");
        let path = if name.is_empty() {
            prefix.trim_end_matches("::").to_owned()
        } else {
            format!("{prefix}{name}")
        };
        return paths.push(path);
    };
    let (head, body) = tree.split_at(open);
    let head = format!("{prefix}{}", head.trim().trim_start_matches("::"));
    let mut depth = 0_usize;
    let mut part = String::new();
    for c in body.chars() {
        match c {
            '{' if depth == 0 => depth = 1,
            '}' if depth == 1 => break,
            ',' if depth == 1 => expand(&head, &std::mem::take(&mut part), paths),
            _ => {
                depth = match c {
                    '{' => depth + 1,
                    '}' => depth - 1,
                    _ => depth,
                };
                part.push(c);
            }
        }
    }
    if !part.trim().is_empty() {
        expand(&head, &part, paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> &'static Layer {
        LAYERS.iter().find(|layer| layer.folder.ends_with("engine")).unwrap()
    }

    fn policy() -> &'static Layer {
        LAYERS.iter().find(|layer| layer.folder.ends_with("policy")).unwrap()
    }

    #[test]
    fn pure_code_passes() {
        let source = "//! Never calls Instant::now or std::fs::read.\nuse std::net::{IpAddr, SocketAddr};\n\
                      use std::time::Duration;\nuse crate::policy::Policy;\n\
                      /// Like `println!`.\nfn f(now: Timestamp) -> &'static str { \"std::fs::read(aya::x)\" }\n\
                      use crate::engine::io_free; fn ayah(tokio_like: u8) { self::tokio_like::x(); }\n";
        assert_eq!(engine().violations(source), Vec::<String>::new());
    }

    #[test]
    fn tests_may_do_what_the_code_may_not() {
        let source = "fn f() {}\n#[cfg(test)]\nmod tests {\n use std::fs;\n fn t() { println!(\"x\"); }\n}\n";
        assert_eq!(engine().violations(source), Vec::<String>::new());
        assert_eq!(
            engine().violations("fn f() {}\nmod tests {\n use std::fs;\n}\n"),
            ["3: std::fs"]
        );
    }

    #[test]
    fn imports_are_found_in_whatever_shape() {
        let cases = [
            ("use std::fs;", "1: std::fs"),
            ("pub(crate) use std::fs::File as F;", "1: std::fs"),
            (
                "use std::{\n    collections::BTreeMap,\n    fs::{self, File},\n};",
                "1: std::fs",
            ),
            ("use std::net::{IpAddr, TcpStream};", "1: std::net::TcpStream"),
            ("\n\nuse aya::maps::{Array, XskMap};", "3: aya"),
            ("use ::tokio::time;", "1: tokio"),
            ("use aya;", "1: aya"),
            ("use std::time::{Duration, Instant};", "1: std::time::Instant"),
            ("use crate::io::Frame;", "1: crate::io"),
            ("use crate::{io, policy};", "1: crate::io"),
            ("use crate::worker::*;", "1: crate::worker"),
        ];
        for (source, expected) in cases {
            assert_eq!(engine().violations(source), [expected], "{source}");
        }
    }

    #[test]
    fn calls_by_full_path_are_found() {
        let cases = [
            ("fn f() { let now = Instant::now(); }", "1: Instant::now"),
            ("fn f() { let now = time::SystemTime::now(); }", "1: SystemTime::now"),
            ("fn f() {\n std::fs::read(p) }", "2: std::fs"),
            ("fn f() { libc::close(3) }", "1: libc"),
            ("fn f() { eprintln!(\"x\") }", "1: eprintln!"),
        ];
        for (source, expected) in cases {
            assert_eq!(engine().violations(source), [expected], "{source}");
        }
    }

    #[test]
    fn the_policy_does_not_know_the_engine() {
        assert_eq!(
            policy().violations("use crate::engine::Timestamp;"),
            ["1: crate::engine"]
        );
        assert!(engine().violations("use crate::policy::Policy;").is_empty());
    }
}
