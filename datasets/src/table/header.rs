//! Whether the first row of a table names its columns, and which of the names is the labels'.

use std::collections::HashSet;

use csv::StringRecord;

use crate::csv_file::number;

/// Names that columns of labels have.
const LABELS: [&str; 10] = [
    "label",
    "labels",
    "class",
    "target",
    "anomaly",
    "is_anomaly",
    "anomalous",
    "outlier",
    "is_outlier",
    "truth",
];

/// Whether a column is named as columns of labels are.
pub(crate) fn is_label(name: &str) -> bool {
    LABELS.iter().any(|label| label.eq_ignore_ascii_case(name))
}

fn is_number(field: &str) -> bool {
    matches!(number(field), Ok(Some(_)))
}

fn is_text(field: &str) -> bool {
    number(field).is_err()
}

/// The column of labels by its name: the last, or the only one that is called so.
pub(crate) fn named_label(names: &StringRecord) -> Option<usize> {
    let called: Vec<usize> = (0..names.len()).filter(|&column| is_label(&names[column])).collect();
    match called[..] {
        [.., last] if last + 1 == names.len() || called.len() == 1 => Some(last),
        _ => None,
    }
}

/// Whether the `first` row names the columns, judged by it and the rows `below`.
///
/// Names may be numbers (years, wavelengths, the 0, 1, 2… that data frames have). What tells them apart from
/// values: a text above numbers; labels that occur again below are no name; whole numbers that rise evenly,
/// or above decimals.
pub(crate) fn is_header(first: &StringRecord, below: &[&StringRecord], label: usize) -> bool {
    let columns = || (0..first.len()).filter(|&column| column != label);
    let counts_up = |from: usize| first.iter().enumerate().all(|(i, field)| field.parse() == Ok(from + i));
    if first.len() >= 3 && !below.is_empty() && (counts_up(0) || counts_up(1)) {
        return true;
    }
    if below.iter().any(|row| row[label] == first[label]) {
        return false;
    }
    if !first.iter().any(is_number) {
        return true;
    }
    let is_above_numbers = |column: usize| {
        is_text(&first[column])
            && below.iter().any(|row| is_number(&row[column]))
            && !below.iter().any(|row| is_text(&row[column]))
    };
    if (0..first.len()).any(is_above_numbers) || is_label(&first[label]) {
        return true;
    }
    let whole: Vec<u32> = columns().filter_map(|column| first[column].parse().ok()).collect();
    let distinct: HashSet<_> = whole.iter().collect();
    if whole.len() < columns().count() || distinct.len() < whole.len() {
        return false;
    }
    let steps: HashSet<_> = whole.windows(2).map(|pair| i64::from(pair[1]) - i64::from(pair[0])).collect();
    let has_decimals = |column: usize| below.iter().any(|row| row[column].contains('.'));
    let is_above_decimals = !below.is_empty() && columns().all(has_decimals);
    (whole.len() >= 3 && steps.len() == 1) || is_above_decimals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> bool {
        let rows: Vec<StringRecord> = text.split(' ').map(|row| row.split(',').collect()).collect();
        is_header(&rows[0], &rows[1..].iter().collect::<Vec<_>>(), rows[0].len() - 1)
    }

    #[test]
    fn names_are_told_from_values() {
        for names in [
            "a,b,label 1,2,0 3,4,1",
            "a,b,state 1,2,run 3,4,normal",
            "2019,2020,2021,label 0.9,0.9,1.4,bad -0.9,0.7,0.2,good",
            "2019,2020,2021,state 1,2,3,bad 4,5,6,good",
            "0,1,2,3 0.5,0.1,0.2,1 0.5,0.1,0.2,3",
            "1,2,3,4 7,1,9,0 8,1,7,1",
            "400,410,700 0.5,0.25,0 0.5,0.75,1",
            "a,b,c",
            "Na,Mg,type 1,2,x 3,4,y",
        ] {
            assert!(judged(names), "{names}");
        }
    }

    #[test]
    fn values_are_not_taken_for_names() {
        for values in [
            "1,2,0 3,4,1 5,6,0",
            "1.5,red,0 3,4,1 5,6,0",
            "5,3,1,good 5.1,3.5,1.4,good 4.9,3.0,1.3,bad",
            "0.5,0.25,0 0.5,0.75,1 0.1,0.1,0",
            "9,4,7,rare 1,2,3,good 4,5,6,good",
            "nan,,good 1,2,good",
            "1,2,3",
        ] {
            assert!(!judged(values), "{values}");
        }
    }

    #[test]
    fn labels_are_found_by_name() {
        let found = |names: &str| named_label(&names.split(',').collect());
        assert_eq!(found("label,a,b"), Some(0));
        assert_eq!(found("a,Class,b"), Some(1));
        assert_eq!(found("class,a,label"), Some(2));
        assert_eq!(found("class,label,a"), None);
        assert_eq!(found("a,b,state"), None);
    }
}
