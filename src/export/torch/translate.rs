//! From what a tape recorded to lines of PyTorch, node by node: a system needs no code of its own to be
//! exported. What is short and read once stands within what reads it; the rest has a name after its layer.

use ganomede_kernels::conv::{Face, Geometry};
use ganomede_kernels::expr::{Binary, Num, Unary};
use ganomede_kernels::pool::{Face as PoolFace, MaxPool};
use ganomede_kernels::sparse::Matrix;

use super::code::{Binds, Body, Text, attribute, number, pair, tuple};
use crate::export::batches::{AnyBatch, Dim, Unsupported, fixed, joined};
use crate::program::StateId;
use crate::tape::{Graph, Node, NodeId, Op};

/// Characters of an expression that stands within another.
const SHORT: usize = 60;

/// Fixed numbers of a network that are no weights.
pub(super) enum Constant {
    /// Places along an axis.
    Places(Vec<usize>, Vec<i64>),
    /// Weights of them, or a matrix.
    Numbers(Vec<usize>, Vec<f32>),
}

/// A network as the body of `forward`.
#[derive(Default)]
pub(super) struct Network {
    /// Its lines, without the last.
    pub(super) body: Body,
    /// Names of outputs, with their expressions.
    pub(super) outputs: Vec<(String, String)>,
    /// Constants, `self.constants[i]`.
    pub(super) constants: Vec<Constant>,
    /// Names of the functions that it calls.
    pub(super) helpers: Vec<&'static str>,
}

/// A value, which may be smaller than its node: PyTorch's element-wise functions repeat by themselves.
#[derive(Clone)]
struct Value {
    text: Text,
    shape: Vec<Dim>,
    /// A number, and no tensor.
    is_number: bool,
}

impl Value {
    fn tensor(text: Text, shape: &[Dim]) -> Self {
        Self { text, shape: shape.to_vec(), is_number: false }
    }
}

/// The network of a graph that was recorded in batches of two sizes; `name` names states.
pub(super) fn translate(
    recorded: [&Graph; 2],
    outputs: &[&str],
    name: &dyn Fn(StateId) -> String,
) -> Result<Network, Unsupported> {
    let AnyBatch { graph, shapes } = AnyBatch::of(recorded, outputs)?;
    let mut uses = vec![0; graph.nodes.len()];
    graph.nodes.iter().flat_map(|node| &node.inputs).for_each(|&id| uses[id] += 1);
    graph.outputs.iter().for_each(|(_, id)| uses[*id] += 1);
    let mut to =
        Translator { graph: &graph, shapes: &shapes, values: vec![], name, found: Network::default() };
    for (id, node) in graph.nodes.iter().enumerate() {
        let mut value = to.node(id, node)?;
        let is_heavy = matches!(node.op, Op::Conv(..) | Op::MatMul { .. } | Op::Concat(_));
        let is_named = value.text.text.chars().all(|c| c.is_ascii_alphanumeric() || "_.[]\"".contains(c));
        let is_short = uses[id] == 1 && value.text.text.len() <= SHORT;
        if !value.is_number && !is_named && (is_heavy || !is_short) {
            value.text = to.found.body.assign(&node.scope, &value.text);
        }
        to.values.push(value);
    }
    for (name, id) in &graph.outputs {
        let text = to.whole(*id);
        // Some maps have kept their channel.
        let text = match (name.as_str(), &shapes[*id][..]) {
            ("map", [_, Dim::Fixed(1), _, _]) => text.method("squeeze(1)"),
            _ => text,
        };
        to.found.outputs.push((name.clone(), text.text));
    }
    Ok(to.found)
}

struct Translator<'a> {
    graph: &'a Graph,
    shapes: &'a [Vec<Dim>],
    values: Vec<Value>,
    name: &'a dyn Fn(StateId) -> String,
    found: Network,
}

/// A size in Python, where `n` is the batch.
fn size(dim: &Dim) -> String {
    match *dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Batch(1) => "n".to_owned(),
        Dim::Batch(times) => format!("{times} * n"),
    }
}

/// Sizes as the arguments of a method.
fn sizes(shape: &[Dim]) -> String {
    let all: Vec<String> = shape.iter().map(size).collect();
    format!("({})", all.join(", "))
}

fn call(function: &str, arguments: &[&str]) -> Text {
    Text::whole(format!("{function}({})", arguments.join(", ")))
}

