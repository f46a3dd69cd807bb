//! From what a tape recorded to ONNX operators, node by node: a system needs no code of its own to be
//! exported.
//!
//! Graphs take any batch (`../batches.rs`).

use std::collections::HashMap;

use ganomede_kernels::conv::{Face, Geometry};
use ganomede_kernels::expr::{Binary, Num, Unary};
use ganomede_kernels::pool::{Face as PoolFace, MaxPool};
use ganomede_kernels::sparse::Matrix;

use super::graph::{Builder, Name, float, int, ints};
use super::proto::tensor_proto::DataType;
use crate::export::batches::{AnyBatch, Dim, Unsupported, fixed, joined};
use crate::program::StateId;
use crate::tape::{Graph, Node, NodeId, Op};

/// A value in the graph that is built. Where its shape is smaller than the node's, it is repeated by whoever
/// needs all of it: ONNX's element-wise operators repeat by themselves.
#[derive(Debug, Clone)]
struct Value {
    name: Name,
    shape: Vec<Dim>,
}

/// Where graphs that are joined take their values from.
pub(super) struct Sources<'s> {
    /// Inputs of the tape by name, as values of the graph.
    pub(super) inputs: &'s HashMap<String, Name>,
    /// States that change, as values of the graph.
    pub(super) states: &'s HashMap<StateId, Name>,
    /// The size of the batch, a vector of one number.
    pub(super) batch: &'s str,
}

/// What became of a graph.
pub(super) struct Translated {
    /// Outputs by name.
    pub(super) outputs: HashMap<String, (Name, Vec<Dim>)>,
    /// New values of states.
    pub(super) assigns: HashMap<StateId, Name>,
    /// States that were read as constants; each must be stored under [`weight_name`].
    pub(super) weights: Vec<StateId>,
}

/// Appends a graph, recorded in batches of [`BATCHES`], to what is built: the outputs that are asked for, and
/// all new values of states. `weight` names the constants of states.
pub(super) fn translate(
    builder: &mut Builder,
    recorded: [&Graph; 2],
    outputs: &[&str],
    sources: &Sources<'_>,
    weight: &dyn Fn(StateId) -> Name,
) -> Result<Translated, Unsupported> {
    let AnyBatch { graph, shapes } = AnyBatch::of(recorded, outputs)?;
    let mut translator = Translator {
        builder,
        graph: &graph,
        shapes: &shapes,
        values: vec![],
        sources,
        weight,
        weights: vec![],
    };
    for (id, node) in graph.nodes.iter().enumerate() {
        translator.builder.scope = node.scope.replace('∇', "gradient.");
        let value = translator.node(id, node)?;
        translator.values.push(value);
    }
    translator.builder.scope.clear();
    let outputs = graph.outputs.iter().map(|(name, id)| {
        let value = translator.whole(*id);
        (name.clone(), (value, shapes[*id].clone()))
    });
    let outputs = outputs.collect();
    let assigns = graph.assigns.iter().map(|(&state, &id)| (state, translator.whole(id))).collect();
    Ok(Translated { outputs, assigns, weights: translator.weights })
}

struct Translator<'a> {
    builder: &'a mut Builder,
    graph: &'a Graph,
    /// Shape of each node.
    shapes: &'a [Vec<Dim>],
    values: Vec<Value>,
    sources: &'a Sources<'a>,
    weight: &'a dyn Fn(StateId) -> Name,
    weights: Vec<StateId>,
}

