//! Products, convolutions, pooling and norms.

use ganomede::tape::{ConvOptions, PoolOptions, Sampling, Tensor};

use crate::graph::{Call, Outputs, Value, one};

/// Records the operator where it is one of these.
pub(crate) fn record<'t>(call: &Call<'_, 't>) -> Option<Outputs<'t>> {
    Some(match call.node.op.as_str() {
        "MatMul" => matmul(call),
        "Gemm" => gemm(call),
        "Conv" | "ConvTranspose" => conv(call),
        "MaxPool" | "AveragePool" | "LpPool" => pool(call),
        "GlobalAveragePool" | "GlobalMaxPool" => global(call),
        "BatchNormalization" => batch_norm(call),
        "InstanceNormalization"
        | "GroupNormalization"
        | "LayerNormalization"
        | "RMSNormalization"
        | "MeanVarianceNormalization"
        | "LpNormalization"
        | "LRN" => norm(call),
        "Softmax" | "LogSoftmax" => softmax(call),
        "Resize" | "Upsample" => resize(call),
        _ => return None,
    })
}

fn matmul<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let (a, b) = (call.tensor(0)?, call.tensor(1)?);
    let (sa, sb) = (a.shape(), b.shape());
    if sa.len() <= 1 || sb.len() <= 1 {
        // A vector is a row before, and a column after.
        let left = if sa.len() == 1 { a.reshape(&[1, sa[0]]) } else { a };
        let right = if sb.len() == 1 { b.reshape(&[sb[0], 1]) } else { b };
        if left.rank() > 3 || right.rank() > 3 {
            return Err("a product of a vector and more than three dimensions".to_owned());
        }
        let y = left.matmul(right);
        let mut shape = y.shape();
        if sb.len() == 1 {
            shape.pop();
        }
        if sa.len() == 1 {
            shape.remove(shape.len() - 1 - usize::from(sb.len() != 1));
        }
        return one(y.reshape(&shape));
    }
    // One batch dimension at most: more are joined where both have them.
    let (la, lb) = (&sa[..sa.len() - 2], &sb[..sb.len() - 2]);
    if sa.len() <= 3 && sb.len() <= 3 && (la == lb || la.is_empty() || lb.is_empty()) {
        return one(a.matmul(b));
    }
    let rank = la.len().max(lb.len());
    let at = |list: &[usize], d: usize| (d + list.len()).checked_sub(rank).map_or(1, |d| list[d]);
    let batch: Vec<usize> = (0..rank).map(|d| at(la, d).max(at(lb, d))).collect();
    let joined = |x: Tensor<'t>, s: &[usize]| {
        let matrix = &s[s.len() - 2..];
        x.broadcast_to(&[&batch, matrix].concat()).reshape(&[&[batch.iter().product()], matrix].concat())
    };
    let y = joined(a, &sa).matmul(joined(b, &sb));
    let s = y.shape();
    one(y.reshape(&[&batch, &s[1..]].concat()))
}

fn gemm<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let flag = |name| call.int(name, 0) != 0;
    let y = call.tensor(0)?.matmul_with(call.tensor(1)?, flag("transA"), flag("transB"));
    let y = y * call.float("alpha", 1.0);
    one(match call.optional(2)? {
        Some(c) => y + c * call.float("beta", 1.0),
        None => y,
    })
}

/// Hyper-parameters of a window over one or two spatial dimensions; one dimension has height 1.
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    low: [usize; 2],
    high: [usize; 2],
    /// Rounded up sizes.
    ceil: bool,
}

fn pair(list: Option<Vec<i64>>, n: usize, default: usize) -> [usize; 2] {
    let list = list.unwrap_or_else(|| vec![default as i64; n]);
    if n == 1 { [default, list[0] as usize] } else { [list[0] as usize, list[1] as usize] }
}

