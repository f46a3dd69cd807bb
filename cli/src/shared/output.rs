//! What is written to stdout and stderr.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ganomede_host::{line, lines};

use super::CliError;

/// Whether another process of the same work speaks for this one.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Says nothing from here on, but why the program fails.
pub(crate) fn silence(is: bool) {
    SILENT.store(is, Ordering::Relaxed);
}

/// Whether it says nothing.
pub(crate) fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// Writes lines of results to stdout, with nothing in them that acts on a terminal; a reader that has gone
/// away ends the output, not the program.
pub(crate) fn say(text: &str) -> Result<(), CliError> {
    print(&lines(text))
}

/// Writes a warning about results to stdout, in red on a terminal (and not where NO_COLOR is set).
pub(crate) fn say_warning(text: &str) -> Result<(), CliError> {
    let text = format!("warning: {}", lines(text));
    let in_colour =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    print(&if in_colour { format!("\x1b[1;31m{text}\x1b[0m") } else { text })
}

fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    unless_closed(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes to stdout what another program reads, as it is.
pub(crate) fn say_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    unless_closed(out.write_all(bytes).and_then(|()| out.flush()))
}

/// What became of a write to stdout: a full disk is a failure, a reader that has seen enough is none.
pub(crate) fn unless_closed(printed: std::io::Result<()>) -> Result<(), CliError> {
    match printed {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::machine(format!(
            "cannot write to standard output: {e}; check the space where it goes"
        ))),
        _ => Ok(()),
    }
}

/// Writes lines of log to stderr, with nothing in them that acts on a terminal. A log that cannot be written
/// (full disk, closed pipe) never ends the work.
pub(crate) fn note(text: &str) {
    if !is_silent() {
        complain(text);
    }
}

/// As [`note`], also where another process speaks: of what is this process's own, as why it fails.
pub(crate) fn complain(text: &str) {
    // In one piece: other processes may write to the same terminal.
    let _ = std::io::stderr().write_all(format!("{}\n", lines(text)).as_bytes());
}

/// A path as a part of a line.
pub(crate) fn shown(path: &std::path::Path) -> String {
    line(&path.to_string_lossy()).into_owned()
}

/// One JSON document on stdout.
pub(crate) fn say_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    say_bytes(json_text(value)?.as_bytes())
}

/// A JSON document with the end of its last line.
pub(crate) fn json_text(value: &impl serde::Serialize) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| CliError::machine(format!("cannot write JSON: {e}")))?;
    Ok(text + "\n")
}

/// One JSON document on a line of stdout, for a reader of lines.
pub(crate) fn say_line(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text =
        serde_json::to_string(value).map_err(|e| CliError::machine(format!("cannot write JSON: {e}")))?;
    print(&text)
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
