//! Launches in words: the shapes that go in and come out.

use ganomede_kernels::Kernel;
use ganomede_kernels::conv::{Face, Geometry};

use super::Launch;

/// `64×100`, and `1` for a scalar.
fn shape(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "1".to_owned();
    }
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

/// `4` where both axes agree, else `1×4`.
fn pair(values: [usize; 2]) -> String {
    if values[0] == values[1] { values[0].to_string() } else { shape(&values) }
}

fn window(g: &Geometry) -> String {
    let mut text = format!("k{} s{} p{}", pair(g.kernel), pair(g.stride), pair(g.pad_low));
    if g.pad_high != g.pad_low {
        text += &format!("+{}", pair(g.pad_high));
    }
    if g.dilation != [1, 1] {
        text += &format!(" d{}", pair(g.dilation));
    }
    text
}

fn tail(operations: usize) -> String {
    if operations == 0 { String::new() } else { format!(", then {operations} element-wise") }
}

impl Launch {
    /// What the kernel reads and writes, as a reader of the model thinks of it: `64×64×32×32 → 64×128×16×16, k4 s2 p1`.
    pub fn shapes(&self) -> String {
        match &self.kernel {
            Kernel::Conv(conv) => {
                let g = &conv.geometry;
                let x = shape(&[g.batch, g.ci, g.x[0], g.x[1]]);
                let y = shape(&[g.batch, g.co, g.y[0], g.y[1]]);
                let w = shape(&[g.co, g.ci, g.kernel[0], g.kernel[1]]);
                let (from, to) = match conv.face {
                    Face::Conv => (x, y),
                    Face::Transpose => (y, x),
                    Face::Weight => (format!("{x}, {y}"), w),
                };
                let weights = if conv.half { ", weights in halves" } else { "" };
                format!("{from} → {to}, {}{weights}{}", window(g), tail(conv.epilogue.expr.code.len()))
            }
            Kernel::Gemm(gemm) => {
                let matrix = |rows, columns, batched, transposed| {
                    let dims = if transposed { [columns, rows] } else { [rows, columns] };
                    let batch =
                        if batched && gemm.batch > 1 { format!("{}×", gemm.batch) } else { String::new() };
                    format!("{batch}{}{}", shape(&dims), if transposed { "ᵀ" } else { "" })
                };
                let a = matrix(gemm.m, gemm.k, gemm.batched_a, gemm.trans_a);
                let b = matrix(gemm.k, gemm.n, gemm.batched_b, gemm.trans_b);
                let out = matrix(gemm.m, gemm.n, true, false);
                let half = if gemm.half_b { " in halves" } else { "" };
                format!("{a} · {b}{half} → {out}{}", tail(gemm.epilogue.expr.code.len()))
            }
            Kernel::Pointwise(pointwise) => {
                let (count, outputs) = (pointwise.expr.code.len(), pointwise.outputs.len());
                let outputs = if outputs == 1 { "1 tensor".to_owned() } else { format!("{outputs} tensors") };
                let s = if count == 1 { "" } else { "s" };
                format!("{} × {count} instruction{s} → {outputs}", shape(&pointwise.shape))
            }
            Kernel::Reduce(reduce) => {
                let kept: Vec<_> = reduce
                    .shape
                    .iter()
                    .zip(&reduce.reduced)
                    .filter(|(_, gone)| !**gone)
                    .map(|(&d, _)| d)
                    .collect();
                let sums = if reduce.outputs.len() > 1 {
                    format!("{} of ", reduce.outputs.len())
                } else {
                    String::new()
                };
                format!("{} → {sums}{}", shape(&reduce.shape), shape(&kept))
            }
            Kernel::Moments(m) => {
                format!("{} → mean and variance of {}", shape(&[m.outer, m.channels, m.inner]), m.channels)
            }
            Kernel::Copy(copy) => {
                let parts: Vec<_> = copy.parts.iter().map(|p| shape(&p.shape)).collect();
                let parts = match parts.len() {
                    0 => "zeros".to_owned(),
                    1..=3 => parts.join(" + "),
                    n => format!("{n} parts"),
                };
                format!("{parts} → {}", copy.len)
            }
            Kernel::MaxPool(pool) => {
                let (x, y) = ([pool.planes, pool.x[0], pool.x[1]], [pool.planes, pool.y[0], pool.y[1]]);
                let (from, to) = match pool.face {
                    ganomede_kernels::pool::Face::Scatter => (y, x),
                    _ => (x, y),
                };
                format!("{} → {}, k{} s{}", shape(&from), shape(&to), pair(pool.kernel), pair(pool.stride))
            }
            Kernel::Sparse(k) => {
                let from = [k.outer, k.matrix.columns(), k.inner];
                format!("{} → {}", shape(&from), shape(&[k.outer, k.matrix.rows(), k.inner]))
            }
            Kernel::Random(random) => format!("→ {}", random.len),
        }
    }
}