impl Translator<'_> {
    /// A node's value, repeated to its shape.
    fn whole(&mut self, id: NodeId) -> Name {
        let (Value { name, shape }, wanted) = (self.values[id].clone(), &self.shapes[id]);
        if shape == *wanted {
            return name;
        }
        let missing = wanted.len() - shape.len();
        let same = |d: usize| d >= missing && shape[d - missing] == wanted[d];
        // A dimension of 1 keeps the value's own.
        let kept = |d: usize| if same(d) { Dim::Fixed(1) } else { wanted[d] };
        let sizes: Vec<Dim> = (0..wanted.len()).map(kept).collect();
        let sizes = self.sizes(&sizes);
        let name = self.builder.simple("Expand", &[&name, &sizes]);
        self.values[id] = Value { name: name.clone(), shape: self.shapes[id].clone() };
        name
    }

    /// Sizes as a vector.
    fn sizes(&mut self, sizes: &[Dim]) -> Name {
        if let Some(fixed) = fixed(sizes) {
            let fixed: Vec<i64> = fixed.into_iter().map(|size| size as i64).collect();
            return self.builder.whole(&fixed);
        }
        let parts = sizes.iter().map(|size| match *size {
            Dim::Fixed(size) => self.builder.whole(&[size as i64]),
            Dim::Batch(1) => self.sources.batch.to_owned(),
            Dim::Batch(times) => {
                let times = self.builder.whole(&[times as i64]);
                self.builder.simple("Mul", &[self.sources.batch, &times])
            }
        });
        let parts: Vec<Name> = parts.collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.builder.op("Concat", &parts, vec![int("axis", 0)])
    }

    fn node(&mut self, id: NodeId, node: &Node) -> Result<Value, Unsupported> {
        let shape = self.shapes[id].clone();
        let refused = |what: String| Err(Unsupported { scope: node.scope.to_string(), what });
        let input = |i: usize| node.inputs[i];
        let name = match &node.op {
            Op::Input(name) => match self.sources.inputs.get(name) {
                Some(value) => value.clone(),
                None => return refused(format!("reads an input '{name}', which graphs do not have")),
            },
            Op::State(state) => match self.sources.states.get(state) {
                Some(value) => value.clone(),
                None => {
                    if !self.weights.contains(state) {
                        self.weights.push(*state);
                    }
                    (self.weight)(*state)
                }
            },
            Op::Const(Num(value)) => self.builder.scalar(*value),
            Op::Unary(op) => {
                let value = self.values[input(0)].clone();
                return Ok(Value { name: self.unary(*op, &value.name), shape: value.shape });
            }
            Op::Binary(op) => return Ok(self.element_wise(&node.inputs, |b, of| binary(b, *op, of))),
            Op::Select => {
                return Ok(self.element_wise(&node.inputs, |b, of| {
                    let is = b.cast(of[0], DataType::Bool);
                    b.simple("Where", &[&is, of[1], of[2]])
                }));
            }
            Op::StopGradient | Op::Broadcast => return Ok(self.values[input(0)].clone()),
            Op::Reshape => {
                let value = self.whole(input(0));
                let from = self.shapes[input(0)].clone();
                self.reshape(&value, &from, &shape)
            }
            Op::Permute(order) => {
                let value = self.whole(input(0));
                self.builder.op("Transpose", &[&value], vec![ints("perm", order.iter().copied())])
            }
            Op::Slice { start, step } => {
                let value = self.whole(input(0));
                let (from, to) = (self.shapes[input(0)].clone(), &shape);
                let cut: Vec<usize> =
                    (0..to.len()).filter(|&d| from[d] != to[d] || start[d] != 0 || step[d] != 1).collect();
                let mut ends = vec![];
                for &d in &cut {
                    let (Dim::Fixed(_), Dim::Fixed(length)) = (from[d], to[d]) else {
                        return refused("takes some of the samples of a batch".to_owned());
                    };
                    ends.push(start[d] + (length - 1) * step[d] + 1);
                }
                let of = |values: &[usize]| cut.iter().map(|&d| values[d]).collect::<Vec<_>>();
                let (starts, steps) = (of(start), of(step));
                self.slice(&value, &starts, &ends, &cut, &steps)
            }
            Op::Embed { start, step } => {
                let value = self.whole(input(0));
                let from = self.shapes[input(0)].clone();
                match self.embed(value, &from, &shape, start, step) {
                    Some(name) => name,
                    None => return refused("places samples within a batch".to_owned()),
                }
            }
            Op::Concat(axis) => {
                let parts: Vec<Name> = node.inputs.iter().map(|&id| self.whole(id)).collect();
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.builder.op("Concat", &parts, vec![int("axis", *axis as i64)])
            }
            Op::Sum { axes, scale } => {
                let value = self.whole(input(0));
                let from = &self.shapes[input(0)];
                let reduced: Vec<Dim> = axes.iter().map(|&axis| from[axis]).collect();
                let count = fixed(&reduced).map(|sizes| sizes.iter().product::<usize>() as f32);
                if count.is_some_and(|count| scale.0 == 1.0 / count) {
                    self.reduce("ReduceMean", &value, axes)
                } else {
                    let sum = self.reduce("ReduceSum", &value, axes);
                    self.times(&sum, scale.0)
                }
            }
            Op::Max { axes } => {
                let value = self.whole(input(0));
                self.reduce("ReduceMax", &value, axes)
            }
            Op::Variance { axes } => {
                let value = self.whole(input(0));
                let mean = self.reduce("ReduceMean", &value, axes);
                let apart = self.builder.simple("Sub", &[&value, &mean]);
                let squares = self.builder.simple("Mul", &[&apart, &apart]);
                self.reduce("ReduceMean", &squares, axes)
            }
            Op::Conv(Face::Weight, _) => {
                return refused(
                    "is the gradient of a convolution's weights, which sums over a batch".to_owned(),
                );
            }
            Op::Conv(face, geometry) => {
                let operands = [self.whole(input(0)), self.whole(input(1))];
                self.conv(*face, geometry, &operands)
            }
            Op::MatMul { trans_a, trans_b } => {
                let operands = [self.whole(input(0)), self.whole(input(1))];
                let ranks = [0, 1].map(|i| self.shapes[input(i)].len());
                self.product(&operands, ranks, [*trans_a, *trans_b])
            }
            Op::MaxPool(pool) => match self.max_pool(node, pool) {
                Some(name) => name,
                None => return refused("is a pooling that ONNX has no form for".to_owned()),
            },
            Op::Sparse(axis, matrix) => {
                let value = self.whole(input(0));
                let from = self.shapes[input(0)].clone();
                self.sparse(&value, &from, &shape, *axis, matrix)
            }
            Op::Random(..) => return refused("draws random numbers".to_owned()),
            Op::Custom(custom) => {
                return refused(format!("is the operation '{}', which ONNX does not have", custom.name()));
            }
        };
        Ok(Value { name, shape })
    }

    /// An operator that repeats its operands by itself.
    fn element_wise(&mut self, inputs: &[NodeId], op: impl FnOnce(&mut Builder, &[&str]) -> Name) -> Value {
        let values: Vec<Value> = inputs.iter().map(|&id| self.values[id].clone()).collect();
        let shapes: Vec<&[Dim]> = values.iter().map(|value| value.shape.as_slice()).collect();
        let names: Vec<&str> = values.iter().map(|value| value.name.as_str()).collect();
        Value { name: op(self.builder, &names), shape: joined(&shapes) }
    }

    fn times(&mut self, value: &str, factor: f32) -> Name {
        if factor == 1.0 {
            return value.to_owned();
        }
        let factor = self.builder.scalar(factor);
        self.builder.simple("Mul", &[value, &factor])
    }

    fn unary(&mut self, op: Unary, x: &str) -> Name {
        let builder = &mut *self.builder;
        match op {
            Unary::Neg => builder.simple("Neg", &[x]),
            Unary::Recip => builder.simple("Reciprocal", &[x]),
            Unary::Exp => builder.simple("Exp", &[x]),
            Unary::Log => builder.simple("Log", &[x]),
            Unary::Sqrt => builder.simple("Sqrt", &[x]),
            Unary::Abs => builder.simple("Abs", &[x]),
            Unary::Sign => builder.simple("Sign", &[x]),
            Unary::Square => builder.simple("Mul", &[x, x]),
            Unary::Relu => builder.simple("Relu", &[x]),
            Unary::LeakyRelu(slope) => builder.op("LeakyRelu", &[x], vec![float("alpha", slope.0)]),
            Unary::LeakyMask(slope) => {
                let [zero, one, slope] = [0.0, 1.0, slope.0].map(|value| builder.scalar(value));
                let above = builder.simple("Greater", &[x, &zero]);
                builder.simple("Where", &[&above, &one, &slope])
            }
            Unary::Tanh => builder.simple("Tanh", &[x]),
            Unary::Sigmoid => builder.simple("Sigmoid", &[x]),
            Unary::Softplus => builder.simple("Softplus", &[x]),
            Unary::Affine(scale, shift) => {
                let scaled = self.times(x, scale.0);
                if shift.0 == 0.0 {
                    return scaled;
                }
                let shift = self.builder.scalar(shift.0);
                self.builder.simple("Add", &[&scaled, &shift])
            }
            Unary::Clamp(low, high) => {
                let [low, high] = [low.0, high.0].map(|value| builder.scalar(value));
                builder.simple("Clip", &[x, &low, &high])
            }
            Unary::ClampMask(low, high) => {
                let [low, high] = [low.0, high.0].map(|value| builder.scalar(value));
                let above = builder.simple("GreaterOrEqual", &[x, &low]);
                let below = builder.simple("LessOrEqual", &[x, &high]);
                let within = builder.simple("And", &[&above, &below]);
                builder.cast(&within, DataType::Float)
            }
            Unary::Step => {
                let zero = builder.scalar(0.0);
                let above = builder.simple("Greater", &[x, &zero]);
                builder.cast(&above, DataType::Float)
            }
        }
    }

    fn reduce(&mut self, op: &str, value: &str, axes: &[usize]) -> Name {
        if axes.is_empty() {
            return value.to_owned();
        }
        // As an input, which all reductions have from operator set 18 on.
        let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        let axes = self.builder.whole(&axes);
        self.builder.op(op, &[value, &axes], vec![int("keepdims", 1)])
    }

    fn reshape(&mut self, value: &str, from: &[Dim], to: &[Dim]) -> Name {
        if from == to {
            return value.to_owned();
        }
        // 0 keeps a dimension, −1 takes what is left: the batch, of which there is one.
        let mut left = false;
        let sizes = to.iter().enumerate().map(|(d, dim)| match *dim {
            Dim::Fixed(size) => size as i64,
            Dim::Batch(_) if from.get(d) == Some(dim) => 0,
            Dim::Batch(_) => {
                left = true;
                -1
            }
        });
        let sizes: Vec<i64> = sizes.collect();
        debug_assert!(!left || sizes.iter().filter(|&&size| size < 0).count() == 1);
        let sizes = self.builder.whole(&sizes);
        self.builder.simple("Reshape", &[value, &sizes])
    }

    fn slice(
        &mut self,
        value: &str,
        starts: &[usize],
        ends: &[usize],
        axes: &[usize],
        steps: &[usize],
    ) -> Name {
        if axes.is_empty() {
            return value.to_owned();
        }
        let [starts, ends, axes, steps] = [starts, ends, axes, steps].map(|values| {
            let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
            self.builder.whole(&values)
        });
        self.builder.simple("Slice", &[value, &starts, &ends, &axes, &steps])
    }

    /// Elements at every `step`-th place of zeros; `None` where that is within a batch.
    fn embed(
        &mut self,
        mut value: Name,
        from: &[Dim],
        to: &[Dim],
        start: &[usize],
        step: &[usize],
    ) -> Option<Name> {
        let rank = from.len();
        let placed: Vec<usize> =
            (0..rank).filter(|&d| from[d] != to[d] || start[d] != 0 || step[d] != 1).collect();
        let mut now = from.to_vec();
        for &d in placed.iter().filter(|&&d| step[d] > 1) {
            // Each element becomes the first of `step`, the last of which go again.
            let Dim::Fixed(length) = now[d] else { return None };
            let mut apart = now.clone();
            apart.insert(d + 1, Dim::Fixed(1));
            value = self.reshape(&value, &now, &apart);
            value = self.pad(&value, rank + 1, &[(d + 1, 0, step[d] - 1)]);
            apart[d + 1] = Dim::Fixed(step[d]);
            now[d] = Dim::Fixed(length * step[d]);
            value = self.reshape(&value, &apart, &now);
            let end = (length - 1) * step[d] + 1;
            value = self.slice(&value, &[0], &[end], &[d], &[1]);
            now[d] = Dim::Fixed(end);
        }
        let mut pads = vec![];
        for &d in &placed {
            let (Dim::Fixed(length), Dim::Fixed(whole)) = (now[d], to[d]) else { return None };
            pads.push((d, start[d], whole - start[d] - length));
        }
        Some(self.pad(&value, rank, &pads))
    }

    /// Zeros before and after, of each axis.
    fn pad(&mut self, value: &str, rank: usize, pads: &[(usize, usize, usize)]) -> Name {
        let mut all = vec![0; 2 * rank];
        for &(axis, before, after) in pads {
            (all[axis], all[rank + axis]) = (before as i64, after as i64);
        }
        let all = self.builder.whole(&all);
        self.builder.simple("Pad", &[value, &all])
    }

    fn conv(&mut self, face: Face, g: &Geometry, operands: &[Name; 2]) -> Name {
        let pads = [g.pad_low, g.pad_high].concat();
        let mut attributes = vec![
            ints("kernel_shape", g.kernel),
            ints("strides", g.stride),
            ints("pads", pads),
            ints("dilations", g.dilation),
        ];
        let operands = [operands[0].as_str(), operands[1].as_str()];
        if face == Face::Conv {
            return self.builder.op("Conv", &operands, attributes);
        }
        // What a stride leaves over at the end of x.
        let rest = [0, 1].map(|d| {
            let padded = g.x[d] + g.pad_low[d] + g.pad_high[d];
            padded - (g.stride[d] * (g.y[d] - 1) + g.dilation[d] * (g.kernel[d] - 1) + 1)
        });
        attributes.push(ints("output_padding", rest));
        self.builder.op("ConvTranspose", &operands, attributes)
    }

    fn product(&mut self, operands: &[Name; 2], ranks: [usize; 2], transposed: [bool; 2]) -> Name {
        if ranks == [2, 2] {
            let flags = transposed.map(i64::from);
            let attributes = vec![int("transA", flags[0]), int("transB", flags[1])];
            return self.builder.op("Gemm", &[&operands[0], &operands[1]], attributes);
        }
        let turned = [0, 1].map(|i| match (transposed[i], ranks[i]) {
            (false, _) => operands[i].clone(),
            (true, 2) => self.builder.op("Transpose", &[&operands[i]], vec![ints("perm", [1, 0])]),
            (true, _) => self.builder.op("Transpose", &[&operands[i]], vec![ints("perm", [0, 2, 1])]),
        });
        self.builder.simple("MatMul", &[&turned[0], &turned[1]])
    }

    /// Maxima with their places; `None` where windows would begin outside of what ONNX pads.
    fn pooled(&mut self, value: &str, p: &MaxPool) -> Option<[Name; 2]> {
        let reach = |d: usize| (p.y[d] - 1) * p.stride[d] + p.dilation[d] * (p.kernel[d] - 1) + 1;
        let high = [0, 1].map(|d| reach(d).saturating_sub(p.x[d] + p.pad_low[d]));
        let window = [0, 1].map(|d| p.dilation[d] * (p.kernel[d] - 1) + 1);
        if (0..2).any(|d| p.pad_low[d] >= window[d] || high[d] >= window[d]) {
            return None;
        }
        let attributes = vec![
            ints("kernel_shape", p.kernel),
            ints("strides", p.stride),
            ints("pads", [p.pad_low, high].concat()),
            ints("dilations", p.dilation),
        ];
        let mut outputs = self.builder.ops("MaxPool", &[value], attributes, 2).into_iter();
        let pooled = [outputs.next()?, outputs.next()?];
        // Windows that the tape leaves out at the end.
        let natural = [0, 1].map(|d| (p.x[d] + p.pad_low[d] + high[d] - window[d]) / p.stride[d] + 1);
        let cut: Vec<usize> = (0..2).filter(|&d| natural[d] != p.y[d]).collect();
        let (axes, ends): (Vec<_>, Vec<_>) = cut.iter().map(|&d| (d + 2, p.y[d])).unzip();
        let (starts, steps) = (vec![0; cut.len()], vec![1; cut.len()]);
        Some(pooled.map(|name| self.slice(&name, &starts, &ends, &axes, &steps)))
    }

    fn max_pool(&mut self, node: &Node, p: &MaxPool) -> Option<Name> {
        let plane = (p.x[0] * p.x[1]) as i64;
        let value = self.whole(node.inputs[0]);
        if p.face == PoolFace::Indices {
            let [_, places] = self.pooled(&value, p)?;
            // ONNX counts through the whole tensor, the tape within a plane.
            let plane = self.builder.whole_scalar(plane);
            let places = self.builder.simple("Mod", &[&places, &plane]);
            return Some(self.builder.cast(&places, DataType::Float));
        }
        let own = matches!(&self.graph.nodes[node.inputs[1]], Node { op: Op::MaxPool(of), inputs, .. }
            if of.face == PoolFace::Indices && inputs[0] == node.inputs[0]);
        if p.face == PoolFace::Gather && own {
            let [maxima, _] = self.pooled(&value, p)?;
            return Some(maxima);
        }
        let places = self.whole(node.inputs[1]);
        let places = self.builder.cast(&places, DataType::Int64);
        let flat = self.builder.whole(&[0, 0, -1]);
        let [value, places] = [value, places].map(|v| self.builder.simple("Reshape", &[&v, &flat]));
        let (size, result) = match p.face {
            PoolFace::Gather => {
                (p.y, self.builder.op("GatherElements", &[&value, &places], vec![int("axis", 2)]))
            }
            _ => {
                let ends = [0, 1].map(|axis| self.builder.extent(&value, axis));
                let length = self.builder.whole(&[plane]);
                let sizes = self.builder.op("Concat", &[&ends[0], &ends[1], &length], vec![int("axis", 0)]);
                let zero = self.builder.scalar(0.0);
                let zeros = self.builder.simple("Expand", &[&zero, &sizes]);
                let attributes = vec![int("axis", 2), super::graph::text("reduction", "add")];
                (p.x, self.builder.op("ScatterElements", &[&zeros, &places, &value], attributes))
            }
        };
        let sizes = self.builder.whole(&[0, 0, size[0] as i64, size[1] as i64]);
        Some(self.builder.simple("Reshape", &[&result, &sizes]))
    }

    /// A fixed matrix along an axis: a gather where rows are single entries, else a product where rows are
    /// long, else a weighted sum of gathered entries.
    fn sparse(&mut self, value: &str, from: &[Dim], to: &[Dim], axis: usize, matrix: &Matrix) -> Name {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let longest = (0..rows).map(|row| matrix.row(row).len()).max().unwrap_or(0).max(1);
        if longest > 1 && 4 * longest >= columns {
            let mut dense = vec![0.0; rows * columns];
            for row in 0..rows {
                for &(column, weight) in matrix.row(row) {
                    dense[row * columns + column] += weight.0;
                }
            }
            // As [.., columns, rest], so that the matrix stands before it.
            let inner: Option<Vec<usize>> = fixed(&from[axis + 1..]);
            if let Some(inner) = inner {
                let inner = inner.iter().product::<usize>();
                let outer = from[..axis].to_vec();
                let flat = [outer.clone(), vec![Dim::Fixed(columns), Dim::Fixed(inner)]].concat();
                let made = [outer, vec![Dim::Fixed(rows), Dim::Fixed(inner)]].concat();
                let value = self.reshape(value, from, &flat);
                let dense = self.builder.floats(&[rows, columns], &dense);
                let product = self.builder.simple("MatMul", &[&dense, &value]);
                return self.reshape(&product, &made, to);
            }
        }
        let entries = |row: usize| {
            let row = matrix.row(row);
            (0..longest).map(move |k| row.get(k).map_or((0, 0.0), |&(column, weight)| (column, weight.0)))
        };
        let all: Vec<(usize, f32)> = (0..rows).flat_map(entries).collect();
        let places: Vec<i64> = all.iter().map(|&(column, _)| column as i64).collect();
        let places = self.builder.whole(&places);
        let gathered = self.builder.op("Gather", &[value, &places], vec![int("axis", axis as i64)]);
        if all.iter().all(|&(_, weight)| weight == 1.0) {
            return gathered;
        }
        let mut long = to.to_vec();
        long[axis] = Dim::Fixed(rows * longest);
        let mut parted = to.to_vec();
        parted.insert(axis + 1, Dim::Fixed(longest));
        let apart = self.reshape(&gathered, &long, &parted);
        let weights: Vec<f32> = all.iter().map(|&(_, weight)| weight).collect();
        let mut shape = vec![rows, longest];
        shape.resize(2 + to.len() - axis - 1, 1);
        let weights = self.builder.floats(&shape, &weights);
        let weighted = self.builder.simple("Mul", &[&apart, &weights]);
        let axes = self.builder.whole(&[axis as i64 + 1]);
        self.builder.op("ReduceSum", &[&weighted, &axes], vec![int("keepdims", 0)])
    }
}

