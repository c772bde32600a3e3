//! The convention for stream ids `#!::u=user,r=resource,m=publish` (draft-sharabayko-srt 3.2.1.3, libsrt's access control
//! guidelines): a comma-separated list of keys and values behind `#!::`.
//!
//! What is read here is told, never matched: two readers of such a list may differ, so policies match the id as it is.

use std::collections::BTreeMap;

/// What begins a stream id that follows the convention.
const PREFIX: &str = "#!::";
/// Keys of one id that are kept; an id has 512 bytes and the standard keys are seven.
const MAX_KEYS: usize = 16;

/// The keys and values of a stream id that follows the convention; `None` of any other. Standard keys are `u` (user), `r`
/// (resource), `m` (`request`, `publish` or `bidirectional`), `h` (host), `s` (session), `t` (type). A key that comes
/// again, has no value or is beyond the sixteenth is left out.
pub fn parts(id: &str) -> Option<BTreeMap<String, String>> {
    let mut parts = BTreeMap::new();
    for (key, value) in id
        .strip_prefix(PREFIX)?
        .split(',')
        .filter_map(|part| part.split_once('='))
    {
        if parts.len() < MAX_KEYS && !key.is_empty() {
            parts.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_convention_is_taken_apart() {
        let parts = parts("#!::u=admin,r=live/ch1,m=publish,x=a=b").unwrap();
        let of = |key: &str| parts.get(key).map(String::as_str);
        assert_eq!(
            (of("u"), of("r"), of("m"), of("x"), of("h")),
            (Some("admin"), Some("live/ch1"), Some("publish"), Some("a=b"), None)
        );
    }

    #[test]
    fn what_is_no_list_is_left_alone() {
        assert_eq!(parts("live/ch1"), None);
        assert_eq!(parts("#!{u:x}"), None);
        assert_eq!(parts("#!::"), Some(BTreeMap::new()));
        let odd = parts("#!::=x,flag,r=one,r=two,").unwrap();
        assert_eq!(
            odd.into_iter().collect::<Vec<_>>(),
            [("r".to_owned(), "one".to_owned())]
        );
        let many: String = (0..99).map(|n| format!("k{n}=v,")).collect();
        assert_eq!(parts(&format!("#!::{many}")).map(|parts| parts.len()), Some(MAX_KEYS));
    }
}
