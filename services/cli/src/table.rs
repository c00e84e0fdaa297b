//! Columns as wide as what stands in them.

use crate::paint::{Paint, Tone};

/// A text and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A cell in the terminal's own colour.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone: None,
        }
    }

    /// A coloured cell.
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone: Some(tone),
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// `head` and `rows` with two spaces between columns and none at the end of a line.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[Cell; N]], paint: Paint) -> String {
    let head = head.map(|title| Cell::toned(Tone::Title, title));
    let lines = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        lines()
            .filter_map(|line| line.get(column))
            .map(Cell::width)
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    lines()
        .map(|line| format!("{}\n", render(line, &widths, paint)))
        .collect()
}

fn render(line: &[Cell], widths: &[usize], paint: Paint) -> String {
    let last = line.len().saturating_sub(1);
    let cells = line
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| {
            let width = if column == last { 0 } else { *width };
            match cell.tone {
                Some(tone) => paint.text(tone, cell.text.as_str(), width).to_string(),
                None => format!("{:width$}", cell.text),
            }
        });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Color;

    #[test]
    fn columns_fit_their_widest_cell() {
        let rows = [
            [Cell::plain("é"), Cell::toned(Tone::Good, "x")],
            [Cell::plain("long"), Cell::plain("")],
        ];
        let text = table(["A", "LAST"], &rows, Paint::for_stdout(Color::Never));
        assert_eq!(text, "A     LAST\né     x\nlong\n");
    }
}
