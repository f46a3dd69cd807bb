//! `serve`: models behind HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ganomede::detect::{DetectError, Detector};
use ganomede_datasets::memory;
use ganomede_host::{files, interrupt};
use ganomede_server::{Options, Server, Source};
use serde::Serialize;

use crate::shared::args::Global;
use crate::shared::{CliError, Interrupt, note, quoted, say, say_json, shown};

/// Answer over HTTP: image files by POST /score, tensors by the Open Inference Protocol (as tritonclient
/// speaks it), metrics for Prometheus, and a page for people at /. Ctrl-C finishes what was taken.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede serve parts.safetensors\n  \
    ganomede serve caps=parts.safetensors --listen 0.0.0.0:8080 --token-file token.txt")]
pub(crate) struct Args {
    /// Model files, each under its file's name or one of yours, as NAME=FILE; a file that changes is loaded
    /// anew.
    #[arg(value_name = "[NAME=]M", required = true)]
    models: Vec<String>,
    /// Address and port; beyond this machine a token is needed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// File with the token that requests carry as `Authorization: Bearer TOKEN`; the variable GANOMEDE_TOKEN
    /// is read otherwise.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let other machines come without a token: where something before this server asks who they are.
    #[arg(long, conflicts_with = "token_file")]
    without_token: bool,
    /// Images scored side by side at most.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_batch: usize,
    /// How long a batch waits for images that are being decoded.
    #[arg(long, value_name = "MS", default_value_t = 5)]
    max_wait_ms: u64,
    /// Images of a model that wait at most; more are refused with status 429.
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
    /// Bytes of a request's body at most.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = body)]
    max_body: u64,
    /// Connections at once.
    #[arg(long, value_name = "N", default_value_t = 512)]
    connections: usize,
    /// Seconds from a request's head to its answer, and in which a reader takes something of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Bytes of a body, which may be fewer than a budget of memory has.
fn body(text: &str) -> Result<u64, String> {
    memory::parse_at_least(text, 1024)
}

/// `serve --json`: printed when it listens.
#[derive(Debug, Serialize)]
struct ServeDocument<'a> {
    listening: SocketAddr,
    device: String,
    models: &'a [Named<'a>],
}

#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
    model: &'a Path,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let sources: Vec<Source> = args.models.iter().map(|spec| source(spec)).collect();
    let most = usize::try_from(args.max_body).unwrap_or(usize::MAX);
    let options = Options {
        listen: args.listen,
        token: token(args)?,
        without_token: args.without_token,
        max_batch: args.max_batch,
        max_wait: Duration::from_millis(args.max_wait_ms),
        queue: args.queue,
        max_body: most,
        max_bodies: most.max(Options::default().max_bodies),
        connections: args.connections,
        timeout: Duration::from_secs(args.timeout.max(1)),
        ..Options::default()
    };
    let device = global.open()?;
    let described = device.describe();
    let names: Vec<_> = sources.iter().map(|s| (s.name.clone(), s.path.clone())).collect();
    let slot = Mutex::new(device);
    let again = global.clone();
    // A device that was lost is opened anew, once for each load.
    let load = move |path: &Path| {
        let device = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match Detector::load(path, &device) {
            Err(error) if error.is_machine_fault() => match again.open() {
                Ok(new) => {
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = new.clone();
                    Detector::load(path, &new)
                }
                Err(other) => Err(DetectError::Input(other.message)),
            },
            loaded => loaded,
        }
    };
    let server = Server::bind(sources, load, options, |event| note(&event.to_string()))
        .map_err(|e| CliError::new(&e, e.is_machine_fault()))?;
    let models: Vec<_> = names.iter().map(|(name, model)| Named { name, model }).collect();
    let listening = server.address();
    if global.json {
        say_json(&ServeDocument { listening, device: described, models: &models })?;
    } else {
        let all: Vec<_> = models.iter().map(|m| format!("{} ({})", m.name, shown(m.model))).collect();
        let example = format!("curl --data-binary @image.png http://{listening}/score");
        say(&format!("serving {} on http://{listening}, device {described}\n{example}", all.join(", ")))?;
    }
    let interrupt = *interrupt;
    let stop = move || {
        let stop = interrupt.raised();
        if stop {
            // Searches of requests that were taken go on; a second Ctrl-C ends them.
            interrupt::lower();
        }
        stop
    };
    server.run(stop).map_err(|e| CliError::new(&e, e.is_machine_fault()))
}

/// `NAME=FILE`, or a file under its own name.
fn source(spec: &str) -> Source {
    let named =
        spec.split_once('=').filter(|(name, _)| !name.contains(['/', '\\']) && !Path::new(spec).exists());
    let (name, path) = match named {
        Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
        None => {
            let path = PathBuf::from(spec);
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let fits = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
            (stem.chars().map(fits).collect(), path)
        }
    };
    Source { name, path }
}

/// The token of the file, or of the environment.
fn token(args: &Args) -> Result<Option<String>, CliError> {
    let Some(path) = &args.token_file else {
        return Ok(std::env::var("GANOMEDE_TOKEN")
            .ok()
            .filter(|token| !token.is_empty() && !args.without_token));
    };
    let bytes = files::read_limited(path, 4096)
        .map_err(|e| CliError::input(format!("cannot read the token in {}: {e}", quoted(&shown(path)))))?;
    match String::from_utf8(bytes) {
        Ok(text) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        _ => Err(CliError::input(format!("{} holds no token: one line of text", quoted(&shown(path))))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_body_may_be_smaller_than_the_budget_of_memory() {
        let parsed = |text: &str| {
            let typed = ["ganomede", "serve", "m.safetensors", "--max-body", text];
            let matches = crate::command().try_get_matches_from(typed).map_err(|e| e.to_string())?;
            let serve = matches.subcommand_matches("serve").ok_or("another command")?;
            serve.get_one::<u64>("max_body").copied().ok_or_else(|| "no bytes".to_owned())
        };
        assert_eq!(parsed("1MiB"), Ok(1 << 20));
        assert_eq!(parsed("1024"), Ok(1024));
        for (text, says) in [("1023", "at least 1024 bytes"), ("0", "at least"), ("lots", "for example 2GiB")]
        {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(says) && error.contains("--max-body"), "{error}");
        }
    }
}
