//! CPU twin of `pool.wgsl`, planes in parallel.

use super::{Face, MaxPool};
use crate::tasks::for_each_part;

pub(super) fn run(k: &MaxPool, inputs: &[&[f32]], out: &mut [f32]) {
    let (nx, ny) = (k.x[0] * k.x[1], k.y[0] * k.y[1]);
    let (n_in, n_out) = if k.face == Face::Scatter { (ny, nx) } else { (nx, ny) };
    for_each_part(out, n_out, n_in.max(n_out), |p, out| {
        let from = &inputs[0][p * n_in..(p + 1) * n_in];
        // An index that is no element of the plane is taken as the last one.
        let index = |o: usize| (inputs[1][p * ny + o] as usize).min(nx - 1);
        match k.face {
            Face::Indices => indices(k, from, out),
            Face::Gather => out.iter_mut().enumerate().for_each(|(o, v)| *v = from[index(o)]),
            Face::Scatter => {
                out.fill(0.0);
                from.iter().enumerate().for_each(|(o, v)| out[index(o)] += v);
            }
        }
    });
}

/// First maximum of every window of one plane; a NaN counts as larger than any number.
fn indices(k: &MaxPool, plane: &[f32], out: &mut [f32]) {
    let span = |d: usize, o: usize| {
        let (start, step) = (o * k.stride[d], k.dilation[d]);
        let before = k.pad_low[d].saturating_sub(start).div_ceil(step);
        let end = start + k.kernel[d] * step;
        (start + before * step - k.pad_low[d]..end.saturating_sub(k.pad_low[d]).min(k.x[d])).step_by(step)
    };
    for (oy, row) in out.chunks_mut(k.y[1]).enumerate() {
        for (ox, out) in row.iter_mut().enumerate() {
            let (rows, columns) = (span(0, oy), span(1, ox));
            let first = |mut span: std::iter::StepBy<std::ops::Range<usize>>| span.next().unwrap_or(0);
            let mut index = first(rows.clone()) * k.x[1] + first(columns.clone());
            let mut best = plane[index];
            for y in rows {
                for x in columns.clone() {
                    let v = plane[y * k.x[1] + x];
                    if v > best || (v.is_nan() && !best.is_nan()) {
                        (best, index) = (v, y * k.x[1] + x);
                    }
                }
            }
            *out = index as f32;
        }
    }
}
