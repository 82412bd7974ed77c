//! Rows for spreadsheets and accounting programs, as RFC 4180 has it: texts are quoted, ends of rows are CR LF.
//!
//! Texts are somebody else's: a cell that a spreadsheet would take for a formula begins with an apostrophe. Figures are ours and do not.

/// What stands in a cell.
pub(crate) enum Cell<'a> {
    /// Words, whoever wrote them.
    Text(&'a str),
    /// Figures, dates and ids, made here.
    Figure(String),
}

/// Appends a row.
pub(crate) fn row(out: &mut String, cells: &[Cell<'_>]) {
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        match cell {
            Cell::Text(text) => {
                // OWASP's list of what begins a formula in one of the spreadsheets.
                let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '|', '%']);
                let guard = if is_formula { "'" } else { "" };
                out.push_str(&format!("\"{guard}{}\"", text.replace('"', "\"\"")));
            }
            Cell::Figure(figure) => out.push_str(figure),
        }
    }
    out.push_str("\r\n");
}

/// Seconds with three decimals.
pub(crate) fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_and_never_formulas() {
        let check = |text: &str, expected: &str| {
            let mut out = String::new();
            row(&mut out, &[Cell::Text(text), Cell::Figure("-1".to_owned())]);
            assert_eq!(out, format!("{expected},-1\r\n"));
        };
        check("plain", "\"plain\"");
        check("a,\"b\"\r\nc", "\"a,\"\"b\"\"\r\nc\"");
        for hostile in ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "|x", "%x"] {
            check(hostile, &format!("\"'{hostile}\""));
        }
        assert_eq!([seconds(0), seconds(-1), seconds(61_234)], ["0.000", "-0.001", "61.234"]);
    }
}