fn binary(builder: &mut Builder, op: Binary, of: &[&str]) -> Name {
    let name = match op {
        Binary::Add => "Add",
        Binary::Sub => "Sub",
        Binary::Mul => "Mul",
        Binary::Div => "Div",
        Binary::Max => "Max",
        Binary::Min => "Min",
        Binary::Pow => "Pow",
        Binary::Greater => "Greater",
        Binary::Equal => "Equal",
    };
    let value = builder.simple(name, of);
    match op {
        Binary::Greater | Binary::Equal => builder.cast(&value, DataType::Float),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::batches::{BATCHES, MIXES};
    use crate::tape::{Operation, Tape, Tensor};
    use ganomede_kernels::Kernel;

    /// What becomes of a score recorded in both batches.
    fn translated(
        record: impl for<'t> Fn(&'t Tape, Tensor<'t>) -> Tensor<'t>,
    ) -> Result<Builder, Unsupported> {
        let graphs = BATCHES.map(|batch| {
            let tape = Tape::new();
            let x = tape.input("x", &[batch, 3, 4, 4]);
            let _scope = tape.scope("layer");
            tape.output("score", record(&tape, x));
            tape.output("unasked", x.mean_all());
            tape.finish().unwrap()
        });
        let mut builder = Builder::default();
        let inputs = HashMap::from([("x".to_owned(), "x".to_owned())]);
        let sources = Sources { inputs: &inputs, states: &HashMap::new(), batch: "n" };
        translate(&mut builder, [&graphs[0], &graphs[1]], &["score"], &sources, &|_| String::new())?;
        Ok(builder)
    }

    fn refused(record: impl for<'t> Fn(&'t Tape, Tensor<'t>) -> Tensor<'t>) -> Unsupported {
        translated(record).err().expect("this has no form in ONNX")
    }

    #[test]
    fn what_samples_have_for_themselves_is_translated() {
        assert!(translated(|_, x| x.square().sum_per_sample()).is_ok());
        assert!(translated(|_, x| x.reshape(&[x.len() / 16, 16]).mean(&[1])).is_ok());
        assert!(translated(|_, x| (x - x.mean(&[0, 2, 3])).sum_per_sample()).is_err());
    }

    #[test]
    fn what_mixes_samples_or_is_unknown_is_refused_by_its_layer() {
        let mixed = refused(|_, x| x.mean(&[0]));
        assert_eq!((mixed.scope.as_str(), mixed.what.as_str()), ("layer", MIXES));
        assert_eq!(refused(|_, x| x.sum(&[0])).what, MIXES);
        let first = refused(|_, x| x.narrow(0, 0, 1));
        assert_eq!(first.what, "takes some of the samples of a batch");

        #[derive(Debug)]
        struct Own;
        impl Operation for Own {
            fn name(&self) -> &'static str {
                "own"
            }
            fn kernel(&self, operands: &[&[usize]]) -> Result<(Vec<usize>, Kernel), String> {
                let len = operands[0].iter().product();
                let matrix = std::sync::Arc::new(Matrix::new(len, (0..len).map(|i| vec![(i, 1.0)])));
                let sparse = ganomede_kernels::sparse::Sparse { outer: 1, inner: 1, matrix };
                Ok((operands[0].to_vec(), Kernel::Sparse(sparse)))
            }
            fn vjp<'t>(
                &self,
                _: &'t Tape,
                _: &[Tensor<'t>],
                _: Tensor<'t>,
                cotangent: Tensor<'t>,
            ) -> Vec<Option<Tensor<'t>>> {
                vec![Some(cotangent)]
            }
        }
        let own = refused(|tape, x| tape.custom(Own, &[x]));
        assert_eq!(own.what, "is the operation 'own', which ONNX does not have");
    }
}
