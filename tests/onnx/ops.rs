//! Element-wise operators, reductions, and those that move elements.

use ganomede::tape::{Padding, Tensor};

use crate::graph::{Call, Outputs, Value, one};

/// Records the operator where it is one of these.
pub(crate) fn record<'t>(call: &Call<'_, 't>) -> Option<Outputs<'t>> {
    Some(match call.node.op.as_str() {
        "Abs" | "Neg" | "Exp" | "Log" | "Sqrt" | "Reciprocal" | "Relu" | "Sigmoid" | "Tanh" | "Softplus"
        | "Sign" | "Identity" | "LeakyRelu" | "Elu" | "Selu" | "Celu" | "HardSigmoid" | "HardSwish"
        | "Softsign" | "ThresholdedRelu" | "Shrink" | "Mish" | "Swish" | "Gelu" | "IsNaN" | "IsInf"
        | "Not" | "Clip" | "Cast" | "CastLike" | "Dropout" | "Hardmax" | "PRelu" => unary(call),
        "Add" | "Sub" | "Mul" | "Div" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "Equal"
        | "And" | "Or" | "Xor" | "Max" | "Min" | "Sum" | "Mean" | "Pow" | "Where" => several(call),
        name if name.starts_with("Reduce") => reduce(call),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" | "Transpose" => reshape(call),
        "Concat" | "Split" | "Slice" | "Gather" | "GatherElements" | "GatherND" | "ReverseSequence"
        | "Pad" | "CenterCropPad" | "DepthToSpace" | "SpaceToDepth" => cut(call),
        _ => return None,
    })
}

fn unary<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let float = |name, default| call.float(name, default);
    // alpha·(eˣ − 1) below 0.
    let below = |x: Tensor<'t>, alpha: f32| (x.minimum(x * 0.0).exp() - 1.0) * alpha;
    one(match call.node.op.as_str() {
        "Abs" => x.abs(),
        "Neg" => -x,
        "Exp" => x.exp(),
        "Log" => x.log(),
        "Sqrt" => x.sqrt(),
        "Reciprocal" => x.recip(),
        "Relu" => x.relu(),
        "Sigmoid" => x.sigmoid(),
        "Tanh" => x.tanh(),
        "Softplus" => x.softplus(),
        "Sign" => x.sign(),
        "Identity" => x,
        "Dropout" => {
            let trains = call.optional(2)?.is_some();
            if trains {
                return Err("random numbers of another generator".to_owned());
            }
            return Ok(vec![Value::Tensor(x), Value::Tensor(call.tape.full(1.0, &x.shape()))]);
        }
        "Cast" if matches!(call.int("to", 0), 1) => x,
        "Cast" => return Err(format!("numbers of kind {}", call.int("to", 0))),
        "CastLike" => {
            call.tensor(1)?;
            x
        }
        "LeakyRelu" => x.leaky_relu(float("alpha", 0.01)),
        "PRelu" => x.relu() + x.minimum(x * 0.0) * call.tensor(1)?,
        "Elu" => x.relu() + below(x, float("alpha", 1.0)),
        "Selu" => {
            let (alpha, gamma) = (float("alpha", 1.673_263_2), float("gamma", 1.050_701));
            (x.relu() + below(x, alpha)) * gamma
        }
        "Celu" => {
            let alpha = float("alpha", 1.0);
            x.relu() + below(x * (1.0 / alpha), alpha)
        }
        "HardSigmoid" => x.affine(float("alpha", 0.2), float("beta", 0.5)).clamp(0.0, 1.0),
        "HardSwish" => x * x.affine(1.0 / 6.0, 0.5).clamp(0.0, 1.0),
        "Softsign" => x / (x.abs() + 1.0),
        "ThresholdedRelu" => x * x.greater(call.tape.constant(float("alpha", 1.0))),
        "Shrink" => {
            let (bias, bound) = (float("bias", 0.0), float("lambd", 0.5));
            let above = x.greater(call.tape.constant(bound));
            let below = call.tape.constant(-bound).greater(x);
            above * (x - bias) + below * (x + bias)
        }
        "Mish" => x * x.softplus().tanh(),
        "Swish" => x * (x * float("alpha", 1.0)).sigmoid(),
        "Gelu" if call.word("approximate", "none") == "tanh" => {
            x * 0.5 * (((x + x * x * x * 0.044_715) * (2.0 / std::f32::consts::PI).sqrt()).tanh() + 1.0)
        }
        "IsNaN" => 1.0 - x.equal(x),
        "IsInf" => {
            let equal = |value: f32| x.equal(call.tape.constant(value));
            equal(f32::INFINITY) * call.int("detect_positive", 1) as f32
                + equal(f32::NEG_INFINITY) * call.int("detect_negative", 1) as f32
        }
        "Not" => 1.0 - x,
        "Clip" => {
            let (low, high) = (float("min", f32::NEG_INFINITY), float("max", f32::INFINITY));
            match (call.optional(1)?, call.optional(2)?) {
                (None, None) => x.clamp(low, high),
                (low, high) => {
                    let x = low.map_or(x, |low| x.maximum(low));
                    high.map_or(x, |high| x.minimum(high))
                }
            }
        }
        name => return Err(format!("no operation like {name}")),
    })
}

