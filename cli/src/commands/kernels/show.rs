//! `kernels show`: the shaders of a variant.

use std::path::PathBuf;

use clap::ValueEnum;
use ganomede_datasets::Reads;
use ganomede_kernels::Dispatch;
use serde::Serialize;

use super::{kernels, traits};
use crate::shared::args::Global;
use crate::shared::ops::OpArgs;
use crate::shared::session::check_folder;
use crate::shared::{CliError, note, say, say_json};
use ganomede::inspect::{Language, translate};
use ganomede::report::write_atomic;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    op: OpArgs,
    /// Language of the text; spirv is shown as hexadecimal words, binary with --out.
    #[arg(long = "as", value_enum, value_name = "LANGUAGE", default_value = "wgsl")]
    language: LanguageArg,
    /// As a software adapter would run it.
    #[arg(long)]
    software: bool,
    /// Write a file for each dispatch into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LanguageArg {
    Wgsl,
    Spirv,
    Msl,
    Hlsl,
    Glsl,
}

impl LanguageArg {
    fn language(self) -> (Language, &'static str) {
        match self {
            Self::Wgsl => (Language::Wgsl, "wgsl"),
            Self::Spirv => (Language::Spirv, "spv"),
            Self::Msl => (Language::Msl, "metal"),
            Self::Hlsl => (Language::Hlsl, "hlsl"),
            Self::Glsl => (Language::Glsl, "comp"),
        }
    }
}

/// One dispatch as `--json` shows it.
#[derive(Debug, Clone, Serialize)]
struct Shown {
    kernel: &'static str,
    variant: &'static str,
    shader: &'static str,
    entry: &'static str,
    workgroups: [u32; 3],
    params: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

fn hexadecimal(bytes: &[u8]) -> String {
    let words =
        bytes.chunks_exact(4).map(|w| format!("{:08x}", u32::from_le_bytes([w[0], w[1], w[2], w[3]])));
    let words: Vec<String> = words.collect();
    words.chunks(8).map(|line| line.join(" ")).collect::<Vec<_>>().join("\n")
}

pub(super) fn run(args: &ShowArgs, global: &Global) -> Result<(), CliError> {
    args.out.as_deref().map_or(Ok(()), |folder| check_folder(folder, &Reads::new()))?;
    let (language, extension) = args.language.language();
    let mut shown = Vec::new();
    // Of an operation with several launches, `--variant` names the first's.
    let mut all = kernels(&args.op, global)?;
    if args.op.variant.is_some() {
        all.truncate(1);
    }
    for (kernel, variant) in all {
        let plan = kernel.gpu(&traits(args.software), variant).map_err(|e| CliError::input(e.to_string()))?;
        let mut seen: Vec<&Dispatch> = Vec::new();
        for dispatch in &plan.dispatches {
            let same = |d: &&Dispatch| {
                (&d.source, d.entry, &d.constants) == (&dispatch.source, dispatch.entry, &dispatch.constants)
            };
            if seen.iter().any(same) {
                continue;
            }
            seen.push(dispatch);
            let bytes = translate(dispatch, language)?;
            let mut one = Shown {
                kernel: kernel.name(),
                variant: plan.variant,
                shader: dispatch.shader,
                entry: dispatch.entry,
                workgroups: dispatch.workgroups,
                params: dispatch.params.clone(),
                text: None,
                file: None,
            };
            match &args.out {
                Some(folder) => {
                    let stem = dispatch.shader.trim_end_matches(".wgsl");
                    let (name, number) = (kernel.name(), shown.len() + 1);
                    let file =
                        folder.join(format!("{number:02}-{name}-{stem}-{}.{extension}", dispatch.entry));
                    write_atomic(&file, &bytes)?;
                    one.file = Some(file);
                }
                None if language == Language::Spirv => one.text = Some(hexadecimal(&bytes)),
                None => one.text = Some(String::from_utf8_lossy(&bytes).into_owned()),
            }
            shown.push(one);
        }
    }
    if global.json {
        return say_json(&shown);
    }
    for one in &shown {
        let [x, y, z] = one.workgroups;
        let heading = format!(
            "{} {}: {} {}, {x} × {y} × {z} workgroups",
            one.kernel, one.variant, one.shader, one.entry
        );
        match (&one.text, &one.file) {
            (Some(text), _) if language == Language::Spirv => {
                note(&heading);
                say(text)?;
            }
            (Some(text), _) => say(&format!("// {heading}\n{text}"))?,
            (None, Some(file)) => say(&format!("{}  {heading}", file.display()))?,
            (None, None) => {}
        }
    }
    Ok(())
}
