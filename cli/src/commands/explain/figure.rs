//! Networks as an SVG drawing: a block for what each layer gives, as high as its maps and as wide as its
//! channels; boxes for networks, from left to right as values flow; arrows for what one network hands to the
//! next, arcs for skips.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::networks::{Kind, Layer, Networks, Source, Then};

/// Distance of the blocks of a network, and of networks, in pixels.
const PITCH: f64 = 59.0;
const GAP: f64 = 50.0;
const MARGIN: f64 = 18.0;
/// Height of a network's title, and of the labels below its blocks.
const TITLE: f64 = 44.0;
const LABELS: f64 = 66.0;
/// Height of the labels below an input.
const INPUT_LABELS: f64 = 38.0;
/// Room for one level of arcs.
const ARC: f64 = 16.0;
/// Distance of the arrows below all boxes.
const LANE: f64 = 9.0;
/// How far a block's side recedes.
const DEPTH: f64 = 7.0;

/// A network or an input on the canvas.
struct Group {
    name: String,
    detail: String,
    /// Its layers; none for an input.
    layers: Vec<usize>,
    shape: [usize; 3],
    column: usize,
    /// Left, top, width, height.
    at: [f64; 4],
    /// Level of the highest arc within.
    arcs: usize,
}

/// The drawing.
pub(super) fn draw(networks: &Networks, title: &str) -> String {
    let groups = arrange(networks);
    let width = groups.iter().map(|g| g.at[0] + g.at[2]).fold(0.0, f64::max) + MARGIN;
    let is_lane =
        |&(from, to): &(usize, usize)| is_long(&groups[from], &groups[to]) && !groups[from].layers.is_empty();
    let lanes = edges(networks, &groups).iter().filter(|edge| is_lane(edge)).count();
    let height = groups.iter().map(|g| g.at[1] + g.at[3]).fold(0.0, f64::max) + 42.0 + LANE * lanes as f64;
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut svg, networks, &groups, title, [width.max(700.0), height]);
    svg
}

fn colours(kind: Option<Kind>) -> [&'static str; 3] {
    match kind {
        None => ["#e9ecef", "#f8f9fa", "#ced4da"],
        Some(Kind::Convolution) => ["#ffc078", "#ffd8a8", "#f08c00"],
        Some(Kind::Transposed) => ["#74c0fc", "#a5d8ff", "#1c7ed6"],
        Some(Kind::Product) => ["#8ce99a", "#b2f2bb", "#2f9e44"],
    }
}

/// Width and height of the block of a shape: logarithms, since sizes halve and double.
fn block([channels, h, w]: [usize; 3]) -> [f64; 2] {
    let log = |n: usize| (n.max(1) as f64).log2();
    let side = if h > 1 && w > 1 { log(h.max(w)) } else { log(w.max(h)) };
    if h * w == 1 {
        return [9.0, 16.0 + 7.0 * log(channels)];
    }
    [6.0 + 3.2 * log(channels), 10.0 + 15.0 * side]
}

fn shape_label([c, h, w]: [usize; 3]) -> String {
    match (h, w) {
        (1, 1) => c.to_string(),
        (1, w) => format!("{c}×{w}"),
        (h, w) => format!("{c}×{h}×{w}"),
    }
}

fn parameters(count: usize) -> String {
    match count {
        0 => "training only".to_owned(),
        1..1000 => format!("{count} parameters"),
        1000..1_000_000 => format!("{:.1} k parameters", count as f64 / 1e3),
        _ => format!("{:.2} M parameters", count as f64 / 1e6),
    }
}

