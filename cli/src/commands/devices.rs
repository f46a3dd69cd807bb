//! `devices`: where programs can run.

use serde::Serialize;

use crate::shared::args::Global;
use crate::shared::table::{TextTable, binary};
use crate::shared::{CliError, say, say_json};
use ganomede::device::gpu::{ADAPTER_VARIABLE, AdapterReport, Gpu};
use ganomede::device::machine;

/// List the adapters and the CPU device, with what decides what fits.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede devices --json")]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Report {
    adapters: Vec<Adapter>,
    cpu: Cpu,
    /// What `--device auto` takes.
    auto: String,
}

#[derive(Debug, Serialize)]
struct Adapter {
    device: String,
    index: usize,
    name: String,
    backend: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    software: bool,
    driver: String,
    timestamps: bool,
    limits: Limits,
    features: Vec<&'static str>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Limits {
    max_storage_buffer_binding_size: u64,
    max_buffer_size: u64,
    max_storage_buffers_per_shader_stage: u32,
    max_compute_workgroup_storage_size: u32,
    max_compute_invocations_per_workgroup: u32,
    max_compute_workgroups_per_dimension: u32,
}

#[derive(Debug, Serialize)]
struct Cpu {
    device: &'static str,
    name: String,
    threads: usize,
    simd: &'static str,
    memory_bytes: Option<u64>,
    available_bytes: Option<u64>,
}

impl From<AdapterReport> for Adapter {
    fn from(report: AdapterReport) -> Self {
        let limits = report.limits;
        Self {
            device: format!("gpu:{}", report.index),
            index: report.index,
            name: report.name,
            backend: report.backend,
            kind: report.kind,
            software: report.software,
            driver: report.driver,
            timestamps: report.timestamps,
            limits: Limits {
                max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
                max_buffer_size: limits.max_buffer_size,
                max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
                max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
                max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
                max_compute_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
            },
            features: report.features,
            warnings: report.warnings,
        }
    }
}

pub(crate) fn run(_: &Args, global: &Global) -> Result<(), CliError> {
    let adapters: Vec<Adapter> = Gpu::adapters().into_iter().map(Adapter::from).collect();
    let named =
        std::env::var(ADAPTER_VARIABLE).ok().filter(|name| !name.is_empty()).map(|name| name.to_lowercase());
    let auto = adapters.iter().find(|a| {
        let wanted = named.as_ref().map_or(!a.software, |part| a.name.to_lowercase().contains(part));
        wanted && a.limits.max_compute_invocations_per_workgroup > 0
    });
    let report = Report {
        auto: auto.map_or("cpu".to_owned(), |a| a.device.clone()),
        adapters,
        cpu: Cpu {
            device: "cpu",
            name: machine::processor(),
            threads: rayon::current_num_threads(),
            simd: machine::simd(),
            memory_bytes: machine::total_memory(),
            available_bytes: machine::available_memory(),
        },
    };
    if global.json {
        return say_json(&report);
    }
    say(&text(&report))
}

fn text(report: &Report) -> String {
    let mut table = TextTable::new(&[
        "",
        "device",
        "name",
        "backend",
        "type",
        ">binding",
        ">buffer",
        ">shared",
        ">threads",
        "timestamps",
    ]);
    let mark = |device: &str| if report.auto == device { "*" } else { " " }.to_owned();
    for adapter in &report.adapters {
        let limits = &adapter.limits;
        table.row([
            mark(&adapter.device),
            adapter.device.clone(),
            adapter.name.clone(),
            adapter.backend.to_owned(),
            adapter.kind.to_owned(),
            binary(limits.max_storage_buffer_binding_size),
            binary(limits.max_buffer_size),
            binary(limits.max_compute_workgroup_storage_size.into()),
            limits.max_compute_invocations_per_workgroup.to_string(),
            if adapter.timestamps { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let cpu = &report.cpu;
    let memory = |bytes: Option<u64>| bytes.map_or("?".to_owned(), binary);
    table.row([
        mark("cpu"),
        "cpu".to_owned(),
        format!("{}, {}", cpu.name, cpu.simd),
        "native".to_owned(),
        "cpu".to_owned(),
        "-".to_owned(),
        memory(cpu.available_bytes),
        "-".to_owned(),
        cpu.threads.to_string(),
        "yes".to_owned(),
    ]);
    let mut lines = vec![table.text(), "* is what --device auto takes".to_owned()];
    for adapter in &report.adapters {
        lines.push(format!("\n{}: {}", adapter.device, adapter.driver));
        lines.push(wrap("features", &adapter.features.join(" ")));
        lines.extend(adapter.warnings.iter().map(|warning| format!("  warning: {warning}")));
    }
    if report.adapters.is_empty() {
        lines.push("\nno GPU adapter; `ganomede doctor` says how to get one".to_owned());
    }
    lines.join("\n")
}

/// Words in lines of about 100 characters, indented.
fn wrap(label: &str, words: &str) -> String {
    let mut lines = vec![format!("  {label}:")];
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < 100 => *line += &format!(" {word}"),
            _ => lines.push(format!("    {word}")),
        }
    }
    lines.join("\n")
}
