//! Just enough reading of Rust to check sources by their words: comments and literals blanked, test code cut out.
//! Line numbers stay what they were.

/// The text with comments and the insides of string and character literals replaced by spaces.
pub(crate) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let rest = chars.get(at..).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|i| chars.get(i)).copied();
        let skipped = skipped_length(rest, before);
        if skipped == 0 {
            out.push(c);
            at += 1;
        } else {
            let blanked = rest.iter().take(skipped).map(|c| if *c == '\n' { '\n' } else { ' ' });
            out.extend(blanked);
            at += skipped;
        }
    }
    out
}

/// How many characters from here on are a comment or a literal; 0 when this is code.
fn skipped_length(rest: &[char], before: Option<char>) -> usize {
    match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => 1 + quoted(rest.get(1..).unwrap_or_default(), '"'),
        ['r', '"' | '#', ..] if !before.is_some_and(|c| is_word(c) && c != 'b' && c != 'c') => raw_string(rest),
        ['\'', '\\', ..] => 1 + quoted(rest.get(1..).unwrap_or_default(), '\''),
        // A lifetime has no closing quote behind one character.
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest.get(at..).unwrap_or_default() {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a literal's inside and its closing quote.
fn quoted(inside: &[char], close: char) -> usize {
    let mut at = 0;
    while let Some(&c) = inside.get(at) {
        match c {
            '\\' => at += 2,
            _ if c == close => return at + 1,
            _ => at += 1,
        }
    }
    inside.len()
}

/// A raw string from its `r` on; 0 for a raw identifier.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let body = 2 + hashes;
    let ends = |at: &usize| {
        rest.get(*at) == Some(&'"') && rest.iter().skip(at + 1).take_while(|c| **c == '#').count() >= hashes
    };
    (body..rest.len()).find(ends).map_or(rest.len(), |at| at + 1 + hashes)
}

/// Code (see [`code_only`]) with every item behind `#[cfg(test)]` blanked.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (kept, from_mark) = rest.split_at(at);
        out.push_str(kept);
        let (item, behind) =
            from_mark.split_at(MARK.len() + item_length(from_mark.get(MARK.len()..).unwrap_or_default()));
        out.extend(item.chars().filter(|c| *c == '\n'));
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// The length of the item at the start of `code`: up to its semicolon, or to the brace that closes its first one.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether `word` stands in the code as a whole word.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let source = "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* nested */ unsafe */ let b = r#\"unsafe \"x\"#;\nlet c = '\"'; let d: &'static str = e;\nlet f = '\\''; g";
        let code = code_only(source);
        assert!(!code.contains("unsafe"), "{code}");
        assert_eq!(code.lines().count(), source.lines().count());
        assert_eq!(code.chars().count(), source.chars().count());
        for kept in [
            "let a =",
            "let b =",
            "let c =",
            "let d: &'static str = e;",
            "let f =",
            "g",
        ] {
            assert!(code.contains(kept), "{kept} is gone from {code}");
        }
    }

    #[test]
    fn raw_identifiers_byte_strings_and_open_ends() {
        assert_eq!(
            code_only("r#type + br\"unsafe\" + x"),
            format!("r#type + b{} + x", " ".repeat(9))
        );
        assert_eq!(code_only("var\"s\""), "var   ");
        assert_eq!(code_only("a /* open").trim(), "a");
        assert_eq!(code_only("a \"open").trim(), "a");
    }

    #[test]
    fn test_items_are_cut_and_lines_stay() {
        let code = "use a;\n#[cfg(test)]\nmod tests {\n  fn x() { y }\n}\nfn z() {}\n#[cfg(test)]\nuse q;\nlast";
        let cut = without_tests(code);
        assert_eq!(cut.lines().count(), code.lines().count());
        assert!(cut.contains("use a;") && cut.contains("fn z() {}") && cut.contains("last"));
        assert!(!cut.contains("fn x") && !cut.contains("use q"));
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("an unsafe {", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
        assert!(!has_word("is_unsafe", "unsafe"));
    }
}
