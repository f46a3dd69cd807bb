//! The launches of a program as a Graphviz graph: a box for each launch, a frame for each layer, an arrow for
//! each value that one launch hands to another. States (parameters, moments) are left out; inputs and outputs
//! are drawn.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use crate::shared::table::{bytes, flops};
use ganomede::program::{Program, Role};
use ganomede::tape::States;

/// Escapes what is inside quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn colour(kernel: &str) -> &'static str {
    match kernel {
        "conv" | "conv_transpose" | "conv_weight" => "#ffd8a8",
        "gemm" => "#ffec99",
        "pointwise" => "#d3f9d8",
        "reduce" | "moments" => "#d0ebff",
        _ => "#f1f3f5",
    }
}

pub(super) fn graph(program: &Program, states: &States, title: &str) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_graph(&mut text, program, states, title);
    text
}

fn write_graph(out: &mut String, program: &Program, states: &States, title: &str) -> std::fmt::Result {
    writeln!(out, "digraph {} {{", quoted(title))?;
    // Ranks over all frames at once: frame by frame, Graphviz gives up where values go back and forth between
    // layers.
    writeln!(
        out,
        "  label={}; labelloc=t; rankdir=TB; newrank=true; fontname=\"sans-serif\";",
        quoted(title)
    )?;
    writeln!(out, "  node [shape=box, style=filled, fontname=\"sans-serif\", fontsize=10];")?;
    writeln!(out, "  edge [fontname=\"sans-serif\", fontsize=8, color=\"#868e96\"];")?;
    let mut layers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, launch) in program.launches.iter().enumerate() {
        layers.entry(&launch.scope).or_default().push(index);
    }
    for (number, (layer, launches)) in layers.iter().enumerate() {
        let framed = !layer.is_empty();
        if framed {
            writeln!(out, "  subgraph cluster_{number} {{")?;
            writeln!(out, "    label={}; style=rounded; color=\"#adb5bd\"; fontsize=12;", quoted(layer))?;
        }
        for &index in launches {
            let launch = &program.launches[index];
            let kernel = launch.kernel.name();
            let label =
                format!("#{index} {kernel}\n{}\n{}", launch.shapes(), flops(launch.kernel.cost().flops));
            let label = quoted(&label).replace('\n', "\\n");
            writeln!(out, "    l{index} [label={label}, fillcolor=\"{}\"];", colour(kernel))?;
        }
        if framed {
            writeln!(out, "  }}")?;
        }
    }
    let drawn = |buffer: usize| matches!(program.buffers[buffer].role, Role::Input(_) | Role::Output(_));
    for buffer in (0..program.buffers.len()).filter(|&b| drawn(b)) {
        let name = quoted(&program.buffer_name(states, buffer));
        writeln!(out, "  b{buffer} [label={name}, shape=ellipse, fillcolor=\"#e5dbff\"];")?;
    }
    let mut writer: HashMap<usize, usize> = HashMap::new();
    for (index, launch) in program.launches.iter().enumerate() {
        for (buffer, len) in launch.reads() {
            let from = match writer.get(&buffer) {
                Some(launch) => format!("l{launch}"),
                None if drawn(buffer) => format!("b{buffer}"),
                None => continue,
            };
            let place = if launch.outputs.contains(&buffer) { ", in place" } else { "" };
            writeln!(
                out,
                "  {from} -> l{index} [label={}];",
                quoted(&format!("{}{place}", bytes(4 * len as u64)))
            )?;
        }
        launch.outputs.iter().for_each(|&buffer| _ = writer.insert(buffer, index));
    }
    for (buffer, launch) in writer.into_iter().collect::<BTreeMap<_, _>>() {
        if drawn(buffer) {
            writeln!(out, "  l{launch} -> b{buffer};")?;
        }
    }
    write!(out, "}}")
}
