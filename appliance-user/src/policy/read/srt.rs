//! `[rule.srt]`.

use toml::Spanned;
use toml::de::DeValue;

use super::{plain, protocol_section};
use crate::policy::diagnostic::{At, Collector, Problem};
use crate::policy::fields::Fields;
use crate::policy::files::{self, FileUse, SecretKind};
use crate::policy::glob::Glob;
use crate::policy::rule::{Encryption, OnUnverified, Protocol, SrtRule};
use crate::policy::{schema, value};

/// The most passphrases of one rule: a handshake's stream id is compared with each.
const MAX_PASSPHRASES: usize = 256;

/// What may happen to a session or connection whose beginning was not seen.
pub(super) const ON_UNVERIFIED: [(&str, OnUnverified); 2] =
    [("return", OnUnverified::Return), ("drop", OnUnverified::Drop)];

pub(super) fn read(
    rule: &Fields<'_, '_>,
    protocol: Option<Protocol>,
    files: &mut Vec<At<FileUse>>,
    out: &mut Collector<'_>,
) -> SrtRule {
    let defaults = SrtRule::default();
    let Some(srt) = protocol_section(rule, "srt", &schema::SRT, protocol, |p| p == Protocol::Srt, out) else {
        return defaults;
    };
    srt.refuse_empty("stream_id", "leave stream_id out to admit every stream id", out);
    let globs = srt.items("stream_id", out, value::glob);
    let encryption = [
        ("required", Encryption::Required),
        ("optional", Encryption::Optional),
        ("forbidden", Encryption::Forbidden),
    ];
    let read = SrtRule {
        stream_ids: srt.find("stream_id").map(|_| plain(globs)),
        encryption: srt
            .value("encryption", out, |v| value::choice(v, &encryption))
            .unwrap_or(defaults.encryption),
        on_unverified: srt
            .value("on_unverified", out, |v| value::choice(v, &ON_UNVERIFIED))
            .unwrap_or(defaults.on_unverified),
        key_lengths: read_key_lengths(&srt, out),
        ..defaults
    };
    let passphrases = read_passphrase_files(&srt, &read, out);
    files.extend(passphrases);
    review_encryption(&srt, &read, out);
    read
}

fn read_key_lengths(srt: &Fields<'_, '_>, out: &mut Collector<'_>) -> Option<Vec<u16>> {
    srt.refuse_empty("key_length", "leave key_length out to admit every length", out);
    let lengths = srt.items("key_length", out, |v| {
        let remedy = "write 128, 192 or 256";
        match v
            .as_integer()
            .and_then(|n| u16::from_str_radix(n.as_str(), n.radix()).ok())
        {
            Some(bits @ (128 | 192 | 256)) => Ok(bits),
            _ => Err(value::expected("a key length of AES in bits", v, remedy)),
        }
    });
    srt.find("key_length")?;
    let mut lengths = plain(lengths);
    lengths.sort_unstable();
    lengths.dedup();
    Some(lengths)
}

/// The files of passphrases: one for all sessions, or a table of them by stream id.
fn read_passphrase_files(srt: &Fields<'_, '_>, read: &SrtRule, out: &mut Collector<'_>) -> Vec<At<FileUse>> {
    let Some(value) = srt.find("passphrase_file") else {
        return Vec::new();
    };
    let DeValue::Table(table) = value.get_ref() else {
        return read_passphrase_file(value, None, out).into_iter().collect();
    };
    if table.is_empty() {
        let remedy = "write one path for all sessions, or { \"stream id\" = \"path\" }";
        out.error(&value.span(), Problem::new("passphrase_file names no file", remedy));
    }
    if table.len() > MAX_PASSPHRASES {
        let message = format!("passphrase_file names more than {MAX_PASSPHRASES} files");
        out.error(&value.span(), Problem::new(message, "use globs, or several rules"));
        return Vec::new();
    }
    let mut uses = Vec::new();
    // In the order of the file: the first glob that matches has the session.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, path) in entries {
        match value::glob_of(key.get_ref()) {
            Ok(glob) => {
                warn_never_admitted(key.span(), &glob, read, out);
                uses.extend(read_passphrase_file(path, Some(glob), out));
            }
            Err(problem) => out.error(&key.span(), problem),
        }
    }
    uses
}

fn read_passphrase_file(
    value: &Spanned<DeValue<'_>>,
    stream_id: Option<Glob>,
    out: &mut Collector<'_>,
) -> Option<At<FileUse>> {
    let remedy = match stream_id {
        None => "write the path of a file in quotes, or { \"stream id\" = \"path\" }; never the passphrase itself",
        Some(_) => "write the path of a file in quotes; never the passphrase itself",
    };
    let text = value.get_ref().as_str();
    let path = text.map_or_else(|| Err(value::expected("a path", value.get_ref(), remedy)), files::path);
    match path {
        Ok(path) => Some(At {
            span: value.span(),
            value: FileUse {
                path,
                kind: SecretKind::Passphrase { stream_id },
            },
        }),
        Err(problem) => {
            out.error(&value.span(), problem);
            None
        }
    }
}

/// Warns of a passphrase for a stream id that the rule does not admit.
fn warn_never_admitted(span: std::ops::Range<usize>, id: &Glob, read: &SrtRule, out: &mut Collector<'_>) {
    if id.is_plain() && !read.admits_stream_id(id.as_str().as_bytes()) {
        let message = format!(
            "stream_id does not admit {}, so its passphrase is never used",
            value::quoted(id.as_str())
        );
        out.warning(
            &span,
            Problem::new(message, "add it to stream_id, or remove the passphrase"),
        );
    }
}

/// What `encryption` makes of the other keys.
fn review_encryption(srt: &Fields<'_, '_>, read: &SrtRule, out: &mut Collector<'_>) {
    match read.encryption {
        Encryption::Forbidden => {
            for key in ["passphrase_file", "key_length"] {
                if let Some(span) = srt.key_span(key) {
                    let message = format!("{key} has no meaning where encryption is \"forbidden\"");
                    let remedy = format!("remove {key}, or write encryption = \"optional\" or \"required\"");
                    out.error(&span, Problem::new(message, remedy));
                }
            }
        }
        Encryption::Required if srt.find("passphrase_file").is_none() => {
            let message = "without a passphrase nothing is seen of the encrypted transport stream: [rule.ts] judges the loss of \
                           packets only";
            let remedy = "name the file of the passphrase in passphrase_file";
            out.warning(&srt.value_span("encryption"), Problem::new(message, remedy));
        }
        Encryption::Required | Encryption::Optional => {}
    }
}
