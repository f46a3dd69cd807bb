//! Aligned text for people: tables, and numbers with units.

use ganomede_host::line;

/// Columns of text under headings, each as wide as its widest cell.
pub(crate) struct TextTable {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Headings that begin with `>` align their column to the right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: vec![] }
    }

    /// Cells may be names from anywhere: they show on one line.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| line(&cell).into_owned()).collect());
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn text(&self) -> String {
        let width = |text: &str| text.chars().count();
        let right: Vec<bool> = self.headings.iter().map(|h| h.starts_with('>')).collect();
        let headings = self.headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let widest =
            |c: usize| lines.iter().filter_map(|l| l.get(c)).map(|cell| width(cell)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..right.len()).map(widest).collect();
        let joined = |cells: &Vec<String>| {
            let padded = cells.iter().enumerate().map(|(c, cell)| {
                let gap = " ".repeat(widths[c] - width(cell));
                if right[c] { gap + cell } else { cell.clone() + &gap }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        lines.into_iter().map(joined).collect::<Vec<_>>().join("\n")
    }
}

/// `1.21 GB`: three digits and a decimal unit.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count as f64, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `128 MiB`: limits and memory sizes are powers of two.
pub(crate) fn binary(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let scale = if count == 0 { 0 } else { (count.ilog2() / 10) as usize };
    let value = count as f64 / 1024_f64.powi(scale as i32);
    let number = if value.fract() == 0.0 { format!("{value}") } else { digits(value) };
    format!("{number} {}", units[scale])
}

/// `12.3 GFLOP`.
pub(crate) fn flops(count: u64) -> String {
    scaled(count as f64, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"])
}

/// `3.21 ms` or `12.3 s`.
pub(crate) fn milliseconds(ms: f64) -> String {
    if ms >= 1e4 {
        format!("{} s", digits(ms / 1e3))
    } else if ms >= 1.0 {
        format!("{} ms", digits(ms))
    } else {
        format!("{} µs", digits(ms * 1e3))
    }
}

/// Three significant digits where there are fewer before the point.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

fn scaled(value: f64, units: &[&str]) -> String {
    let mut scale = 0;
    let mut value = value;
    while value >= 999.5 && scale + 1 < units.len() {
        value /= 1e3;
        scale += 1;
    }
    let number = if scale == 0 { format!("{value:.0}") } else { digits(value) };
    format!("{number} {}", units[scale])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_234_567), "1.23 MB");
        assert_eq!(bytes(999_600), "1.00 MB");
        assert_eq!((binary(128 << 20), binary(u64::MAX)), ("128 MiB".to_owned(), "16 EiB".to_owned()));
        assert_eq!(flops(99_960_000_000), "100 GFLOP");
        assert_eq!(milliseconds(0.25), "250 µs");
        assert_eq!(milliseconds(12_345.0), "12.3 s");
    }

    #[test]
    fn columns_align() {
        let mut table = TextTable::new(&["name", ">ms"]);
        table.row(["é".to_owned(), "1.5".to_owned()]);
        table.row(["longer".to_owned(), "10".to_owned()]);
        assert_eq!(table.text(), "name     ms\né       1.5\nlonger   10");
    }
}
