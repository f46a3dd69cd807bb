//! Graphs evaluated node by node in plain f64 loops: what every compiled program must equal.

use std::collections::BTreeMap;

use ganomede::tape::{Graph, Node, NodeId, Op};
use ganomede_kernels::conv::{Face, Geometry};
use ganomede_kernels::expr::select;
use ganomede_kernels::pool::{self, MaxPool};

/// Values of all nodes, by id.
pub(crate) struct Values(pub(crate) Vec<Vec<f64>>);

/// Inputs by name and states by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) inputs: BTreeMap<String, Vec<f64>>,
    pub(crate) states: BTreeMap<usize, Vec<f64>>,
}

/// Evaluates every node, dead ones included.
pub(crate) fn evaluate(graph: &Graph, world: &World) -> Values {
    let mut values: Vec<Vec<f64>> = vec![];
    for node in &graph.nodes {
        let value = node_value(graph, node, &values, world);
        assert_eq!(value.len(), node.shape.iter().product::<usize>(), "{node:?}");
        values.push(value);
    }
    Values(values)
}

/// One replay: outputs by name; states get their new values.
pub(crate) fn replay(graph: &Graph, world: &mut World) -> BTreeMap<String, Vec<f64>> {
    let Values(values) = evaluate(graph, world);
    for (state, &value) in &graph.assigns {
        world.states.insert(state.0, values[value].clone());
    }
    graph.outputs.iter().map(|(name, id)| (name.clone(), values[*id].clone())).collect()
}

/// Calls `f` with each multi-index of a shape, in row-major order.
fn each(shape: &[usize], mut f: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.iter().product() {
        f(&index);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            if index[d] < shape[d] {
                break;
            }
            index[d] = 0;
        }
    }
}

/// Row-major position of an index; dimensions of size 1 repeat.
fn at(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |sum, (&n, &i)| sum * n + if n == 1 { 0 } else { i })
}