/// The window over an image of `size`, where `transposed` asks for the padding of ConvTranspose.
fn window(call: &Call<'_, '_>, n: usize, size: [usize; 2], kernel: [usize; 2]) -> Result<Window, String> {
    let stride = pair(call.list("strides"), n, 1);
    let dilation = pair(call.list("dilations"), n, 1);
    let pads = call.list("pads").unwrap_or_else(|| vec![0; 2 * n]);
    let mut low = pair(Some(pads[..n].to_vec()), n, 0);
    let mut high = pair(Some(pads[n..].to_vec()), n, 0);
    let auto = call.word("auto_pad", "NOTSET");
    if auto.starts_with("SAME") {
        for d in 0..2 {
            let out = size[d].div_ceil(stride[d]);
            let span = dilation[d] * (kernel[d] - 1) + 1;
            let total = ((out - 1) * stride[d] + span).saturating_sub(size[d]);
            (low[d], high[d]) = (total / 2, total - total / 2);
            if auto == "SAME_LOWER" {
                (low[d], high[d]) = (high[d], low[d]);
            }
        }
    }
    Ok(Window { kernel, stride, dilation, low, high, ceil: call.int("ceil_mode", 0) == 1 })
}

/// As `[n, c, h, w]`, with the number of spatial dimensions it had.
fn image<'t>(x: Tensor<'t>) -> Result<(Tensor<'t>, usize), String> {
    let s = x.shape();
    match s.len() {
        3 => Ok((x.reshape(&[s[0], s[1], 1, s[2]]), 1)),
        4 => Ok((x, 2)),
        rank => Err(format!("{} spatial dimensions", rank as i64 - 2)),
    }
}

/// Back to one spatial dimension.
fn unimage<'t>(y: Tensor<'t>, n: usize) -> Tensor<'t> {
    let s = y.shape();
    if n == 1 && s.len() == 4 { y.reshape(&[s[0], s[1], s[3]]) } else { y }
}

fn conv<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let (x, n) = image(call.tensor(0)?)?;
    let (w, _) = image(call.tensor(1)?)?;
    let (s, k) = (x.shape(), w.shape());
    let transposed = call.node.op == "ConvTranspose";
    let mut options = ConvOptions { groups: call.int("group", 1) as usize, ..ConvOptions::default() };
    let found = window(call, n, [s[2], s[3]], [k[2], k[3]])?;
    (options.stride, options.dilation) = (found.stride, found.dilation);
    let y = if transposed {
        options.output_padding = pair(call.list("output_padding"), n, 0);
        let pads = call.list("pads").unwrap_or_else(|| vec![0; 2 * n]);
        (options.pad_low, options.pad_high) =
            (pair(Some(pads[..n].to_vec()), n, 0), pair(Some(pads[n..].to_vec()), n, 0));
        let auto = call.word("auto_pad", "NOTSET");
        let wanted = match call.list("output_shape") {
            Some(shape) => Some(pair(Some(shape[shape.len() - n..].to_vec()), n, 1)),
            None if auto.starts_with("SAME") => Some([0, 1].map(|d| s[2 + d] * found.stride[d])),
            None => None,
        };
        if let Some(wanted) = wanted {
            for d in 0..2 {
                let full = (s[2 + d] - 1) * found.stride[d] + found.dilation[d] * (k[2 + d] - 1) + 1;
                match (full + options.output_padding[d]).checked_sub(wanted[d]) {
                    Some(total) => {
                        let (less, more) = (total / 2, total - total / 2);
                        (options.pad_low[d], options.pad_high[d]) =
                            if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
                    }
                    None => {
                        (options.pad_low[d], options.pad_high[d]) = (0, 0);
                        options.output_padding[d] = wanted[d] - full;
                    }
                }
            }
        }
        x.conv_transpose2d(w, options)
    } else {
        (options.pad_low, options.pad_high) = (found.low, found.high);
        x.conv2d(w, options)
    };
    let y = match call.optional(2)? {
        Some(bias) => y + bias.reshape(&[1, bias.len(), 1, 1]),
        None => y,
    };
    one(unimage(y, n))
}

