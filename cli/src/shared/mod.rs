//! What commands share: arguments, failures, output, sessions.

pub(crate) mod args;
pub(crate) mod config;
pub(crate) mod failure;
pub(crate) mod findings;
pub(crate) mod groups;
pub(crate) mod job;
pub(crate) mod launches;
pub(crate) mod ops;
pub(crate) mod output;
pub(crate) mod programs;
pub(crate) mod progress;
pub(crate) mod ranks;
pub(crate) mod ready;
pub(crate) mod samples;
pub(crate) mod session;
pub(crate) mod shaders;
pub(crate) mod stop;
pub(crate) mod table;
pub(crate) mod terminal;

pub(crate) use failure::CliError;
pub(crate) use output::{json_text, note, quoted, say, say_bytes, say_json, say_line, say_warning, shown};
pub(crate) use stop::Interrupt;
