//! The keys a policy may have, which of them this release gives a meaning, and what a mistyped one probably meant.

use super::diagnostic::Problem;
use super::value::quoted;

/// Whether this release can honour a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    Now,
    /// Part of the format, but without a meaning yet: refused, for ignoring it would promise a guard that is not there.
    Later,
}

use Support::{Later, Now};

/// One table of the format.
pub(super) struct Section {
    /// How messages name it.
    pub(super) title: &'static str,
    pub(super) keys: &'static [(&'static str, Support)],
}

pub(super) static ROOT: Section = Section {
    title: "the top level",
    keys: &[("version", Now), ("default_action", Now), ("rule", Now)],
};

pub(super) static RULE: Section = Section {
    title: "[[rule]]",
    keys: &[
        ("name", Now),
        ("protocol", Now),
        ("source", Now),
        ("destination", Now),
        ("destination_port", Now),
        ("endpoint", Now),
        ("reorder_window", Now),
        ("enforce", Now),
        ("expected", Later),
        ("silence", Later),
        ("on_failure", Now),
        ("srt", Now),
        ("rtp", Now),
        ("rtmp", Later),
        ("ts", Now),
    ],
};

pub(super) static SRT: Section = Section {
    title: "[rule.srt]",
    keys: &[
        ("stream_id", Now),
        ("encryption", Now),
        ("passphrase_file", Later),
        ("on_unverified", Now),
    ],
};

pub(super) static RTP: Section = Section {
    title: "[rule.rtp]",
    keys: &[("payload_type", Now), ("max_ssrc", Now)],
};

pub(super) static TS: Section = Section {
    title: "[rule.ts]",
    keys: &[
        ("continuity", Now),
        ("network_loss", Now),
        ("tr101290", Later),
        ("malformed_ts", Now),
        ("stream_types", Later),
        ("bitrate", Later),
    ],
};

pub(super) static CONTINUITY: Section = Section {
    title: "continuity of [rule.ts]",
    keys: &[
        ("max_incidents", Now),
        ("window", Now),
        ("on_exceed", Now),
        ("hold", Now),
        ("ignore_pids", Now),
    ],
};

pub(super) static NETWORK_LOSS: Section = Section {
    title: "network_loss of [rule.ts]",
    keys: &[("max_packets", Now), ("window", Now), ("on_exceed", Now), ("hold", Now)],
};

static ALL: [&Section; 7] = [&ROOT, &RULE, &SRT, &RTP, &TS, &CONTINUITY, &NETWORK_LOSS];

impl Section {
    /// What is wrong with a key standing in this section, if anything.
    pub(super) fn problem(&self, key: &str) -> Option<Problem> {
        match self.keys.iter().find(|(known, _)| *known == key) {
            Some((_, Now)) => None,
            Some((_, Later)) => Some(not_supported_yet(&format!("key {}", quoted(key)))),
            None => Some(Problem::new(
                format!("unknown key {} in {}", quoted(key), self.title),
                self.remedy(key),
            )),
        }
    }

    /// The key of this section that an unknown one is a slip for, if it looks like one.
    pub(super) fn meant(&self, key: &str) -> Option<&'static str> {
        let known = self.keys.iter().map(|(known, _)| *known);
        if known.clone().any(|known| known == key) {
            None
        } else {
            nearest(key, known)
        }
    }

    fn remedy(&self, key: &str) -> String {
        if let Some(meant) = self.meant(key) {
            return format!("did you mean {}?", quoted(meant));
        }
        let holds = |section: &&&Section| section.keys.iter().any(|(known, _)| *known == key);
        if let Some(home) = ALL.iter().find(holds) {
            return format!("it belongs to {}", home.title);
        }
        let here: Vec<_> = self.keys.iter().map(|(known, _)| *known).collect();
        format!("did you mean one of {}?", here.join(", "))
    }
}

/// The refusal of something that the format has and this release cannot honour.
pub(super) fn not_supported_yet(what: &str) -> Problem {
    Problem::new(
        format!("{what} is not supported yet"),
        "remove it: this release would have to ignore it, and a later one will honour it",
    )
}

/// The word of the list that a mistyped one is close to, if one is.
pub(super) fn nearest<'w>(typed: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    /// No key is nearly as long; a longer text is no slip of the finger.
    const LONGEST: usize = 32;
    if typed.chars().count() > LONGEST {
        return None;
    }
    let allowed = |word: &str| if word.len() <= 3 { 1 } else { 1 + word.len() / 4 };
    let near = words
        .map(|word| (distance(typed, word), word))
        .filter(|(d, word)| *d > 0 && *d <= allowed(word));
    near.min_by_key(|(d, _)| *d).map(|(_, word)| word)
}

/// Edits between two words: insertion, deletion, replacement of one character (Levenshtein). A change of letter case and
/// "-" for "_" cost nothing, but make two different words differ by at least one.
fn distance(a: &str, b: &str) -> usize {
    let plain = |s: &str| s.to_lowercase().replace(['-', ' '], "_").chars().collect::<Vec<_>>();
    let (from, to) = (plain(a), plain(b));
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, c) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        for ((above, diagonal), d) in row.iter().skip(1).zip(&row).zip(&to) {
            let left = next.last().copied().unwrap_or(i + 1);
            let replaced = diagonal + usize::from(c != d);
            next.push(replaced.min(above + 1).min(left + 1));
        }
        row = next;
    }
    let edits = row.last().copied().unwrap_or(0);
    edits.max(usize::from(a != b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, edits) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
            ("Default-Action", "default_action", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn finds_what_was_meant() {
        let words = ["name", "source", "destination", "ts"];
        assert_eq!(nearest("sources", words.into_iter()), Some("source"));
        assert_eq!(nearest("destinaton", words.into_iter()), Some("destination"));
        assert_eq!(nearest("passphrase", words.into_iter()), None);
        assert_eq!(nearest(&"source".repeat(100), words.into_iter()), None);
    }
}
