//! Lines of cells as a table in Markdown.

/// The table: a head, then a line for each row, columns as wide as their widest cell.
pub fn render<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let mut line = String::from("|");
        for (cell, width) in cells.iter().zip(widths) {
            line.push_str(&format!(" {cell}{} |", " ".repeat(width - cell.chars().count())));
        }
        line + "\n"
    };
    let rule = widths.map(|width| "-".repeat(width));
    let mut text = line(head);
    text += &line(rule.each_ref().map(String::as_str));
    for row in rows {
        text += &line(row.each_ref().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["≤ 3×".to_owned(), "yes".to_owned()], ["a".to_owned(), "NO".to_owned()]];
        let expected = "| goal | met |\n| ---- | --- |\n| ≤ 3× | yes |\n| a    | NO  |\n";
        assert_eq!(super::render(["goal", "met"], &rows), expected);
    }
}
