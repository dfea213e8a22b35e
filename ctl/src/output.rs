//! Tables and lines for people.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Row};

/// A table without lines: a heading in capitals, and two spaces between columns.
pub(crate) struct Table {
    headings: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns; those whose heading begins with `>` are aligned to the right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self {
            right: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            headings: headings.iter().map(|heading| heading.trim_start_matches('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one text a column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Takes a column out, counted from 0.
    pub(crate) fn remove_column(&mut self, column: usize) {
        self.headings.remove(column);
        self.right.remove(column);
        for row in &mut self.rows {
            row.remove(column);
        }
    }

    /// The text, one line a row; `nothing` if there is no row.
    pub(crate) fn text(self, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        self.render(None)
    }

    /// The text, its last column broken into lines so that `width` holds all.
    pub(crate) fn wrapped(self, width: Option<u16>) -> String {
        self.render(width)
    }

    fn render(self, width: Option<u16>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        if self.headings.iter().any(|heading| !heading.is_empty()) {
            table.set_header(Row::from(self.headings.clone()));
        }
        for row in self.rows {
            // A dash keeps the columns countable for `awk`.
            table.add_row(row.into_iter().map(|text| {
                let text = if text.is_empty() { "-".to_owned() } else { text };
                Cell::new(text)
            }));
        }
        for (column, right) in table.column_iter_mut().zip(self.right) {
            column.set_padding((0, 2));
            if right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let text = table.to_string();
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

/// Names and values, one a line, the values below each other.
pub(crate) fn details(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    lines
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

/// The text of something, or nothing.
pub(crate) fn optional(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// The name that a value has in the configuration and in JSON.
pub(crate) fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let mut table = Table::new(&["NAME", ">COUNT", "NOTE"]);
        table.row(["a".to_owned(), "1".to_owned(), String::new()]);
        table.row(["longer".to_owned(), "1000".to_owned(), "x y".to_owned()]);
        let text = table.text("none");
        assert_eq!(text, "NAME    COUNT  NOTE\na           1  -\nlonger   1000  x y\n");
        assert_eq!(Table::new(&["NAME"]).text("no names"), "no names\n");
    }

    #[test]
    fn only_a_terminal_breaks_lines() {
        let table = |width| {
            let mut table = Table::new(&["NAME", "MEANING"]);
            table.row(["a".to_owned(), "word ".repeat(30)]);
            table.wrapped(width)
        };
        assert_eq!(table(None).lines().count(), 2);
        assert!(table(Some(60)).lines().all(|line| line.len() <= 60), "{}", table(Some(60)));
    }
}