fn several<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let all = call.all()?;
    let fold = |f: fn(Tensor<'t>, Tensor<'t>) -> Tensor<'t>| all[1..].iter().fold(all[0], |a, &b| f(a, b));
    one(match call.node.op.as_str() {
        "Add" => all[0] + all[1],
        "Sub" => all[0] - all[1],
        "Mul" | "And" => all[0] * all[1],
        "Div" => all[0] / all[1],
        "Greater" => all[0].greater(all[1]),
        "Less" => all[1].greater(all[0]),
        "Equal" => all[0].equal(all[1]),
        "GreaterOrEqual" => all[0].greater(all[1]) + all[0].equal(all[1]),
        "LessOrEqual" => all[1].greater(all[0]) + all[0].equal(all[1]),
        "Xor" => 1.0 - all[0].equal(all[1]),
        "Max" | "Or" => fold(Tensor::maximum),
        "Min" => fold(Tensor::minimum),
        "Pow" => all[0].pow(all[1]),
        "Where" => all[0].select(all[1], all[2]),
        "Sum" => fold(|a, b| a + b),
        _ => fold(|a, b| a + b) * (1.0 / all.len() as f32),
    })
}

fn reduce<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let shape = x.shape();
    let axes = match call.list_or_input("axes", 1)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => axes.iter().map(|&a| call.axis(a, shape.len())).collect::<Result<Vec<_>, _>>()?,
        None if call.int("noop_with_empty_axes", 0) == 1 => vec![],
        None => (0..shape.len()).collect(),
    };
    let y = match call.node.op.as_str() {
        "ReduceSum" => x.sum(&axes),
        "ReduceMean" => x.mean(&axes),
        "ReduceMax" => x.max(&axes),
        "ReduceMin" => x.min(&axes),
        "ReduceProd" => x.prod(&axes),
        "ReduceL1" => x.abs().sum(&axes),
        "ReduceL2" => x.square().sum(&axes).sqrt(),
        "ReduceSumSquare" => x.square().sum(&axes),
        "ReduceLogSum" => x.sum(&axes).log(),
        "ReduceLogSumExp" => x.exp().sum(&axes).log(),
        name => return Err(format!("no operation like {name}")),
    };
    let kept: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).collect();
    one(if call.int("keepdims", 1) == 1 { y } else { y.reshape(&kept) })
}