fn pool<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let (x, n) = image(call.tensor(0)?)?;
    let s = x.shape();
    let w = window(call, n, [s[2], s[3]], pair(call.list("kernel_shape"), n, 1))?;
    let mut options = PoolOptions {
        kernel: w.kernel,
        stride: w.stride,
        pad_low: w.low,
        pad_high: w.high,
        dilation: w.dilation,
        ceil: w.ceil,
        count_padding: call.int("count_include_pad", 0) == 1,
    };
    let y = match call.node.op.as_str() {
        "MaxPool" if call.node.outputs.len() > 1 => return Err("indices of maxima".to_owned()),
        "MaxPool" => x.max_pool2d(options),
        "AveragePool" => x.avg_pool2d(options),
        _ => {
            options.count_padding = true;
            if w.ceil {
                return Err("norms of windows that run out of the padding".to_owned());
            }
            let area = (w.kernel[0] * w.kernel[1]) as f32;
            let p = call.int("p", 2) as f32;
            (x.abs().powf(p).avg_pool2d(options) * area).powf(1.0 / p)
        }
    };
    one(unimage(y, n))
}

fn global<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let axes: Vec<usize> = (2..x.rank()).collect();
    one(if call.node.op == "GlobalMaxPool" { x.max(&axes) } else { x.mean(&axes) })
}

fn batch_norm<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let mut shape = vec![1; x.rank()];
    shape[1] = x.shape()[1];
    let channel = |i| call.tensor(i).map(|p| p.reshape(&shape));
    let (gamma, beta, mean, variance) = (channel(1)?, channel(2)?, channel(3)?, channel(4)?);
    let epsilon = call.float("epsilon", 1e-5);
    let normal = |m: Tensor<'t>, v: Tensor<'t>| (x - m) / (v + epsilon).sqrt() * gamma + beta;
    if call.int("training_mode", 0) == 0 {
        return one(normal(mean, variance));
    }
    let axes: Vec<usize> = (0..x.rank()).filter(|&d| d != 1).collect();
    let (m, v) = (x.mean(&axes), x.variance(&axes));
    let keep = call.float("momentum", 0.9);
    let flat = |running: Tensor<'t>, now: Tensor<'t>| {
        Value::Tensor((running * keep + now * (1.0 - keep)).reshape(&[shape[1]]))
    };
    Ok(vec![Value::Tensor(normal(m, v)), flat(mean, m), flat(variance, v)])
}

fn norm<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let s = x.shape();
    let epsilon = call.float("epsilon", 1e-5);
    let centred = |x: Tensor<'t>, axes: &[usize]| (x - x.mean(axes)) / (x.variance(axes) + epsilon).sqrt();
    let scaled = |y: Tensor<'t>| -> Result<Tensor<'t>, String> {
        let mut shape = vec![1; s.len()];
        shape[1] = s[1];
        Ok(y * call.tensor(1)?.reshape(&shape) + call.tensor(2)?.reshape(&shape))
    };
    one(match call.node.op.as_str() {
        "InstanceNormalization" => scaled(centred(x, &(2..s.len()).collect::<Vec<_>>()))?,
        "GroupNormalization" => {
            let groups = call.int("num_groups", 1) as usize;
            if call.opset < 21 {
                return Err("a scale for each group".to_owned());
            }
            let y = centred(x.reshape(&[s[0], groups, x.len() / (s[0] * groups)]), &[2]);
            scaled(y.reshape(&s))?
        }
        "LayerNormalization" => {
            let axis = call.axis(call.int("axis", -1), s.len())?;
            let axes: Vec<usize> = (axis..s.len()).collect();
            let (mean, variance) = (x.mean(&axes), x.variance(&axes));
            let inverse = (variance + epsilon).sqrt().recip();
            let y = (x - mean) * inverse * call.tensor(1)?;
            let y = match call.optional(2)? {
                Some(bias) => y + bias,
                None => y,
            };
            return Ok(vec![Value::Tensor(y), Value::Tensor(mean), Value::Tensor(inverse)]);
        }
        "RMSNormalization" => {
            let axis = call.axis(call.int("axis", -1), s.len())?;
            let axes: Vec<usize> = (axis..s.len()).collect();
            x / (x.square().mean(&axes) + epsilon).sqrt() * call.tensor(1)?
        }
        "MeanVarianceNormalization" => {
            let axes = call.list("axes").unwrap_or_else(|| vec![0, 2, 3]);
            let axes: Vec<usize> = axes.iter().map(|&a| call.axis(a, s.len())).collect::<Result<_, _>>()?;
            (x - x.mean(&axes)) / (x.variance(&axes).sqrt() + 1e-9)
        }
        "LpNormalization" => {
            let axis = [call.axis(call.int("axis", -1), s.len())?];
            let length =
                if call.int("p", 2) == 1 { x.abs().sum(&axis) } else { x.square().sum(&axis).sqrt() };
            // Where there is no length there is no direction: 0.
            x / (length + length.equal(length * 0.0))
        }
        _ => {
            let (size, alpha) = (call.int("size", 1) as usize, call.float("alpha", 1e-4));
            let (beta, bias) = (call.float("beta", 0.75), call.float("bias", 1.0));
            let (mut low, mut high) = (vec![0; s.len()], vec![0; s.len()]);
            (low[1], high[1]) = ((size - 1) / 2, size / 2);
            let square = x.square().pad(&low, &high);
            let mut sum = square.narrow(1, 0, s[1]);
            for i in 1..size {
                sum = sum + square.narrow(1, i, s[1]);
            }
            x * ((sum * (alpha / size as f32) + bias).log() * -beta).exp()
        }
    })
}

