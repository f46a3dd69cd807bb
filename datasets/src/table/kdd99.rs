//! KDD Cup 1999, 10 % subset, as EGBAD and DAGMM use it: seven columns one-hot, 121 features in all; attacks,
//! four rows in five, are the normal class and `normal.` is the anomaly. Categories are those of the subset,
//! written down here, so that the features depend neither on the split nor on which rows a file holds.

use csv::StringRecord;

/// Name of the layout.
pub(crate) const LAYOUT: &str = "kdd99";
/// Share of all rows that is drawn for training; the anomalous ones among them are dropped.
pub(crate) const TRAIN_FRACTION: f64 = 0.5;
/// Test rows keep at most this share of anomalies.
pub(crate) const ANOMALY_SHARE: f64 = 0.2;

/// Names of the columns before the label.
pub(crate) const COLUMNS: [&str; 41] = [
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
pub(crate) fn categories(column: usize) -> &'static [&'static str] {
    match COLUMNS[column] {
        "protocol_type" => &PROTOCOLS,
        "service" => &SERVICES,
        "flag" => &FLAGS,
        "land" | "logged_in" | "is_guest_login" => &BINARY,
        "is_host_login" => &NEVER,
        _ => &[],
    }
}

/// Told by a row: 42 fields, a protocol in the second, a label that ends with a dot.
pub(crate) fn is_kdd99(row: &StringRecord) -> bool {
    let label = row.get(COLUMNS.len()).unwrap_or("");
    let protocol = row.get(1).unwrap_or("");
    row.len() == COLUMNS.len() + 1 && PROTOCOLS.contains(&protocol) && label.ends_with('.')
}