fn reshape<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let s = x.shape();
    one(match call.node.op.as_str() {
        "Reshape" => {
            let wanted = call.list_or_input("shape", 1)?.ok_or("no shape")?;
            if wanted.contains(&0) && call.int("allowzero", 0) == 1 {
                return Err("an empty tensor".to_owned());
            }
            let mut sizes: Vec<i64> =
                wanted.iter().enumerate().map(|(d, &n)| if n == 0 { s[d] as i64 } else { n }).collect();
            if let Some(open) = sizes.iter().position(|&n| n < 0) {
                sizes[open] = 1;
                sizes[open] = x.len() as i64 / sizes.iter().product::<i64>();
            }
            x.reshape(&sizes.iter().map(|&n| n as usize).collect::<Vec<_>>())
        }
        "Flatten" => {
            let axis = call.axis(call.int("axis", 1), s.len())?;
            x.reshape(&[s[..axis].iter().product(), s[axis..].iter().product()])
        }
        "Squeeze" => {
            let axes = call.list_or_input("axes", 1)?;
            let axes = match axes {
                Some(axes) => axes.iter().map(|&a| call.axis(a, s.len())).collect::<Result<Vec<_>, _>>()?,
                None => (0..s.len()).filter(|&d| s[d] == 1).collect(),
            };
            x.reshape(&(0..s.len()).filter(|d| !axes.contains(d)).map(|d| s[d]).collect::<Vec<_>>())
        }
        "Unsqueeze" => {
            let axes = call.list_or_input("axes", 1)?.ok_or("no axes")?;
            let rank = s.len() + axes.len();
            let axes = axes.iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
            let mut rest = s.iter();
            let sizes: Vec<usize> = (0..rank)
                .map(|d| if axes.contains(&d) { 1 } else { rest.next().copied().unwrap_or(1) })
                .collect();
            x.reshape(&sizes)
        }
        "Expand" => {
            let wanted: Vec<usize> = call.ints(1)?.ok_or("no shape")?.iter().map(|&n| n as usize).collect();
            let rank = wanted.len().max(s.len());
            let at = |list: &[usize], d: usize| (d + list.len()).checked_sub(rank).map_or(1, |d| list[d]);
            x.broadcast_to(&(0..rank).map(|d| at(&wanted, d).max(at(&s, d))).collect::<Vec<_>>())
        }
        "Tile" => {
            let repeats = call.ints(1)?.ok_or("no repeats")?;
            repeats.iter().enumerate().fold(x, |x, (d, &n)| Tensor::concat(&vec![x; n as usize], d))
        }
        _ => {
            let order = call.list("perm").unwrap_or_else(|| (0..s.len() as i64).rev().collect());
            x.permute(&order.iter().map(|&d| d as usize).collect::<Vec<_>>())
        }
    })
}