fn softmax<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let s = x.shape();
    let axis = call.axis(call.int("axis", if call.opset < 13 { 1 } else { -1 }), s.len())?;
    let log = call.node.op == "LogSoftmax";
    let of = |x: Tensor<'t>, axis: usize| {
        if !log {
            return x.softmax(axis);
        }
        let low = x - x.max(&[axis]).stop_gradient();
        low - low.exp().sum(&[axis]).log()
    };
    if call.opset >= 13 {
        return one(of(x, axis));
    }
    // Older versions take what follows the axis as one row.
    one(of(x.reshape(&[s[..axis].iter().product(), s[axis..].iter().product()]), 1).reshape(&s))
}

fn resize<'t>(call: &Call<'_, 't>) -> Outputs<'t> {
    let x = call.tensor(0)?;
    let s = x.shape();
    let axes = match call.list("axes") {
        Some(axes) => axes.iter().map(|&a| call.axis(a, s.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..s.len()).collect(),
    };
    let (scales, sizes) =
        if call.node.op == "Upsample" { (call.floats(1), None) } else { (call.floats(2), call.ints(3)?) };
    if call.word("keep_aspect_ratio_policy", "stretch") != "stretch" {
        return Err("Resize: sizes that keep the ratio".to_owned());
    }
    let mut to = s.clone();
    let mut exact = true;
    for (i, &d) in axes.iter().enumerate() {
        match (&sizes, scales.as_ref().filter(|scales| !scales.is_empty())) {
            (Some(sizes), _) => to[d] = sizes[i] as usize,
            (_, Some(scales)) => {
                to[d] = (s[d] as f32 * scales[i]).floor() as usize;
                exact &= s[d] as f32 * scales[i] == to[d] as f32;
            }
            _ => return Err("Resize: no sizes".to_owned()),
        }
    }
    let (mode, place) =
        (call.word("mode", "nearest"), call.word("coordinate_transformation_mode", "half_pixel"));
    let rounding = call.word("nearest_mode", "round_prefer_floor");
    let plain = call.int("antialias", 0) == 0 && (exact || sizes.is_some());
    let sampling = match (mode.as_str(), place.as_str()) {
        ("linear", "half_pixel") if plain => Sampling::Linear,
        ("linear", "pytorch_half_pixel") if plain && !to.contains(&1) => Sampling::Linear,
        ("linear", "align_corners") if plain => Sampling::LinearAligned,
        ("nearest", "asymmetric") if plain && rounding == "floor" => Sampling::Nearest,
        // Whole factors repeat each sample, its middle being rounded to the nearest.
        ("nearest", "half_pixel")
            if plain && rounding.starts_with("round") && axes.iter().all(|&d| to[d].is_multiple_of(s[d])) =>
        {
            Sampling::Nearest
        }
        _ if call.node.op == "Upsample" && mode == "nearest" => Sampling::Nearest,
        _ => {
            return Err(format!("Resize: {mode}, {place}, {rounding}{}", if plain { "" } else { ", other" }));
        }
    };
    one(axes.iter().fold(x, |x, &d| if to[d] == s[d] { x } else { x.resample(d, to[d], sampling) }))
}
