//! `kernels list`.

use ganomede_kernels::{Dispatch, Ladder, ladders};
use serde::Serialize;

use super::samples;
use crate::shared::args::Global;
use crate::shared::table::TextTable;
use crate::shared::{CliError, say, say_json};
use ganomede::inspect::{Workgroup, workgroup};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ListArgs {
    /// One family only.
    family: Option<String>,
}

/// Threads and shared memory of one dispatch.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct DispatchStage {
    shader: &'static str,
    entry: &'static str,
    workgroup: [u32; 3],
    shared_bytes: u32,
    constants: Vec<(&'static str, f64)>,
}

impl DispatchStage {
    fn new(dispatch: &Dispatch) -> Result<Self, CliError> {
        let Workgroup { size, shared_bytes } = workgroup(dispatch)?;
        let (shader, entry) = (dispatch.shader, dispatch.entry);
        Ok(Self { shader, entry, workgroup: size, shared_bytes, constants: dispatch.constants.clone() })
    }

    fn text(&self) -> String {
        let threads: u32 = self.workgroup.iter().product();
        let shared =
            if self.shared_bytes > 0 { format!(", {} B shared", self.shared_bytes) } else { String::new() };
        format!("{} {}: {threads} threads{shared}", self.shader, self.entry)
    }
}

#[derive(Debug, Clone, Serialize)]
struct VariantRow {
    kernel: &'static str,
    number: usize,
    variant: &'static str,
    tile: &'static str,
    chosen: &'static str,
    stages: Vec<DispatchStage>,
}

fn rows(family: &Ladder) -> Result<Vec<VariantRow>, CliError> {
    let mut rows = Vec::with_capacity(family.variants.len());
    for (number, variant) in (1..).zip(family.variants) {
        let plan = samples::plan(family, variant.name)?;
        let mut stages = Vec::new();
        for dispatch in &plan.dispatches {
            let stage = DispatchStage::new(dispatch)?;
            if !stages.contains(&stage) {
                stages.push(stage);
            }
        }
        let (kernel, variant, tile, chosen) = (family.name, variant.name, variant.tile, variant.chosen);
        rows.push(VariantRow { kernel, number, variant, tile, chosen, stages });
    }
    Ok(rows)
}

pub(super) fn run(args: &ListArgs, global: &Global) -> Result<(), CliError> {
    let wanted = |family: &&Ladder| args.family.as_deref().is_none_or(|name| name == family.name);
    let families: Vec<&Ladder> = ladders().filter(wanted).collect();
    if families.is_empty() {
        let known: Vec<&str> = ladders().map(|family| family.name).collect();
        let asked = args.family.as_deref().unwrap_or_default();
        return Err(CliError::input(format!(
            "there is no kernel family '{asked}'; there are: {}",
            known.join(", ")
        )));
    }
    let all = families.iter().map(|family| rows(family)).collect::<Result<Vec<_>, _>>()?;
    if global.json {
        return say_json(&all.concat());
    }
    for (family, rows) in families.iter().zip(all) {
        let mut table = TextTable::new(&[">#", "variant", "computes", "chosen"]);
        for row in &rows {
            table.row([
                row.number.to_string(),
                row.variant.to_owned(),
                row.tile.to_owned(),
                row.chosen.to_owned(),
            ]);
            for stage in &row.stages {
                table.row([String::new(), String::new(), format!("  {}", stage.text()), String::new()]);
            }
        }
        say(&format!("{}: {}\n{}\n", family.name, family.computes, table.text()))?;
    }
    Ok(())
}