fn cut<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let s = x.shape();
    one(match call.node.op.as_str() {
        "Concat" => Tensor::concat(&call.all()?, call.axis(call.int("axis", 0), s.len())?),
        "Split" => {
            let axis = call.axis(call.int("axis", 0), s.len())?;
            let parts = call.int("num_outputs", call.node.outputs.len() as i64) as usize;
            let equal = s[axis].div_ceil(parts);
            let sizes: Vec<usize> = match call.list_or_input("split", 1)? {
                Some(sizes) => sizes.iter().map(|&n| n as usize).collect(),
                None => (0..parts).map(|i| equal.min(s[axis] - (i * equal).min(s[axis]))).collect(),
            };
            if sizes.contains(&0) {
                return Err("an empty tensor".to_owned());
            }
            let starts = sizes.iter().scan(0, |at, &n| {
                *at += n;
                Some(*at - n)
            });
            return Ok(starts.zip(&sizes).map(|(at, &n)| Value::Tensor(x.narrow(axis, at, n))).collect());
        }
        "Slice" => slice(call, x)?,
        "Gather" | "GatherElements" | "GatherND" => gather(call, x)?,
        "ReverseSequence" => {
            let lens = call.ints(1)?.ok_or("no lengths")?;
            let (batch, time) = (call.int("batch_axis", 1) as usize, call.int("time_axis", 0) as usize);
            let parts: Vec<_> = lens
                .iter()
                .enumerate()
                .map(|(i, &len)| {
                    let order = (0..s[time]).map(|t| if t < len as usize { len as usize - 1 - t } else { t });
                    x.narrow(batch, i, 1).gather(time, &order.collect::<Vec<_>>())
                })
                .collect();
            Tensor::concat(&parts, batch)
        }

        "Pad" => pad(call, x)?,
        "CenterCropPad" => {
            let sizes = call.ints(1)?.ok_or("no shape")?;
            let axes = call.list("axes").unwrap_or_else(|| (0..s.len() as i64).collect());
            let mut y = x;
            for (&axis, &size) in axes.iter().zip(&sizes) {
                let (d, size) = (call.axis(axis, s.len())?, size as usize);
                if size < s[d] {
                    y = y.narrow(d, (s[d] - size) / 2, size);
                } else {
                    let mut pads = [vec![0; s.len()], vec![0; s.len()]];
                    pads[0][d] = (size - s[d]) / 2;
                    pads[1][d] = size - s[d] - pads[0][d];
                    y = y.pad(&pads[0], &pads[1]);
                }
            }
            y
        }
        name => {
            let b = call.int("blocksize", 1) as usize;
            let (n, c, h, w) = (s[0], s[1], s[2], s[3]);
            if name == "SpaceToDepth" {
                let order =
                    if call.word("mode", "DCR") == "DCR" { [0, 3, 5, 1, 2, 4] } else { [0, 1, 3, 5, 2, 4] };
                x.reshape(&[n, c, h / b, b, w / b, b]).permute(&order).reshape(&[n, c * b * b, h / b, w / b])
            } else if call.word("mode", "DCR") == "DCR" {
                x.reshape(&[n, b, b, c / (b * b), h, w]).permute(&[0, 3, 4, 1, 5, 2]).reshape(&[
                    n,
                    c / (b * b),
                    h * b,
                    w * b,
                ])
            } else {
                x.reshape(&[n, c / (b * b), b, b, h, w]).permute(&[0, 1, 4, 2, 5, 3]).reshape(&[
                    n,
                    c / (b * b),
                    h * b,
                    w * b,
                ])
            }
        }
    })
}

fn slice<'t>(call: &Call<'_, 't>, mut x: Tensor<'t>) -> Result<Tensor<'t>, String> {
    let s = x.shape();
    let starts = call.list_or_input("starts", 1)?.ok_or("no starts")?;
    let ends = call.list_or_input("ends", 2)?.ok_or("no ends")?;
    let axes = call.list_or_input("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let (mut low, mut high, mut step) = (vec![0; s.len()], s.clone(), vec![1; s.len()]);
    for (i, &axis) in axes.iter().enumerate() {
        let d = call.axis(axis, s.len())?;
        let n = s[d] as i64;
        if steps[i] < 0 {
            let bound = |v: i64| (if v < 0 { v + n } else { v }).clamp(-1, n - 1);
            let (start, end) = (bound(starts[i]), if ends[i] < -n { -1 } else { bound(ends[i]) });
            let indices = (0..).map(|k| start + k * steps[i]).take_while(|&at| at > end);
            x = x.gather(d, &indices.map(|at| at as usize).collect::<Vec<_>>());
            high[d] = x.shape()[d];
            continue;
        }
        let bound = |v: i64| (if v < 0 { v + n } else { v }).clamp(0, n) as usize;
        (low[d], high[d], step[d]) = (bound(starts[i]), bound(ends[i]), steps[i] as usize);
        if low[d] >= high[d] {
            return Err("an empty tensor".to_owned());
        }
    }
    Ok(x.slice(&low, &high, &step))
}

