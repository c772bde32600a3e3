//! The picture in README: what a run printed, as an SVG of a terminal.
//!
//! `cargo xtask demo | tee target/demo/printed.txt`, then
//! `target/release/tidegate-demo --draw target/demo/printed.txt > perf/demo/demo.svg`.

use std::fmt::Write as _;

/// What was typed to get there.
const PROMPT: &str = "$ cargo xtask demo";
/// A character's width in pixels at the picture's font size: each line is stretched to its characters, since fonts differ.
const CHARACTER: f64 = 7.8;
/// Pixels from line to line.
const STEP: f64 = 17.0;
/// Pixels left and right of the text.
const MARGIN: f64 = 18.0;
/// Where the first line stands.
const TOP: f64 = 44.0;
/// Of an empty picture.
const LEAST_WIDTH: f64 = 480.0;

const BACKGROUND: &str = "#11161d";
const PLAIN: &str = "#d5dde5";
const TYPED: &str = "#7fb4ff";
const HEADING: &str = "#8b98a5";
const GOOD: &str = "#9fd8a4";
const NOTABLE: &str = "#f0c674";
const BAD: &str = "#ff8f80";

/// Draws what a run printed to something that is no terminal: of its tables only the last.
pub(crate) fn svg(printed: &str) -> String {
    let lines: Vec<&str> = std::iter::once(PROMPT).chain(last_table(printed)).collect();
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let width = (longest as f64 * CHARACTER + 2.0 * MARGIN).max(LEAST_WIDTH).ceil();
    let height = TOP + lines.len() as f64 * STEP;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for x in [18, 36, 54] {
        let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"16\" r=\"5\" fill=\"#3a4450\"/>");
    }
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let _ = writeln!(
            out,
            "<text x=\"{MARGIN}\" y=\"{}\" fill=\"{}\" xml:space=\"preserve\" textLength=\"{:.1}\" \
             lengthAdjust=\"spacingAndGlyphs\">{}</text>",
            TOP + place as f64 * STEP,
            colour(line),
            line.chars().count() as f64 * CHARACTER,
            line.replace('&', "&amp;").replace('<', "&lt;")
        );
    }
    out.push_str("</svg>\n");
    out
}

/// The lines of a run without the tables that a later one replaces on a terminal.
fn last_table(printed: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    let begins = |line: &&str| line.contains(" s  protocol ");
    let first = lines.iter().position(begins).unwrap_or(lines.len());
    let last = lines.iter().rposition(begins).unwrap_or(lines.len());
    let mut kept = lines;
    kept.drain(first..last);
    kept.into_iter()
}

fn colour(line: &str) -> &'static str {
    let is = |part| line.contains(part);
    match line.split_whitespace().next() {
        Some("$") => TYPED,
        Some("ok") => GOOD,
        Some("FAILED" | "FAIL") => BAD,
        _ if is(" s  protocol ") || is("source / network") => HEADING,
        _ if is(" degraded ") => NOTABLE,
        _ if is(" blocked ") => BAD,
        _ => PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_table_is_drawn_and_markup_is_escaped() {
        let printed = "begun\n\n   0 s  protocol  rule\n        rtp   old\n   5 s  protocol  rule\n        rtp   faulty  \
                       degraded  2.21\n\n  ok    a < b & c\n";
        let picture = svg(printed);
        assert!(
            !picture.contains("old") && picture.matches(" s  protocol ").count() == 1,
            "{picture}"
        );
        assert!(
            picture.contains("a &lt; b &amp; c") && picture.contains(">begun<"),
            "{picture}"
        );
        for colour in [TYPED, HEADING, NOTABLE, GOOD] {
            assert!(picture.contains(colour), "{colour}");
        }
    }

    #[test]
    fn nothing_printed_is_a_picture_too() {
        assert!(svg("").ends_with("</svg>\n"));
    }
}