/// Puts inputs and networks into columns: each to the right of all that it reads.
fn arrange(networks: &Networks) -> Vec<Group> {
    let group = |name: &str, detail: String, layers: Vec<usize>, shape| Group {
        name: name.to_owned(),
        detail,
        layers,
        shape,
        column: 0,
        at: [0.0; 4],
        arcs: 0,
    };
    let inputs = networks.inputs.iter();
    let mut groups: Vec<_> =
        inputs.map(|(name, &shape)| group(name, shape_label(shape), vec![], shape)).collect();
    for (place, layer) in networks.layers.iter().enumerate() {
        match groups.iter_mut().find(|g| g.name == layer.network && !g.layers.is_empty()) {
            Some(known) => known.layers.push(place),
            None => {
                let count = networks.parameters.get(&layer.network).copied().unwrap_or(0);
                groups.push(group(&layer.network, parameters(count), vec![place], layer.shape));
            }
        }
    }
    let edges = edges(networks, &groups);
    // The longest way from an input; a loop is cut after as many rounds as there are groups.
    for _ in 0..groups.len() {
        for &(from, to) in &edges {
            let next = groups[from].column + 1;
            if groups[to].column < next && next < groups.len() {
                groups[to].column = next;
            }
        }
    }
    // An input stands right before the first network that reads it.
    for input in 0..groups.len() {
        let readers = edges.iter().filter(|(from, _)| *from == input).map(|&(_, to)| groups[to].column);
        let first = readers.min().unwrap_or(0);
        if groups[input].layers.is_empty() {
            groups[input].column = first.saturating_sub(1);
        }
    }
    for g in &mut groups {
        g.arcs = arcs(networks, &g.layers).iter().map(|&(_, _, level)| level).max().unwrap_or(0);
        let shapes: Vec<_> = match g.layers.is_empty() {
            true => vec![g.shape],
            false => g.layers.iter().map(|&l| networks.layers[l].shape).collect(),
        };
        let tallest = shapes.iter().map(|&s| block(s)[1]).fold(0.0, f64::max);
        // A title is about seven pixels a letter.
        let title = if g.layers.is_empty() {
            0.0
        } else {
            7.2 * g.name.len().max(g.detail.len() * 5 / 6) as f64 + 20.0
        };
        g.at[2] = (PITCH * shapes.len() as f64 + 10.0).max(title);
        g.at[3] = match g.layers.is_empty() {
            true => tallest + INPUT_LABELS,
            false => TITLE + ARC * g.arcs as f64 + tallest + LABELS,
        };
    }
    let columns = groups.iter().map(|g| g.column).max().unwrap_or(0) + 1;
    let mut left = MARGIN;
    let stacked = |groups: &[Group], c: usize| -> f64 {
        groups.iter().filter(|g| g.column == c).map(|g| g.at[3] + 14.0).sum()
    };
    let tallest = (0..columns).map(|c| stacked(&groups, c)).fold(0.0, f64::max);
    for column in 0..columns {
        let mut top = 44.0 + (tallest - stacked(&groups, column)) / 2.0;
        let mut widest = 0.0_f64;
        for g in groups.iter_mut().filter(|g| g.column == column) {
            (g.at[0], g.at[1]) = (left, top);
            top += g.at[3] + 14.0;
            widest = widest.max(g.at[2]);
        }
        for input in groups.iter_mut().filter(|g| g.column == column && g.layers.is_empty()) {
            input.at[0] = left + widest - input.at[2];
        }
        left += widest + if widest > 0.0 { GAP } else { 0.0 };
    }
    groups
}

/// Which group hands values to which other.
fn edges(networks: &Networks, groups: &[Group]) -> BTreeSet<(usize, usize)> {
    let of_layer = |layer: usize| groups.iter().position(|g| g.layers.contains(&layer));
    let mut edges = BTreeSet::new();
    for (place, layer) in networks.layers.iter().enumerate() {
        for source in &layer.sources {
            let from = match source {
                Source::Layer(from) => of_layer(*from),
                Source::Input(name) => groups.iter().position(|g| g.layers.is_empty() && g.name == *name),
            };
            edges.extend(from.zip(of_layer(place)).filter(|(from, to)| from != to));
        }
    }
    edges
}

/// Connections within a network that pass over a block, as places among its layers, with the level of each.
fn arcs(networks: &Networks, layers: &[usize]) -> Vec<(usize, usize, usize)> {
    let at: BTreeMap<usize, usize> = layers.iter().enumerate().map(|(i, &layer)| (layer, i)).collect();
    let mut found: Vec<(usize, usize)> = vec![];
    for (to, &layer) in layers.iter().enumerate() {
        for source in &networks.layers[layer].sources {
            if let Source::Layer(from) = source
                && let Some(&from) = at.get(from)
                && from + 1 < to
            {
                found.push((from, to));
            }
        }
    }
    // Short ones lie below those that span them.
    found.sort_by_key(|&(from, to)| (to - from, from));
    let mut placed: Vec<(usize, usize, usize)> = vec![];
    for (from, to) in found {
        let meets = |&&(a, b, _): &&(usize, usize, usize)| a < to && from < b;
        let level = placed.iter().filter(meets).map(|&(_, _, level)| level).max().unwrap_or(0) + 1;
        placed.push((from, to, level));
    }
    placed
}

fn write_all(
    out: &mut String,
    networks: &Networks,
    groups: &[Group],
    title: &str,
    [width, height]: [f64; 2],
) -> std::fmt::Result {
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
         {height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"10\" text-anchor=\"middle\">"
    )?;
    writeln!(
        out,
        "<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#495057\"/></marker></defs>"
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>")?;
    writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"26\" font-size=\"15\" font-weight=\"bold\" fill=\"#212529\" text-anchor=\"start\">{}</text>",
        escaped(title)
    )?;
    for group in groups {
        write_group(out, networks, group)?;
    }
    write_edges(out, networks, groups)?;
    write_legend(out, networks, height)?;
    writeln!(out, "</svg>")
}