fn gather(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Vec<f64> {
    let mut out = vec![];
    each(shape, |index| out.push(f(index)));
    out
}

fn node_value(graph: &Graph, node: &Node, values: &[Vec<f64>], world: &World) -> Vec<f64> {
    let value = |i: usize| &values[node.inputs[i]];
    let shape_of = |id: NodeId| &graph.nodes[id].shape;
    let from = |i: usize| shape_of(node.inputs[i]);
    let strided = |start: &[usize], step: &[usize], index: &[usize]| -> Vec<usize> {
        (0..index.len()).map(|d| start[d] + step[d] * index[d]).collect()
    };
    match &node.op {
        Op::Input(name) => world.inputs[name].clone(),
        Op::State(id) => world.states[&id.0].clone(),
        Op::Const(c) => vec![f64::from(c.0)],
        Op::Unary(op) => value(0).iter().map(|&x| op.eval(x)).collect(),
        Op::Binary(op) => value(0).iter().zip(value(1)).map(|(&a, &b)| op.eval(a, b)).collect(),
        Op::Select => (0..value(0).len()).map(|i| select(value(0)[i], value(1)[i], value(2)[i])).collect(),
        Op::Broadcast => gather(&node.shape, |i| value(0)[at(from(0), &i[i.len() - from(0).len()..])]),
        Op::Reshape | Op::StopGradient => value(0).clone(),
        Op::Permute(order) => gather(&node.shape, |i| {
            let mut source = vec![0; order.len()];
            order.iter().zip(i).for_each(|(&o, &i)| source[o] = i);
            value(0)[at(from(0), &source)]
        }),
        Op::Slice { start, step } => gather(&node.shape, |i| value(0)[at(from(0), &strided(start, step, i))]),
        Op::Embed { start, step } => {
            let mut out = vec![0.0; node.shape.iter().product()];
            each(from(0), |i| out[at(&node.shape, &strided(start, step, i))] = value(0)[at(from(0), i)]);
            out
        }
        Op::Concat(axis) => gather(&node.shape, |i| {
            let (mut i, mut part) = (i.to_vec(), 0);
            while i[*axis] >= from(part)[*axis] {
                i[*axis] -= from(part)[*axis];
                part += 1;
            }
            value(part)[at(from(part), &i)]
        }),
        Op::Sum { scale, .. } => {
            let mut out = vec![0.0; node.shape.iter().product()];
            each(from(0), |i| out[at(&node.shape, i)] += value(0)[at(from(0), i)] * f64::from(scale.0));
            out
        }
        Op::Max { .. } => {
            let mut out = vec![f64::NEG_INFINITY; node.shape.iter().product()];
            each(from(0), |i| {
                let o = at(&node.shape, i);
                out[o] = out[o].max(value(0)[at(from(0), i)]);
            });
            out
        }
        Op::Variance { .. } => {
            let count = (value(0).len() / node.shape.iter().product::<usize>()) as f64;
            let mut mean = vec![0.0; node.shape.iter().product()];
            let mut out = mean.clone();
            each(from(0), |i| mean[at(&node.shape, i)] += value(0)[at(from(0), i)] / count);
            each(from(0), |i| {
                let o = at(&node.shape, i);
                out[o] += (value(0)[at(from(0), i)] - mean[o]).powi(2) / count;
            });
            out
        }
        Op::Conv(face, geometry) => conv(*face, geometry, value(0), value(1), node.shape.iter().product()),
        Op::MatMul { trans_a, trans_b } => {
            let rank = node.shape.len();
            let inner = from(0)[from(0).len() - if *trans_a { 2 } else { 1 }];
            let element = |operand: usize, batch: &[usize], row: usize, column: usize, transposed: bool| {
                let matrix = if transposed { [column, row] } else { [row, column] };
                let index =
                    if from(operand).len() == 3 { [batch, &matrix].concat() } else { matrix.to_vec() };
                value(operand)[at(from(operand), &index)]
            };
            gather(&node.shape, |i| {
                let (batch, row, column) = (&i[..rank - 2], i[rank - 2], i[rank - 1]);
                let term = |k| element(0, batch, row, k, *trans_a) * element(1, batch, k, column, *trans_b);
                (0..inner).map(term).sum()
            })
        }
        Op::MaxPool(p) => max_pool(p, value(0), node.inputs.get(1).map(|&i| values[i].as_slice())),
        Op::Sparse(axis, matrix) => gather(&node.shape, |i| {
            let mut source = i.to_vec();
            let terms = matrix.row(i[*axis]).iter().map(|&(column, weight)| {
                source[*axis] = column;
                f64::from(weight.0) * value(0)[at(from(0), &source)]
            });
            terms.sum()
        }),
        Op::Random(..) => panic!("random numbers are tested elsewhere"),
        Op::Custom(custom) => {
            let shapes: Vec<&[usize]> = (0..node.inputs.len()).map(|i| from(i).as_slice()).collect();
            let inputs: Vec<Vec<f32>> =
                (0..node.inputs.len()).map(|i| value(i).iter().map(|&v| v as f32).collect()).collect();
            let views: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            custom.kernel(&shapes).expect("it was checked").oracle(&views, &[]).remove(0)
        }
    }
}

fn conv(face: Face, g: &Geometry, a: &[f64], b: &[f64], len: usize) -> Vec<f64> {
    let mut out = vec![0.0; len];
    each(&[g.batch, g.co, g.y[0], g.y[1], g.ci, g.kernel[0], g.kernel[1]], |i| {
        let [n, co, oh, ow, ci, kh, kw] = *i else { return };
        let place =
            |d: usize, o: usize, k: usize| (o * g.stride[d] + k * g.dilation[d]).checked_sub(g.pad_low[d]);
        let (Some(h), Some(w)) = (place(0, oh, kh), place(1, ow, kw)) else { return };
        if h >= g.x[0] || w >= g.x[1] {
            return;
        }
        let x = ((n * g.ci + ci) * g.x[0] + h) * g.x[1] + w;
        let wt = ((co * g.ci + ci) * g.kernel[0] + kh) * g.kernel[1] + kw;
        let y = ((n * g.co + co) * g.y[0] + oh) * g.y[1] + ow;
        match face {
            Face::Conv => out[y] += a[x] * b[wt],
            Face::Transpose => out[x] += a[y] * b[wt],
            Face::Weight => out[wt] += a[x] * b[y],
        }
    });
    out
}

fn max_pool(p: &MaxPool, a: &[f64], indices: Option<&[f64]>) -> Vec<f64> {
    let (x_plane, y_plane) = (p.x[0] * p.x[1], p.y[0] * p.y[1]);
    let source = |o: usize| o / y_plane * x_plane + indices.map_or(0, |i| i[o] as usize);
    let windows = p.planes * y_plane;
    match p.face {
        pool::Face::Gather => (0..windows).map(|o| a[source(o)]).collect(),
        pool::Face::Scatter => {
            let mut out = vec![0.0; p.planes * x_plane];
            (0..windows).for_each(|o| out[source(o)] += a[o]);
            out
        }
        pool::Face::Indices => gather(&[p.planes, p.y[0], p.y[1]], |i| {
            let (mut best, mut found) = (f64::NEG_INFINITY, 0);
            each(&p.kernel, |k| {
                let place = |d: usize| {
                    (i[1 + d] * p.stride[d] + k[d] * p.dilation[d])
                        .checked_sub(p.pad_low[d])
                        .filter(|&v| v < p.x[d])
                };
                if let (Some(h), Some(w)) = (place(0), place(1)) {
                    let v = a[i[0] * x_plane + h * p.x[1] + w];
                    if v > best {
                        (best, found) = (v, h * p.x[1] + w);
                    }
                }
            });
            found as f64
        }),
    }
}
