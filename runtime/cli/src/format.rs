//! Values for people: columns and sizes. Pure.

/// Left-aligned columns, two spaces apart, each as wide as its widest cell. The last is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Bytes in units of 1000, with three digits at most before the point and one after.
pub(crate) fn bytes(bytes: u64) -> String {
    let (mut unit, mut scale) = ("B", 1);
    for (next, factor) in [
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ] {
        if bytes >= factor {
            (unit, scale) = (next, factor);
        }
    }
    if scale == 1 {
        format!("{bytes} B")
    } else {
        format!("{}.{} {unit}", bytes / scale, bytes % scale * 10 / scale)
    }
}

/// Words in lines of at most 100 columns, each indented by two.
pub(crate) fn wrap(words: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    let mut line = String::from(" ");
    for word in words {
        if line.len() + 1 + word.len() > 100 && line.len() > 1 {
            text.push_str(&line);
            text.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(&word);
    }
    text + &line + "\n"
}

/// What an image says of itself may hold escape sequences, which are not for this terminal, and signs that turn the order of a line around.
pub(crate) fn escape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let quoted = matches!(c, '\\' | '"' | '\'');
        if !quoted && c.escape_debug().len() > 1 {
            plain.extend(c.escape_debug())
        } else {
            plain.push(c)
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[
                row(["NAME", "SIZE"]),
                row(["shop/api:é", ""]),
                row(["a", "1 B"])
            ]),
            "NAME        SIZE\nshop/api:é\na           1 B\n"
        );
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (size, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1999, "1.9 kB"),
            (2_500_000, "2.5 MB"),
            (7_000_000_000_000, "7.0 TB"),
            (u64::MAX, "18446744.0 TB"),
        ] {
            assert_eq!(bytes(size), want);
        }
    }

    #[test]
    fn words_are_wrapped() {
        let words = std::iter::repeat_n("0123456789".to_owned(), 20);
        assert!(
            wrap(words)
                .lines()
                .all(|line| line.starts_with("  0") && line.len() <= 100)
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(escape("a\u{1b}[31mé\n"), "a\\u{1b}[31mé\\n");
        assert_eq!(escape("\u{202e}\"a\\"), "\\u{202e}\"a\\");
    }
}