/// Arrows between groups. One that passes over a column goes below all boxes; an input that does is named
/// again where it is read.
fn write_edges(out: &mut String, networks: &Networks, groups: &[Group]) -> std::fmt::Result {
    let edges = edges(networks, groups);
    let bottom = groups.iter().map(|g| g.at[1] + g.at[3]).fold(0.0, f64::max);
    let mut lane = 0.0;
    for (to, target) in groups.iter().enumerate() {
        let into: Vec<usize> = edges.iter().filter(|(_, t)| *t == to).map(|(from, _)| *from).collect();
        for (place, &from) in into.iter().enumerate() {
            let source = &groups[from];
            let ([x, y, w, _], [tx, ty, ..]) = (source.at, target.at);
            // Several arrows enter side by side.
            let ty = ty + middle(target) + 18.0 * (place as f64 - (into.len() - 1) as f64 / 2.0);
            let (x, y) = (x + w, y + middle(source));
            let is_long = is_long(source, target);
            let path = if is_long && source.layers.is_empty() {
                let name = source.name.split(' ').next().unwrap_or_default();
                write_label(out, tx - 27.0, ty + 3.5, name, "#212529", true)?;
                format!("M{:.1} {ty:.1}H{:.1}", tx - 20.0, tx - 1.0)
            } else if is_long {
                lane += 1.0;
                let (below, from, into) = (bottom + LANE * lane, x + LANE * lane, tx - 12.0 - 6.0 * lane);
                format!(
                    "M{x:.1} {y:.1}H{:.1}Q{from:.1} {y:.1} {from:.1} {:.1}V{:.1}Q{from:.1} {below:.1} {:.1} {below:.1}H{:.1}\
                     Q{into:.1} {below:.1} {into:.1} {:.1}V{:.1}Q{into:.1} {ty:.1} {:.1} {ty:.1}H{:.1}",
                    from - 6.0,
                    y + 6.0,
                    below - 6.0,
                    from + 6.0,
                    into - 6.0,
                    below - 6.0,
                    ty + 6.0,
                    into + 6.0,
                    tx - 1.0
                )
            } else {
                let bend = ((tx - x) / 2.0).clamp(18.0, 60.0);
                format!(
                    "M{x:.1} {y:.1}C{:.1} {y:.1} {:.1} {ty:.1} {:.1} {ty:.1}",
                    x + bend,
                    tx - bend,
                    tx - 1.0
                )
            };
            writeln!(
                out,
                "<path d=\"{path}\" fill=\"none\" stroke=\"#495057\" stroke-width=\"1.3\" marker-end=\"url(#a)\"/>"
            )?;
        }
    }
    Ok(())
}

/// Whether an arrow passes over a column.
fn is_long(from: &Group, to: &Group) -> bool {
    to.column != from.column + 1
}

/// Height of the axis of a group's blocks below its top.
fn middle(group: &Group) -> f64 {
    if group.layers.is_empty() {
        return (group.at[3] - INPUT_LABELS) / 2.0;
    }
    let above = TITLE + ARC * group.arcs as f64;
    above + (group.at[3] - above - LABELS) / 2.0
}

fn write_group(out: &mut String, networks: &Networks, group: &Group) -> std::fmt::Result {
    let [x, y, w, h] = group.at;
    let is_input = group.layers.is_empty();
    if !is_input {
        writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"8\" fill=\"#f8f9fa\" \
             stroke=\"#dee2e6\"/>"
        )?;
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"12\" font-weight=\"bold\" fill=\"#343a40\">{}</text>",
            x + w / 2.0,
            y + 18.0,
            escaped(&group.name)
        )?;
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#565e66\">{}</text>",
            x + w / 2.0,
            y + 32.0,
            escaped(&group.detail)
        )?;
    }
    let axis = y + middle(group);
    let left = x + (w - PITCH * group.layers.len().max(1) as f64) / 2.0;
    let centre = |i: usize| left + PITCH * (i as f64 + 0.5);
    if is_input {
        write_block(out, centre(0), axis, group.shape, None)?;
        let below = axis + block(group.shape)[1] / 2.0;
        write_label(out, centre(0), below + 16.0, &group.name, "#212529", true)?;
        return write_label(out, centre(0), below + 29.0, &group.detail, "#565e66", false);
    }
    for pair in 1..group.layers.len() {
        let from = networks.layers[group.layers[pair - 1]].shape;
        let to = networks.layers[group.layers[pair]].shape;
        if networks.layers[group.layers[pair]].sources.contains(&Source::Layer(group.layers[pair - 1])) {
            writeln!(
                out,
                "<path d=\"M{:.1} {axis:.1}H{:.1}\" stroke=\"#868e96\" stroke-width=\"1.2\" marker-end=\"url(#a)\"/>",
                centre(pair - 1) + block(from)[0] / 2.0 + DEPTH,
                centre(pair) - block(to)[0] / 2.0 - 1.0
            )?;
        }
    }
    let top = |i: usize| axis - block(networks.layers[group.layers[i]].shape)[1] / 2.0 - DEPTH;
    for (from, to, level) in arcs(networks, &group.layers) {
        let reach = group.layers.iter().enumerate().map(|(i, _)| top(i)).fold(f64::MAX, f64::min);
        let over = reach - ARC * level as f64 + 6.0;
        writeln!(
            out,
            "<path d=\"M{0:.1} {1:.1}V{2:.1}Q{0:.1} {3:.1} {4:.1} {3:.1}H{5:.1}Q{6:.1} {3:.1} {6:.1} {2:.1}V{7:.1}\" \
             fill=\"none\" stroke=\"#ae3ec9\" stroke-width=\"1.2\" marker-end=\"url(#a)\"/>",
            centre(from) + 4.0,
            top(from),
            over + 6.0,
            over,
            centre(from) + 10.0,
            centre(to) - 10.0,
            centre(to) - 4.0,
            top(to) - 1.0
        )?;
    }
    let bottom = y + h - LABELS;
    for (i, &place) in group.layers.iter().enumerate() {
        let layer = &networks.layers[place];
        write_block(out, centre(i), axis, layer.shape, Some(layer.kind))?;
        let lines = labels(layer);
        for (line, text) in lines.iter().enumerate() {
            let y = bottom + 17.0 + 12.0 * line as f64;
            write_label(out, centre(i), y, text, if line == 0 { "#212529" } else { "#495057" }, false)?;
        }
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9.5\" fill=\"#565e66\">{}</text>",
            centre(i),
            bottom + 56.0,
            shape_label(layer.shape)
        )?;
    }
    Ok(())
}