fn infix(a: &Text, operator: &str, b: &Text, binds: Binds) -> Text {
    // A right operand that binds no tighter would be taken apart.
    let tighter = match binds {
        Binds::Comparison => Binds::Sum,
        Binds::Sum => Binds::Product,
        _ => Binds::Sign,
    };
    let left = if binds == Binds::Comparison { tighter } else { binds };
    Text::new(format!("{} {operator} {}", a.within(left), b.within(tighter)), binds)
}

impl Translator<'_> {
    /// A node's value, repeated to its shape.
    fn whole(&mut self, id: NodeId) -> Text {
        let (value, wanted) = (self.values[id].clone(), &self.shapes[id]);
        if value.is_number {
            return call("x.new_full", &[&tuple(wanted.iter().map(size)), &value.text.text]);
        }
        if value.shape == *wanted {
            return value.text;
        }
        let text = value.text.method(&format!("expand{}", sizes(wanted)));
        self.values[id] = Value::tensor(text.clone(), wanted);
        text
    }

    fn helper(&mut self, name: &'static str) -> &'static str {
        if !self.found.helpers.contains(&name) {
            self.found.helpers.push(name);
        }
        name
    }

    /// A constant's name.
    fn constant(&mut self, constant: Constant) -> String {
        self.found.constants.push(constant);
        format!("self.constants[{}]", self.found.constants.len() - 1)
    }

    fn node(&mut self, id: NodeId, node: &Node) -> Result<Value, Unsupported> {
        let shape = self.shapes[id].clone();
        let refused = |what: String| Err(Unsupported::new(&node.scope, what));
        let input = |i: usize| node.inputs[i];
        let text = match &node.op {
            Op::Input(name) if name == "x" => Text::whole("x"),
            Op::Input(name) => {
                return refused(format!("reads an input '{name}', which modules do not have"));
            }
            Op::State(state) => Text::whole(attribute(&(self.name)(*state))),
            Op::Const(Num(value)) => {
                return Ok(Value { text: Text::number(*value), shape: vec![], is_number: true });
            }
            Op::Unary(op) => {
                let value = self.values[input(0)].clone();
                // Functions take tensors alone.
                let text = if value.is_number { self.whole(input(0)) } else { value.text.clone() };
                let shape = if value.is_number { &shape } else { &value.shape };
                return Ok(Value::tensor(unary(*op, &text), shape));
            }
            Op::Binary(op) => return Ok(self.binary(*op, [input(0), input(1)])),
            Op::Select => {
                let [condition, a, b] = [0, 1, 2].map(|i| self.values[input(i)].clone());
                let text = format!(
                    "torch.where({} != 0, {}, {})",
                    condition.text.within(Binds::Sum),
                    a.text.text,
                    b.text.text
                );
                return Ok(Value::tensor(
                    Text::whole(text),
                    &joined(&[&condition.shape, &a.shape, &b.shape]),
                ));
            }
            Op::StopGradient => {
                let value = self.values[input(0)].clone();
                let text = if value.is_number { value.text } else { value.text.method("detach()") };
                return Ok(Value { text, ..value });
            }
            Op::Broadcast => return Ok(self.values[input(0)].clone()),
            Op::Reshape => {
                let value = self.whole(input(0));
                match self.shapes[input(0)] == shape {
                    true => value,
                    false => value.method(&format!("reshape{}", sizes(&shape))),
                }
            }
            Op::Permute(order) => self.whole(input(0)).method(&format!("permute{}", tuple(order))),
            Op::Slice { start, step } => {
                let value = self.whole(input(0));
                let from = self.shapes[input(0)].clone();
                let range = |d: usize| match shape[d] {
                    Dim::Fixed(length) if Dim::Fixed(length) != from[d] || step[d] != 1 => {
                        Some((start[d], start[d] + (length - 1) * step[d] + 1, step[d]))
                    }
                    _ => None,
                };
                cut(&value, &(0..shape.len()).map(range).collect::<Vec<_>>())
            }
            Op::Embed { start, step } => {
                let value = self.whole(input(0));
                let from = self.shapes[input(0)].clone();
                let keeps = |d: usize| from[d] == shape[d] && start[d] == 0 && step[d] == 1;
                if (0..shape.len()).any(|d| !keeps(d) && fixed(&[from[d], shape[d]]).is_none()) {
                    return refused("places samples within a batch".to_owned());
                }
                let places = [&value.text, &*tuple(shape.iter().map(size)), &tuple(start), &tuple(step)];
                call(self.helper("embed"), &places)
            }
            Op::Concat(axis) => {
                let parts: Vec<String> = node.inputs.iter().map(|&id| self.whole(id).text).collect();
                call("torch.cat", &[&tuple(parts), &axis.to_string()])
            }
            Op::Sum { axes, scale } => self.sum(input(0), axes, scale.0),
            Op::Max { axes } => self.whole(input(0)).method(&format!("amax({}, keepdim=True)", tuple(axes))),
            Op::Variance { axes } => {
                self.whole(input(0)).method(&format!("var({}, unbiased=False, keepdim=True)", tuple(axes)))
            }
            Op::Conv(Face::Weight, _) => {
                return refused(
                    "is the gradient of a convolution's weights, which sums over a batch".to_owned(),
                );
            }
            Op::Conv(face, geometry) => {
                let operands = [self.whole(input(0)), self.whole(input(1))];
                match face {
                    Face::Conv => conv(geometry, &operands),
                    _ => transposed(geometry, &operands),
                }
            }
            Op::MatMul { trans_a, trans_b } => {
                let [a, b] = [self.whole(input(0)), self.whole(input(1))];
                let ranks = [0, 1].map(|i| self.shapes[input(i)].len());
                match (ranks, trans_a, trans_b) {
                    ([2, 2], false, true) => call("F.linear", &[&a.text, &b.text]),
                    _ => {
                        let turned = |value: Text, is: bool| if is { value.method("mT") } else { value };
                        infix(&turned(a, *trans_a), "@", &turned(b, *trans_b), Binds::Product)
                    }
                }
            }
            Op::MaxPool(pool) => match self.max_pool(node, pool) {
                Some(text) => text,
                None => return refused("is the gradient of a pooling, which modules do not have".to_owned()),
            },
            Op::Sparse(axis, matrix) => self.sparse(input(0), *axis, matrix),
            Op::Random(..) => return refused("draws random numbers".to_owned()),
            Op::Custom(custom) => {
                return refused(format!("is the operation '{}', which PyTorch does not have", custom.name()));
            }
        };
        Ok(Value::tensor(text, &shape))
    }

    fn binary(&mut self, op: Binary, ids: [NodeId; 2]) -> Value {
        let [a, b] = ids.map(|id| self.values[id].clone());
        let shape = joined(&[&a.shape, &b.shape]);
        let text = match op {
            Binary::Add => infix(&a.text, "+", &b.text, Binds::Sum),
            Binary::Sub => infix(&a.text, "-", &b.text, Binds::Sum),
            Binary::Mul => infix(&a.text, "*", &b.text, Binds::Product),
            Binary::Div => infix(&a.text, "/", &b.text, Binds::Product),
            Binary::Max | Binary::Min => {
                let (bound, function) =
                    if op == Binary::Max { ("min", "torch.maximum") } else { ("max", "torch.minimum") };
                match (a.is_number, b.is_number) {
                    (false, true) => a.text.method(&format!("clamp({bound}={})", b.text.text)),
                    (true, false) => b.text.method(&format!("clamp({bound}={})", a.text.text)),
                    (false, false) => call(function, &[&a.text.text, &b.text.text]),
                    (true, true) => {
                        let [a, b] = ids.map(|id| self.whole(id));
                        call(function, &[&a.text, &b.text])
                    }
                }
            }
            Binary::Pow if a.is_number || b.is_number => {
                let base = if a.is_number && b.is_number { self.whole(ids[0]) } else { a.text };
                call("torch.pow", &[&base.text, &b.text.text])
            }
            Binary::Pow => call("torch.pow", &[&a.text.text, &b.text.text]),
            Binary::Greater => infix(&a.text, ">", &b.text, Binds::Comparison).method("float()"),
            Binary::Equal => infix(&a.text, "==", &b.text, Binds::Comparison).method("float()"),
        };
        Value::tensor(text, &shape)
    }

    fn sum(&mut self, of: NodeId, axes: &[usize], scale: f32) -> Text {
        let value = self.whole(of);
        let reduced: Vec<Dim> = axes.iter().map(|&axis| self.shapes[of][axis]).collect();
        let count = fixed(&reduced).map(|sizes| sizes.iter().product::<usize>() as f32);
        let reduce = |name: &str| value.method(&format!("{name}({}, keepdim=True)", tuple(axes)));
        match count.is_some_and(|count| scale == 1.0 / count) {
            true => reduce("mean"),
            false => times(&reduce("sum"), scale),
        }
    }

    /// Maxima of windows, whose places nothing else reads.
    fn max_pool(&mut self, node: &Node, p: &MaxPool) -> Option<Text> {
        let own = |node: &Node| {
            matches!(&self.graph.nodes[node.inputs[1]], Node { op: Op::MaxPool(of), inputs, .. }
                if of.face == PoolFace::Indices && inputs[0] == node.inputs[0])
        };
        match p.face {
            // Said by whoever gathers.
            PoolFace::Indices => {
                let id = self.values.len();
                let readers = self.graph.nodes.iter().filter(|reader| reader.inputs.contains(&id));
                let gathers = |reader: &Node| {
                    matches!(&reader.op, Op::MaxPool(of) if of.face == PoolFace::Gather) && own(reader)
                };
                return readers.into_iter().all(gathers).then(|| Text::whole("None"));
            }
            PoolFace::Gather if own(node) => {}
            _ => return None,
        }
        let value = self.whole(node.inputs[0]);
        let window = [0, 1].map(|d| p.dilation[d] * (p.kernel[d] - 1) + 1);
        let reach = [0, 1].map(|d| (p.y[d] - 1) * p.stride[d] + window[d]);
        let high = [0, 1].map(|d| reach[d].saturating_sub(p.x[d] + p.pad_low[d]));
        let value = match (p.pad_low, high) {
            ([0, 0], [0, 0]) => value.text,
            (low, high) => format!(
                "F.pad({}, {}, value=-float(\"inf\"))",
                value.text,
                tuple([low[1], high[1], low[0], high[0]])
            ),
        };
        let mut arguments = vec![value, pair(p.kernel), pair(p.stride)];
        if p.dilation != [1, 1] {
            arguments.push(format!("dilation={}", pair(p.dilation)));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let natural = [0, 1].map(|d| (p.x[d] + p.pad_low[d] + high[d] - window[d]) / p.stride[d] + 1);
        let kept = |d: usize| (natural[d] != p.y[d]).then(|| (0, p.y[d], 1));
        Some(cut(&call("F.max_pool2d", &arguments), &[None, None, kept(0), kept(1)]))
    }

    /// A fixed matrix along an axis: a gather where rows are single entries, else a product where rows are
    /// long, else a weighted sum of gathered entries.
    fn sparse(&mut self, of: NodeId, axis: usize, matrix: &Matrix) -> Text {
        let value = self.whole(of).text;
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let longest = (0..rows).map(|row| matrix.row(row).len()).max().unwrap_or(0).max(1);
        if longest > 1 && 4 * longest >= columns {
            let mut dense = vec![0.0; rows * columns];
            for row in 0..rows {
                matrix
                    .row(row)
                    .iter()
                    .for_each(|&(column, weight)| dense[row * columns + column] += weight.0);
            }
            let dense = self.constant(Constant::Numbers(vec![rows, columns], dense));
            return call(self.helper("along"), &[&value, &axis.to_string(), &dense]);
        }
        let entry = |row: usize, k: usize| matrix.row(row).get(k).map_or((0, 0.0), |&(c, w)| (c, w.0));
        let all: Vec<(usize, f32)> = (0..rows)
            .flat_map(|row| (0..longest).map(move |k| (row, k)))
            .map(|(row, k)| entry(row, k))
            .collect();
        let places: Vec<i64> = all.iter().map(|&(column, _)| column as i64).collect();
        if longest == 1 && all.iter().all(|&(_, weight)| weight == 1.0) {
            let places = self.constant(Constant::Places(vec![rows], places));
            return call("torch.index_select", &[&value, &axis.to_string(), &places]);
        }
        let places = self.constant(Constant::Places(vec![rows, longest], places));
        let weights = all.iter().map(|&(_, weight)| weight).collect();
        let weights = self.constant(Constant::Numbers(vec![rows, longest], weights));
        call(self.helper("weighted"), &[&value, &axis.to_string(), &places, &weights])
    }
}

/// Ranges along dimensions, with first, end and step.
fn cut(value: &Text, ranges: &[Option<(usize, usize, usize)>]) -> Text {
    let Some(last) = ranges.iter().rposition(Option::is_some) else { return value.clone() };
    let range = |range: &Option<(usize, usize, usize)>| match *range {
        None => ":".to_owned(),
        Some((0, end, 1)) => format!(":{end}"),
        Some((start, end, 1)) => format!("{start}:{end}"),
        Some((start, end, step)) => format!("{start}:{end}:{step}"),
    };
    let ranges: Vec<String> = ranges[..=last].iter().map(range).collect();
    Text::whole(format!("{}[{}]", value.within(Binds::Whole), ranges.join(", ")))
}

fn times(value: &Text, factor: f32) -> Text {
    if factor == 1.0 { value.clone() } else { infix(value, "*", &Text::number(factor), Binds::Product) }
}

fn unary(op: Unary, x: &Text) -> Text {
    let function = |name: &str| call(name, &[&x.text]);
    match op {
        Unary::Neg => Text::new(format!("-{}", x.within(Binds::Whole)), Binds::Sign),
        Unary::Recip => infix(&Text::number(1.0), "/", x, Binds::Product),
        Unary::Exp => function("torch.exp"),
        Unary::Log => function("torch.log"),
        Unary::Sqrt => function("torch.sqrt"),
        Unary::Abs => function("torch.abs"),
        Unary::Sign => function("torch.sign"),
        Unary::Square => function("torch.square"),
        Unary::Relu => function("F.relu"),
        Unary::LeakyRelu(slope) => call("F.leaky_relu", &[&x.text, &number(slope)]),
        Unary::LeakyMask(slope) => {
            Text::whole(format!("torch.where({} > 0, 1.0, {})", x.within(Binds::Sum), number(slope)))
        }
        Unary::Tanh => function("torch.tanh"),
        Unary::Sigmoid => function("torch.sigmoid"),
        Unary::Softplus => function("F.softplus"),
        Unary::Affine(scale, shift) => {
            let scaled = times(x, scale.0);
            match shift.0 {
                0.0 => scaled,
                shift if shift < 0.0 => infix(&scaled, "-", &Text::number(-shift), Binds::Sum),
                shift => infix(&scaled, "+", &Text::number(shift), Binds::Sum),
            }
        }
        Unary::Clamp(low, high) => x.method(&format!("clamp({}, {})", number(low), number(high))),
        Unary::ClampMask(low, high) => {
            let x = x.within(Binds::Sum);
            Text::whole(format!("(({x} >= {}) & ({x} <= {})).float()", number(low), number(high)))
        }
        Unary::Step => infix(x, ">", &Text::number(0.0), Binds::Comparison).method("float()"),
    }
}

/// Options that are not the usual ones.
fn options(g: &Geometry, padding: [usize; 2], output: [usize; 2]) -> String {
    let all = [
        ("stride", g.stride, [1, 1]),
        ("padding", padding, [0, 0]),
        ("output_padding", output, [0, 0]),
        ("dilation", g.dilation, [1, 1]),
    ];
    let said = all.iter().filter(|(_, value, usual)| value != usual);
    said.map(|(name, value, _)| format!(", {name}={}", pair(*value))).collect()
}

fn conv(g: &Geometry, [x, w]: &[Text; 2]) -> Text {
    let (low, high) = (g.pad_low, g.pad_high);
    if low == high {
        return Text::whole(format!("F.conv2d({}, {}{})", x.text, w.text, options(g, low, [0, 0])));
    }
    let pads = tuple([low[1], high[1], low[0], high[0]]);
    Text::whole(format!("F.conv2d(F.pad({}, {pads}), {}{})", x.text, w.text, options(g, [0, 0], [0, 0])))
}

/// PyTorch cuts the same off both ends; what is left over goes by a slice.
fn transposed(g: &Geometry, [y, w]: &[Text; 2]) -> Text {
    let same = [0, 1].map(|d| g.pad_low[d].min(g.pad_high[d]));
    let natural =
        [0, 1].map(|d| (g.y[d] - 1) * g.stride[d] + g.dilation[d] * (g.kernel[d] - 1) + 1 - 2 * same[d]);
    let first = [0, 1].map(|d| g.pad_low[d] - same[d]);
    let more = [0, 1].map(|d| (first[d] + g.x[d]).saturating_sub(natural[d]));
    let made = format!("F.conv_transpose2d({}, {}{})", y.text, w.text, options(g, same, more));
    let kept =
        |d: usize| (first[d] > 0 || natural[d] + more[d] != g.x[d]).then(|| (first[d], first[d] + g.x[d], 1));
    cut(&Text::whole(made), &[None, None, kept(0), kept(1)])
}
