//! Plain text tables with aligned columns.

/// Rows under a header, each column as wide as its widest cell; the last one is left ragged.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let first: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let all = || std::iter::once(&first).chain(rows);
    let width = |column: usize| {
        all()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".to_owned(), "bé".to_owned(), "c".to_owned()],
            vec!["long".to_owned(), String::new(), "d".into()],
        ];
        assert_eq!(
            render(&["x", "y", "z"], &rows),
            "x     y   z\na     bé  c\nlong      d\n"
        );
    }
}