fn pad<'t>(call: &Call<'_, 't>, x: Tensor<'t>) -> Result<Tensor<'t>, String> {
    let rank = x.rank();
    let pads = call.list_or_input("pads", 1)?.ok_or("no pads")?;
    let axes = call.ints(3)?.unwrap_or_else(|| (0..rank as i64).collect());
    let mode = call.word("mode", "constant");
    let value = match call.scalar(2)? {
        Some(value) => value,
        None => call.float("value", 0.0),
    };
    // A negative padding cuts.
    let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
    let (mut cut_low, mut cut_high) = (vec![0; rank], x.shape());
    for (i, &axis) in axes.iter().enumerate() {
        let d = call.axis(axis, rank)?;
        (low[d], high[d]) = (pads[i].max(0) as usize, pads[i + axes.len()].max(0) as usize);
        cut_low[d] = (-pads[i]).max(0) as usize;
        cut_high[d] -= (-pads[i + axes.len()]).max(0) as usize;
    }
    let inside = x.slice(&cut_low, &cut_high, &vec![1; rank]);
    match mode.as_str() {
        "constant" => Ok(inside.pad_with(&low, &high, Padding::Constant(value))),
        "reflect" => Ok(inside.pad_with(&low, &high, Padding::Reflect)),
        "edge" => Ok(inside.pad_with(&low, &high, Padding::Edge)),
        _ => {
            // Around: each axis by its own entries, as often as it takes.
            let shape = x.shape();
            Ok((0..rank).fold(inside, |y, d| {
                let n = shape[d] as i64;
                let indices = (-(low[d] as i64)..n + high[d] as i64).map(|i| i.rem_euclid(n) as usize);
                y.gather(d, &indices.collect::<Vec<_>>())
            }))
        }
    }
}

/// Entries by indices that are known: along an axis, or one by one of the tensor as a list.
fn gather<'t>(call: &Call<'_, 't>, x: Tensor<'t>) -> Result<Tensor<'t>, String> {
    let s = x.shape();
    let Some(Value::Ints(shape, ints)) = call.inputs.get(1) else {
        return Err("indices that are known only when it runs".to_owned());
    };
    let wrap = |i: i64, n: usize| (if i < 0 { i + n as i64 } else { i }) as usize;
    let strides: Vec<usize> = (0..s.len()).map(|d| s[d + 1..].iter().product()).collect();
    match call.node.op.as_str() {
        "Gather" => {
            let axis = call.axis(call.int("axis", 0), s.len())?;
            let y = x.gather(axis, &ints.iter().map(|&i| wrap(i, s[axis])).collect::<Vec<_>>());
            Ok(y.reshape(&[&s[..axis], shape, &s[axis + 1..]].concat()))
        }
        "GatherElements" => {
            let axis = call.axis(call.int("axis", 0), s.len())?;
            let place = |at: usize| {
                let index = |d: usize| at / shape[d + 1..].iter().product::<usize>() % shape[d];
                (0..s.len())
                    .map(|d| strides[d] * if d == axis { wrap(ints[at], s[d]) } else { index(d) })
                    .sum()
            };
            let list: Vec<usize> = (0..ints.len()).map(place).collect();
            Ok(x.reshape(&[x.len()]).gather(0, &list).reshape(shape))
        }
        _ => {
            let batch = call.int("batch_dims", 0) as usize;
            let depth = shape[shape.len() - 1];
            let tuples = shape[..shape.len() - 1].iter().product::<usize>();
            let each = tuples / shape[..batch].iter().product::<usize>();
            let cell: usize = s[batch + depth..].iter().product();
            let place = |t: usize| {
                let inside: usize =
                    (0..depth).map(|k| strides[batch + k] * wrap(ints[t * depth + k], s[batch + k])).sum();
                (t / each * s[batch..].iter().product::<usize>() + inside) / cell
            };
            let list: Vec<usize> = (0..tuples).map(place).collect();
            let y = x.reshape(&[x.len() / cell, cell]).gather(0, &list);
            Ok(y.reshape(&[&shape[..shape.len() - 1], &s[batch + depth..]].concat()))
        }
    }
}