/// What a layer does, and what follows it in at most two lines.
fn labels(layer: &Layer) -> Vec<String> {
    let name = match layer.kind {
        Kind::Convolution => "conv",
        Kind::Transposed => "convT",
        Kind::Product => "linear",
    };
    let mut lines = vec![format!("{name} {}", layer.geometry).trim_end().to_owned()];
    let (norms, rest): (Vec<Then>, Vec<Then>) =
        layer.then.iter().copied().partition(|t| matches!(t, Then::Norm(_) | Then::Activation(_)));
    for part in [norms, rest] {
        let names: Vec<_> = part.iter().map(ToString::to_string).collect();
        if !names.is_empty() {
            lines.push(names.join(", "));
        }
    }
    lines
}

fn write_label(out: &mut String, x: f64, y: f64, text: &str, colour: &str, bold: bool) -> std::fmt::Result {
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\"{weight}>{}</text>", escaped(text))
}

/// A box in perspective around (x, y).
fn write_block(out: &mut String, x: f64, y: f64, shape: [usize; 3], kind: Option<Kind>) -> std::fmt::Result {
    let ([w, h], [face, light, line]) = (block(shape), colours(kind));
    let (left, top) = (x - w / 2.0, y - h / 2.0);
    writeln!(
        out,
        "<g stroke=\"{line}\" stroke-width=\"0.8\" stroke-linejoin=\"round\"><path d=\"M{left:.1} {top:.1}l{DEPTH} \
         -{DEPTH}h{w:.1}v{h:.1}l-{DEPTH} {DEPTH}\" fill=\"{light}\"/><rect x=\"{left:.1}\" y=\"{top:.1}\" \
         width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{face}\"/><path d=\"M{:.1} {top:.1}l{DEPTH} -{DEPTH}\" \
         fill=\"none\"/></g>",
        left + w
    )
}

fn write_legend(out: &mut String, networks: &Networks, height: f64) -> std::fmt::Result {
    let mut x = MARGIN;
    let has = |kind: Kind| networks.layers.iter().any(|l| l.kind == kind);
    for (kind, name) in [
        (Kind::Convolution, "convolution"),
        (Kind::Transposed, "transposed convolution"),
        (Kind::Product, "product (linear)"),
    ] {
        if has(kind) {
            let [face, _, line] = colours(Some(kind));
            let y = height - 22.0;
            writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"11\" height=\"11\" fill=\"{face}\" stroke=\"{line}\"/><text \
                 x=\"{:.1}\" y=\"{:.1}\" fill=\"#495057\" text-anchor=\"start\">{name}</text>",
                x + 16.0,
                y + 9.5
            )?;
            x += 34.0 + 5.6 * name.len() as f64;
        }
    }
    let slopes: Vec<_> = networks.slopes.iter().map(String::as_str).collect();
    let leaky =
        if slopes.is_empty() { String::new() } else { format!("; LReLU: slope {}", slopes.join(", ")) };
    writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"#565e66\" text-anchor=\"start\">height: side, width: channels \
         (logarithms){leaky}</text>",
        height - 12.5
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
