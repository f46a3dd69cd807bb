//! Shape classes: kernels for which one choice of variant serves. Sizes that follow the batch are rounded up to powers
//! of two, so that a choice measured at one batch holds for its neighbours.

use crate::Kernel;

fn rounded(size: usize) -> usize {
    size.checked_next_power_of_two().unwrap_or(size)
}

impl Kernel {
    /// Name of the kernel's shape class, for example `conv 64→128 x 32×32 k 4×4 s 2×2 p 1×1 d 1×1 n 64`; `None`
    /// where there is only one variant.
    pub fn class(&self) -> Option<String> {
        if self.variants().len() < 2 {
            return None;
        }
        let name = self.name();
        Some(match self {
            Self::Conv(conv) => {
                let g = &conv.geometry;
                let pair = |[h, w]: [usize; 2]| format!("{h}×{w}");
                let padding = [g.pad_low[0] + g.pad_high[0], g.pad_low[1] + g.pad_high[1]];
                format!(
                    "{name} {}→{} x {} k {} s {} p {} d {} n {}",
                    g.ci,
                    g.co,
                    pair(g.x),
                    pair(g.kernel),
                    pair(g.stride),
                    pair(padding),
                    pair(g.dilation),
                    rounded(g.batch)
                )
            }
            Self::Gemm(g) => {
                let stored = |transposed| if transposed { "t" } else { "n" };
                let (a, b) = (stored(g.trans_a), stored(g.trans_b));
                let [batch, m, n, k] = [g.batch, g.m, g.n, g.k].map(rounded);
                format!("{name} {batch}×{m}×{n}×{k} {a}{b}")
            }
            Self::Moments(m) => {
                let [outer, channels, inner] = [m.outer, m.channels, m.inner].map(rounded);
                format!("{name} {outer}×{channels}×{inner}")
            }
            Self::Reduce(r) => {
                let innermost = r.reduced.last().is_some_and(|reduced| *reduced);
                let (kept, reduced) = (rounded(r.kept()), rounded(r.reduced_len()));
                let side = if innermost { "inner" } else { "outer" };
                format!("{name} {kept} of {reduced} {side} in {} out {}", r.operands.len(), r.outputs.len())
            }
            Self::Pointwise(p) => {
                let n = rounded(p.shape.iter().product());
                format!("{name} {n} in {} out {}", p.operands.len(), p.outputs.len())
            }
            Self::Copy(c) => format!("{name} {} parts {}", rounded(c.len), c.parts.len()),
            Self::Random(_) | Self::MaxPool(_) | Self::Sparse(_) => {
                format!("{name} {}", rounded(self.output_lens()[0]))
            }
        })
    }
}
