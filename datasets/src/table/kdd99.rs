//! KDD Cup 1999, 10 % subset, as EGBAD and DAGMM use it: seven columns one-hot, 121 features in all; attacks, four rows in
//! five, are the normal class and `normal.` is the anomaly. Categories are those of the subset, written down here, so
//! that the features depend neither on the split nor on which rows a file holds.

use std::path::Path;

use super::{Column, Rows, TableOptions};
use crate::DataError;
use crate::csv_file::{number, rows};
use crate::memory::Held;

const COLUMNS: [&str; 41] = [
    "duration",
    "protocol_type",
    "service",
    "flag",
    "src_bytes",
    "dst_bytes",
    "land",
    "wrong_fragment",
    "urgent",
    "hot",
    "num_failed_logins",
    "logged_in",
    "num_compromised",
    "root_shell",
    "su_attempted",
    "num_root",
    "num_file_creations",
    "num_shells",
    "num_access_files",
    "num_outbound_cmds",
    "is_host_login",
    "is_guest_login",
    "count",
    "srv_count",
    "serror_rate",
    "srv_serror_rate",
    "rerror_rate",
    "srv_rerror_rate",
    "same_srv_rate",
    "diff_srv_rate",
    "srv_diff_host_rate",
    "dst_host_count",
    "dst_host_srv_count",
    "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate",
    "dst_host_same_src_port_rate",
    "dst_host_srv_diff_host_rate",
    "dst_host_serror_rate",
    "dst_host_srv_serror_rate",
    "dst_host_rerror_rate",
    "dst_host_srv_rerror_rate",
];
const PROTOCOLS: [&str; 3] = ["icmp", "tcp", "udp"];
const SERVICES: [&str; 66] = [
    "IRC",
    "X11",
    "Z39_50",
    "auth",
    "bgp",
    "courier",
    "csnet_ns",
    "ctf",
    "daytime",
    "discard",
    "domain",
    "domain_u",
    "echo",
    "eco_i",
    "ecr_i",
    "efs",
    "exec",
    "finger",
    "ftp",
    "ftp_data",
    "gopher",
    "hostnames",
    "http",
    "http_443",
    "imap4",
    "iso_tsap",
    "klogin",
    "kshell",
    "ldap",
    "link",
    "login",
    "mtp",
    "name",
    "netbios_dgm",
    "netbios_ns",
    "netbios_ssn",
    "netstat",
    "nnsp",
    "nntp",
    "ntp_u",
    "other",
    "pm_dump",
    "pop_2",
    "pop_3",
    "printer",
    "private",
    "red_i",
    "remote_job",
    "rje",
    "shell",
    "smtp",
    "sql_net",
    "ssh",
    "sunrpc",
    "supdup",
    "systat",
    "telnet",
    "tftp_u",
    "tim_i",
    "time",
    "urh_i",
    "urp_i",
    "uucp",
    "uucp_path",
    "vmnet",
    "whois",
];
const FLAGS: [&str; 11] = ["OTH", "REJ", "RSTO", "RSTOS0", "RSTR", "S0", "S1", "S2", "S3", "SF", "SH"];
const BINARY: [&str; 2] = ["0", "1"];
/// The subset knows no other value.
const NEVER: [&str; 1] = ["0"];

/// Categories of a column; empty where it holds numbers.
fn categories(column: usize) -> &'static [&'static str] {
    match COLUMNS[column] {
        "protocol_type" => &PROTOCOLS,
        "service" => &SERVICES,
        "flag" => &FLAGS,
        "land" | "logged_in" | "is_guest_login" => &BINARY,
        "is_host_login" => &NEVER,
        _ => &[],
    }
}

/// Told by the first row: 42 fields, a protocol in the second, a label that ends with a dot.
pub(crate) fn is_kdd99(path: &Path) -> Result<bool, DataError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(crate::csv_file::open(path)?);
    let mut record = csv::StringRecord::new();
    // A first row that cannot be read is reported by the reader that follows.
    let is_there = reader.read_record(&mut record).unwrap_or(false);
    let label = record.get(COLUMNS.len()).unwrap_or("");
    let protocol = record.get(1).unwrap_or("");
    Ok(is_there && record.len() == COLUMNS.len() + 1 && PROTOCOLS.contains(&protocol) && label.ends_with('.'))
}

/// Names given as normal replace the papers' rule.
pub(crate) fn read(path: &Path, options: &TableOptions) -> Result<Rows, DataError> {
    let mut table = Rows {
        layout: "kdd99",
        features: Vec::new(),
        columns: Vec::new(),
        values: Vec::new(),
        anomalous: Vec::new(),
        unknown: 0,
        held: Held::default(),
    };
    let held = table.held.clone();
    for (column, name) in COLUMNS.iter().enumerate() {
        match categories(column) {
            [] => {
                table.columns.push(Column::Number);
                table.features.push((*name).to_string());
            }
            values => {
                table.columns.push(Column::OneOf(values.len()));
                table.features.extend(values.iter().map(|value| format!("{name}={value}")));
            }
        }
    }
    rows(path, &held, |line, record| {
        for (column, field) in record.iter().take(COLUMNS.len()).enumerate() {
            let values = categories(column);
            let value = if values.is_empty() {
                let Ok(Some(value)) = number(field) else {
                    let field: String = field.chars().take(40).collect();
                    let reason =
                        format!("line {line}, `{}`: `{field}` is no number; repair it", COLUMNS[column]);
                    return Err(DataError::file(path, reason));
                };
                value as f32
            } else {
                let place = values.iter().position(|&value| value == field);
                table.unknown += usize::from(place.is_none());
                place.unwrap_or(values.len()) as f32
            };
            table.values.push(value);
        }
        let label = record.get(COLUMNS.len()).unwrap_or("");
        table.anomalous.push(match options.normal_labels.is_empty() {
            true => label == "normal.",
            false => !options
                .normal_labels
                .iter()
                .any(|normal| normal.trim_end_matches('.') == label.trim_end_matches('.')),
        });
        Ok(())
    })?;
    Ok(table)
}
