//! The keys a policy may have, and what a mistyped one probably meant.

use super::diagnostic::Problem;
use super::value::quoted;

/// One table of the format.
pub(super) struct Section {
    /// How messages name it.
    pub(super) title: &'static str,
    pub(super) keys: &'static [&'static str],
}

pub(super) static ROOT: Section = Section {
    title: "the top level",
    keys: &["version", "default_action", "rule"],
};

pub(super) static RULE: Section = Section {
    title: "[[rule]]",
    keys: &[
        "name",
        "protocol",
        "source",
        "destination",
        "destination_port",
        "endpoint",
        "reorder_window",
        "enforce",
        "expected",
        "silence",
        "raise_after",
        "clear_after",
        "on_failure",
        "srt",
        "rtp",
        "rtmp",
        "ts",
    ],
};

pub(super) static SRT: Section = Section {
    title: "[rule.srt]",
    keys: &[
        "stream_id",
        "encryption",
        "key_length",
        "passphrase_file",
        "on_unverified",
    ],
};

pub(super) static RTP: Section = Section {
    title: "[rule.rtp]",
    keys: &["payload_type", "max_ssrc", "paths"],
};

pub(super) static PATH: Section = Section {
    title: "a path of [rule.rtp]",
    keys: &["source", "destination", "destination_port"],
};

pub(super) static RTMP: Section = Section {
    title: "[rule.rtmp]",
    keys: &["application", "stream_key_file", "on_unverified"],
};

pub(super) static TS: Section = Section {
    title: "[rule.ts]",
    keys: &[
        "continuity",
        "network_loss",
        "malformed_ts",
        "tr101290",
        "stream_types",
        "pids",
        "bitrate",
        "null_packets",
        "scte35",
    ],
};

pub(super) static CONTINUITY: Section = Section {
    title: "continuity of [rule.ts]",
    keys: &["max_incidents", "window", "on_exceed", "hold", "ignore_pids"],
};

pub(super) static NETWORK_LOSS: Section = Section {
    title: "network_loss of [rule.ts]",
    keys: &["max_packets", "window", "on_exceed", "hold"],
};

pub(super) static TR101290: Section = Section {
    title: "tr101290 of [rule.ts]",
    keys: &[
        "priority",
        "max_violations",
        "window",
        "on_exceed",
        "hold",
        "thresholds",
    ],
};

pub(super) static THRESHOLDS: Section = Section {
    title: "thresholds of tr101290",
    keys: &[
        "pat",
        "pmt",
        "pid",
        "pcr_repetition",
        "pcr_discontinuity",
        "pcr_accuracy",
        "pts",
        "nit",
        "sdt",
        "eit",
        "tdt",
        "section_gap",
        "unreferenced_pid",
    ],
};

pub(super) static STREAM_TYPES: Section = Section {
    title: "stream_types of [rule.ts]",
    keys: &["allowed", "on_exceed", "hold"],
};

pub(super) static PIDS: Section = Section {
    title: "pids of [rule.ts]",
    keys: &["allowed", "required", "on_exceed", "hold"],
};

pub(super) static BITRATE: Section = Section {
    title: "bitrate of [rule.ts]",
    keys: &["min", "max", "window", "on_exceed", "hold"],
};

pub(super) static NULL_PACKETS: Section = Section {
    title: "null_packets of [rule.ts]",
    keys: &["max_percent", "window", "on_exceed", "hold"],
};

pub(super) static SCTE35: Section = Section {
    title: "scte35 of [rule.ts]",
    keys: &["bad_crc", "unannounced", "min_preroll", "on_exceed", "hold"],
};

pub(super) static ALL: [&Section; 16] = [
    &ROOT,
    &RULE,
    &SRT,
    &RTP,
    &PATH,
    &RTMP,
    &TS,
    &CONTINUITY,
    &NETWORK_LOSS,
    &TR101290,
    &THRESHOLDS,
    &STREAM_TYPES,
    &PIDS,
    &BITRATE,
    &NULL_PACKETS,
    &SCTE35,
];

impl Section {
    /// What is wrong with a key standing in this section, if anything.
    pub(super) fn problem(&self, key: &str) -> Option<Problem> {
        (!self.keys.contains(&key)).then(|| {
            let message = format!("unknown key {} in {}", quoted(key), self.title);
            Problem::new(message, self.remedy(key))
        })
    }

    /// The key of this section that an unknown one is a slip for, if it looks like one.
    pub(super) fn meant(&self, key: &str) -> Option<&'static str> {
        if self.keys.contains(&key) {
            None
        } else {
            nearest(key, self.keys.iter().copied())
        }
    }

    fn remedy(&self, key: &str) -> String {
        if let Some(meant) = self.meant(key) {
            return format!("did you mean {}?", quoted(meant));
        }
        let holds = |section: &&&Section| section.keys.contains(&key);
        if let Some(home) = ALL.iter().find(holds) {
            return format!("it belongs to {}", home.title);
        }
        format!("did you mean one of {}?", self.keys.join(", "))
    }
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
    // Of words as near, the one that differs in letter case only.
    near.min_by_key(|(d, word)| (*d, !word.eq_ignore_ascii_case(typed)))
        .map(|(_, word)| word)
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
