//! What a program means: plain loops over [`Number`]s, gradients by forward differentiation, one element at a
//! time. Nothing here is shared with the tape, the compiler or the kernels.

use std::collections::BTreeMap;

use ganomede::tape::ConvOptions;
use ganomede_kernels::Family;
use ganomede_kernels::random::{Distribution, Random};

use super::functions::{
    at, average, binary, conv, each, first_largest, image, mean, padded, resampled, sum, unary, variance,
    windows,
};
use super::number::{Number, Sum, U};
use super::script::{Id, Make, Script};

/// Inputs by number and states by place.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) inputs: BTreeMap<usize, Vec<f32>>,
    pub(crate) states: Vec<Vec<Number>>,
    /// Key and step of random numbers.
    pub(crate) key: [f32; 2],
    pub(crate) step: f32,
}

/// All values of one replay.
pub(crate) fn evaluate(script: &Script, world: &World) -> Vec<Vec<Number>> {
    let mut run = Run { script, world, values: vec![] };
    for id in 0..script.values.len() {
        let value = run.value(id, 0);
        assert_eq!(value.len(), script.values[id].len(), "v{id} of\n{script}");
        run.values.push(value);
    }
    run.values
}

struct Run<'s> {
    script: &'s Script,
    world: &'s World,
    values: Vec<Vec<Number>>,
}

