//! `completions` and `man`: what shells and `man` know of this program.

use std::path::PathBuf;

use clap::Command;
use ganomede::report::write_atomic;
use ganomede_datasets::Reads;

use crate::shared::session::check_folder;
use crate::shared::{CliError, say, say_bytes, shown};

/// Print what completes this program's commands and flags in a shell.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  ganomede completions bash > ~/.local/share/bash-completion/completions/ganomede\n  \
    ganomede completions fish > ~/.config/fish/completions/ganomede.fish"
)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Write a man page for this program and each of its commands.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Folder for the pages.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut text = vec![];
    clap_complete::generate(args.shell, &mut crate::command(), "ganomede", &mut text);
    say_bytes(&text)
}

pub(crate) fn man(args: &ManArgs) -> Result<(), CliError> {
    check_folder(&args.folder, &Reads::new())?;
    let mut command = crate::command().disable_help_subcommand(true);
    command.build(); // names commands by their parents: ganomede-data-synth
    let mut pages = vec![];
    collect(&command, &mut pages)?;
    for (name, page) in &pages {
        write_atomic(&args.folder.join(format!("{name}.1")), page)?;
    }
    say(&format!("{} pages in {}", pages.len(), shown(&args.folder)))
}

/// The pages of a command and of those below it.
fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), CliError> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = vec![];
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|e| CliError::machine(format!("cannot write the man page of {name}: {e}")))?;
    pages.push((name, page));
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| collect(sub, pages))
}