impl Run<'_> {
    fn shape(&self, id: Id) -> &[usize] {
        &self.script.values[id].shape
    }

    /// A value from those before it; `depth` gradients are being taken of it.
    fn value(&self, id: Id, depth: usize) -> Vec<Number> {
        let value = &self.script.values[id];
        let x = |i: usize| self.values[value.inputs[i]].as_slice();
        let from = |i: usize| self.shape(value.inputs[i]);
        let gather = |f: &mut dyn FnMut(&[usize]) -> Number| {
            let mut out = Vec::with_capacity(value.len());
            each(&value.shape, |index| out.push(f(index)));
            out
        };
        match &value.make {
            Make::Input(name) => {
                self.world.inputs[name].iter().map(|&v| Number::exact(f64::from(v))).collect()
            }
            Make::State(state) => self.world.states[*state].clone(),
            Make::Full(v) => vec![Number::exact(f64::from(*v)); value.len()],
            Make::Unary(op) => x(0).iter().map(|&v| unary(*op, v)).collect(),
            Make::Binary(op) => x(0).iter().zip(x(1)).map(|(&a, &b)| binary(*op, a, b)).collect(),
            Make::Broadcast => gather(&mut |i| x(0)[at(from(0), i)]),
            Make::Reshape => x(0).to_vec(),
            Make::Stop => x(0).iter().map(|v| v.stopped()).collect(),
            Make::Permute(order) => gather(&mut |i| {
                let mut source = vec![0; order.len()];
                order.iter().zip(i).for_each(|(&o, &i)| source[o] = i);
                x(0)[at(from(0), &source)]
            }),
            Make::Slice { start, step, .. } => gather(&mut |i| {
                x(0)[at(from(0), &(0..i.len()).map(|d| start[d] + step[d] * i[d]).collect::<Vec<_>>())]
            }),
            Make::Embed { start, step } => {
                let mut out = vec![Number::ZERO; value.len()];
                each(from(0), |i| {
                    let place: Vec<_> = (0..i.len()).map(|d| start[d] + step[d] * i[d]).collect();
                    out[at(&value.shape, &place)] = x(0)[at(from(0), i)];
                });
                out
            }
            Make::Concat(axis) => gather(&mut |i| {
                let (mut i, mut part) = (i.to_vec(), 0);
                while i[*axis] >= from(part)[*axis] {
                    i[*axis] -= from(part)[*axis];
                    part += 1;
                }
                x(part)[at(from(part), &i)]
            }),
            Make::Sum(_) => self.groups(id).iter().map(|group| sum(group)).collect(),
            Make::Mean(_) => self.groups(id).iter().map(|group| mean(group)).collect(),
            Make::Max(_) => self.groups(id).iter().map(|group| Number::largest(group)).collect(),
            Make::Variance(_) => self.groups(id).iter().map(|group| variance(group)).collect(),
            Make::MatMul { trans_a, trans_b } => {
                let inner = from(0)[from(0).len() - if *trans_a { 2 } else { 1 }];
                let element = |operand: usize,
                               batch: &[usize],
                               row: usize,
                               column: usize,
                               transposed: bool| {
                    let matrix = if transposed { [column, row] } else { [row, column] };
                    let index =
                        if from(operand).len() == 3 { [batch, &matrix].concat() } else { matrix.to_vec() };
                    x(operand)[at(from(operand), &index)]
                };
                gather(&mut |i| {
                    let (batch, row, column) = (&i[..i.len() - 2], i[i.len() - 2], i[i.len() - 1]);
                    let pairs = (0..inner).map(|k| {
                        (element(0, batch, row, k, *trans_a), element(1, batch, k, column, *trans_b))
                    });
                    pairs.fold(Sum::default(), |sum, (a, b)| sum.product(a, b)).total()
                })
            }
            Make::Conv(options) => {
                conv(x(0), image(from(0)), x(1), image(from(1)), image(&value.shape), options, false)
            }
            Make::ConvTranspose(options) => {
                conv(x(0), image(from(0)), x(1), image(from(1)), image(&value.shape), options, true)
            }
            Make::Conv1d { stride, padding, dilation }
            | Make::ConvTranspose1d { stride, padding, dilation } => {
                let options = ConvOptions {
                    stride: [1, *stride],
                    pad_low: [0, *padding],
                    pad_high: [0, *padding],
                    dilation: [1, *dilation],
                    ..ConvOptions::default()
                };
                let transposed = matches!(value.make, Make::ConvTranspose1d { .. });
                conv(x(0), image(from(0)), x(1), image(from(1)), image(&value.shape), &options, transposed)
            }
            Make::MaxPool(options) => gather(&mut |i| {
                let inside: Vec<Number> = windows(x(0), from(0), options, i).into_iter().flatten().collect();
                first_largest(&inside)
            }),
            Make::AvgPool(options) => gather(&mut |i| average(x(0), from(0), options, i)),
            Make::Upsample(factor) => {
                gather(&mut |i| x(0)[at(from(0), &[i[0], i[1], i[2] / factor, i[3] / factor])])
            }
            Make::Min(_) => self.groups(id).iter().map(|group| Number::smallest(group)).collect(),
            Make::Prod(_) => {
                let product = |group: &Vec<Number>| group[1..].iter().fold(group[0], |all, v| all.times(*v));
                self.groups(id).iter().map(product).collect()
            }
            Make::Gather { axis, indices } => gather(&mut |i| {
                let mut i = i.to_vec();
                i[*axis] = indices[i[*axis]];
                x(0)[at(from(0), &i)]
            }),
            Make::Pad { low, padding, .. } => gather(&mut |i| padded(x(0), from(0), low, *padding, i)),
            Make::Resample { axis, sampling } => {
                gather(&mut |i| resampled(x(0), from(0), *axis, value.shape[*axis], *sampling, i))
            }
            // y_i = Σ_k taps_k · x_{i + k − ⌊taps / 2⌋}, zeros beyond the ends.
            Make::Filter { axis, taps } => gather(&mut |i| {
                let place = |k: usize| (i[*axis] + k).checked_sub(taps.len() / 2);
                let inside =
                    (0..taps.len()).filter_map(|k| Some((k, place(k).filter(|&j| j < from(0)[*axis])?)));
                let term = |sum: Sum, (k, j): (usize, usize)| {
                    let mut i = i.to_vec();
                    i[*axis] = j;
                    sum.product(Number::exact(f64::from(taps[k])), x(0)[at(from(0), &i)])
                };
                inside.fold(Sum::default(), term).total()
            }),
            Make::Select => (0..value.len()).map(|i| x(0)[i].select(x(1)[i], x(2)[i])).collect(),
            Make::Random { normal: true, .. } => {
                let roots = self.draw(id, Distribution::Normal).into_iter();
                roots.map(|v| Number::exact(v).blurred(8.0 + 8.0 * v.abs())).collect()
            }
            Make::Random { .. } => {
                self.draw(id, Distribution::Uniform).into_iter().map(Number::exact).collect()
            }
            Make::Dropout { p, .. } => {
                let kept = 1.0 / (1.0 - f64::from(*p));
                let drawn = self.draw(id, Distribution::Uniform).into_iter();
                drawn
                    .zip(x(0))
                    .map(|(u, v)| if u > f64::from(*p) { v.scaled(kept).blurred(0.0) } else { Number::ZERO })
                    .collect()
            }
            Make::Gradient { wrt, pick } => self.gradient(&value.inputs, wrt[*pick], depth),
        }
    }

    /// Random numbers as the kernels' own oracle has them; each draw of a tape has the next stream.
    fn draw(&self, id: Id, distribution: Distribution) -> Vec<f64> {
        let stream = self.script.values[..id].iter().filter(|value| value.draws()).count() as u32;
        let len = self.script.values[id].len();
        Random { distribution, len, stream }.oracle(&[&self.world.key, &[self.world.step]], &[]).remove(0)
    }

    /// The elements that each element of a reduction is made of.
    fn groups(&self, id: Id) -> Vec<Vec<Number>> {
        let value = &self.script.values[id];
        let from = self.shape(value.inputs[0]);
        let mut groups = vec![vec![]; value.len()];
        each(from, |i| groups[at(&value.shape, i)].push(self.values[value.inputs[0]][at(from, i)]));
        groups
    }

    /// Every element of `wrt` is moved in turn, and what depends on it is computed again.
    fn gradient(&self, of: &[Id], wrt: Id, depth: usize) -> Vec<Number> {
        let y = of[0];
        let len = self.script.values[wrt].len();
        let inputs = |id: Id| &self.script.values[id].inputs;
        let depends = self.script.dependent(wrt, y);
        let mut needed = vec![false; y + 1];
        needed[y] = true;
        for id in (0..=y).rev() {
            if needed[id] {
                inputs(id).iter().for_each(|&i| needed[i] = true);
            }
        }
        if !depends[y] {
            return vec![Number::ZERO; len];
        }
        assert!(depth < 2, "a third derivative is asked for");
        let direction = 1 << depth;
        let mut run = Run { script: self.script, world: self.world, values: self.values[..=y].to_vec() };
        let moved = (0..len).map(|element| {
            run.values[wrt].clone_from(&self.values[wrt]);
            run.values[wrt][element].part[direction] = 1.0;
            // Backwards, what cancels here exactly is a sum of rounded numbers, unless all are whole.
            run.values[wrt][element].error[direction] = if self.script.whole { 0.0 } else { U };
            for id in (wrt + 1..=y).filter(|&id| depends[id] && needed[id]) {
                run.values[id] = run.value(id, depth + 1);
            }
            // What has no slope leaves open even what does not come to depend on it: 0 times NaN.
            let singular = (wrt..=y)
                .filter(|&id| depends[id] && needed[id])
                .any(|id| run.values[id].iter().any(|v| !v.part[direction].is_finite()));
            let slopes = run.values[y].iter().map(|v| v.along(direction));
            let mut found = match of.get(1) {
                Some(&cotangent) => slopes
                    .zip(&self.values[cotangent])
                    .fold(Sum::default(), |sum, (slope, c)| sum.product(slope, *c))
                    .total(),
                None => slopes.fold(Sum::default(), Sum::plus).total(),
            };
            if singular {
                found.error = [f64::INFINITY; 4];
            }
            found
        });
        moved.collect()
    }
}

/// How far a device's number is off, in bounds of the error.
pub(crate) fn misfit(number: Number, got: f32) -> f64 {
    let off = (f64::from(got) - number.part[0]).abs();
    // What is too small for an f32 may become 0.
    let bound = number.error[0] + U * 1e-30;
    if off.is_nan() { f64::INFINITY } else { off / bound }
}
