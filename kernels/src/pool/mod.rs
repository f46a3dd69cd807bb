//! Max pooling as three closed operations: the index of each window's maximum, and the gather and scatter by
//! it.

mod cpu;

use crate::error::{KernelError, shape_error};
use crate::family::{Family, Size, Values};
use crate::ladder::{Ladder, variant};
use crate::launch::{Cost, Dispatch, GpuPlan, GpuTraits, Slot};
use crate::layout;
use crate::plan::{begin, fold, read, write};
use crate::text::{pair, shape};

const LADDERS: [Ladder; 1] = [Ladder {
    name: "max_pool",
    computes: "max-pool indices, their gather and scatter",
    variants: &[variant("naive", "1 output a thread", "always")],
}];

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Face {
    /// x → index of the (first) maximum of each window within its plane, as an f32 integer (planes ≤ 2²⁴).
    Indices,
    /// (x, indices) → the values there.
    Gather,
    /// (y, indices) → x-shaped sum of the values sent to each index; the adjoint of gather.
    Scatter,
}

/// Max pooling over `planes` = n·c planes; padding counts as −∞.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// Which of the three operations.
    pub face: Face,
    /// Number of planes, n·c.
    pub planes: usize,
    /// Input size.
    pub x: [usize; 2],
    /// Output size.
    pub y: [usize; 2],
    /// Size of a window in elements.
    pub kernel: [usize; 2],
    /// Distance of neighbouring windows.
    pub stride: [usize; 2],
    /// Padding before.
    pub pad_low: [usize; 2],
    /// Distance of neighbouring elements of the window.
    pub dilation: [usize; 2],
}

impl MaxPool {
    /// Whether window `o` holds an element of dimension `d`: the first one at or behind the padding.
    fn holds(&self, d: usize, o: usize) -> bool {
        let start = o * self.stride[d];
        let k = self.pad_low[d].saturating_sub(start).div_ceil(self.dilation[d]);
        k < self.kernel[d] && start + k * self.dilation[d] < self.pad_low[d] + self.x[d]
    }

    /// Index of the first maximum of window `o` of a plane, tap by tap; a NaN is larger than any number.
    fn first_maximum(&self, plane: &[f32], o: usize) -> usize {
        let (mut best, mut index) = (f32::NEG_INFINITY, None);
        for t in 0..self.kernel[0] * self.kernel[1] {
            let tap = [t / self.kernel[1], t % self.kernel[1]];
            let place = |d: usize, o: usize| {
                (o * self.stride[d] + tap[d] * self.dilation[d])
                    .checked_sub(self.pad_low[d])
                    .filter(|&i| i < self.x[d])
            };
            if let (Some(r), Some(c)) = (place(0, o / self.y[1]), place(1, o % self.y[1])) {
                let v = plane[r * self.x[1] + c];
                if index.is_none() || v > best || (v.is_nan() && !best.is_nan()) {
                    (best, index) = (v, Some(r * self.x[1] + c));
                }
            }
        }
        index.unwrap_or(0)
    }
}

impl Family for MaxPool {
    fn name(&self) -> &'static str {
        match self.face {
            Face::Indices => "max_pool_indices",
            Face::Gather => "max_pool_gather",
            Face::Scatter => "max_pool_scatter",
        }
    }

    fn check(&self) -> Result<(), KernelError> {
        let fail = |what: String| Err(shape_error(self.name(), what));
        layout::checked_numel(self.name(), &[self.planes, self.x[0], self.x[1]])?;
        layout::checked_numel(self.name(), &[self.planes, self.y[0], self.y[1]])?;
        layout::checked_numel(self.name(), &[self.kernel[0], self.kernel[1]])?;
        if self.x[0] * self.x[1] > 1 << 24 {
            return fail(format!(
                "a plane of {:?} has more than 2^24 elements, which f32 indices cannot number",
                self.x
            ));
        }
        for d in 0..2 {
            let parts = [self.stride[d], self.dilation[d]];
            let reach = [(self.y[d], self.stride[d]), (self.kernel[d], self.dilation[d])]
                .into_iter()
                .try_fold(self.x[d], |sum, (n, step)| n.checked_mul(step)?.checked_add(sum));
            let sizes = reach.and_then(|sum| sum.checked_add(self.pad_low[d]));
            if parts.contains(&0) || sizes.is_none() || (0..self.y[d]).any(|o| !self.holds(d, o)) {
                return fail(format!(
                    "input {:?}, output {:?}, window {:?}, stride {:?}, padding {:?}, dilation {:?}: every window must hold an element",
                    self.x, self.y, self.kernel, self.stride, self.pad_low, self.dilation
                ));
            }
        }
        Ok(())
    }

    fn input_lens(&self) -> Vec<usize> {
        let (x, y) = (self.planes * self.x[0] * self.x[1], self.planes * self.y[0] * self.y[1]);
        match self.face {
            Face::Indices => vec![x],
            Face::Gather => vec![x, y],
            Face::Scatter => vec![y, y],
        }
    }

    fn output_lens(&self) -> Vec<usize> {
        let size = if self.face == Face::Scatter { self.x } else { self.y };
        vec![self.planes * size[0] * size[1]]
    }

    fn cost(&self) -> Cost {
        let windows = (self.planes * self.y[0] * self.y[1]) as u64;
        Cost {
            flops: match self.face {
                Face::Indices => windows * (self.kernel[0] * self.kernel[1]) as u64,
                Face::Gather => 0,
                Face::Scatter => windows,
            },
            bytes_read: layout::bytes(&self.input_lens()),
            bytes_written: layout::bytes(&self.output_lens()),
        }
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        let variant = begin(self, traits, variant, || "naive")?;
        let (inputs, outputs) = (self.input_lens(), self.output_lens());
        let pairs = [self.x, self.y, self.kernel, self.stride, self.pad_low, self.dilation];
        // The shader adds position, padding and window as 32-bit words.
        if let Some(&needed) = pairs.iter().flatten().find(|&&v| v > 1 << 29) {
            let (needed, limit) = (needed as u64, 1 << 29);
            return Err(KernelError::Limit {
                kernel: self.name(),
                needed,
                limit,
                unit: "elements along one side",
            });
        }
        // A software adapter stops a thread without a word where its loops take more.
        let area = self.kernel[0] * self.kernel[1];
        if traits.software && area > 65_535 {
            let (needed, limit) = (area as u64, 65_535);
            return Err(KernelError::Limit {
                kernel: self.name(),
                needed,
                limit,
                unit: "elements in a window",
            });
        }
        let words = pairs.iter().flatten().chain(&[outputs[0], 0, 0, 0]).map(|&v| v as u32).collect();
        let dispatch = Dispatch {
            shader: "pool.wgsl",
            source: traits.shaders.text("pool.wgsl").to_owned().into(),
            entry: match self.face {
                Face::Indices => "indices",
                Face::Gather => "gather",
                Face::Scatter => "scatter",
            },
            constants: Vec::new(),
            workgroups: fold(self.name(), outputs[0].div_ceil(64), traits)?,
            bindings: std::iter::once(write(Slot::Output(0)))
                .chain((0..inputs.len()).map(|i| read(Slot::Input(i))))
                .collect(),
            params: words,
        };
        Ok(GpuPlan { variant, dispatches: vec![dispatch], scratch_lens: Vec::new() })
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], _scratch: &mut [f32]) {
        cpu::run(self, inputs, outputs[0]);
    }

    fn line(&self) -> String {
        let (x, y) = ([self.planes, self.x[0], self.x[1]], [self.planes, self.y[0], self.y[1]]);
        let (from, to) = if self.face == Face::Scatter { (y, x) } else { (x, y) };
        format!("{} → {}, k{} s{}", shape(&from), shape(&to), pair(self.kernel), pair(self.stride))
    }

    fn ladders() -> &'static [Ladder] {
        &LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &LADDERS[0]
    }

    fn oracle(&self, inputs: &[&[f32]], _before: &[&[f32]]) -> Vec<Vec<f64>> {
        let (nx, ny) = (self.x[0] * self.x[1], self.y[0] * self.y[1]);
        let mut out = vec![0.0; self.planes * if self.face == Face::Scatter { nx } else { ny }];
        for p in 0..self.planes {
            for o in 0..ny {
                let at = p * ny + o;
                match self.face {
                    Face::Gather => out[at] = f64::from(inputs[0][p * nx + inputs[1][at] as usize]),
                    Face::Scatter => out[p * nx + inputs[1][at] as usize] += f64::from(inputs[0][at]),
                    Face::Indices => out[at] = self.first_maximum(&inputs[0][p * nx..][..nx], o) as f64,
                }
            }
        }
        vec![out]
    }

    /// The indices of windows of 2 × 2.
    fn sample(_ladder: &str, _variant: &str, size: Size) -> Self {
        let (planes, x) = if size == Size::Typical { (4096, [32; 2]) } else { (3, [9, 7]) };
        Self {
            face: Face::Indices,
            planes,
            x,
            y: x.map(|side| side / 2),
            kernel: [2; 2],
            stride: [2; 2],
            pad_low: [0; 2],
            dilation: [1; 2],
        }
    }

    fn values(&self, buffer: Slot) -> Values {
        match buffer {
            // Positions within a plane.
            Slot::Input(1) => Values::Below(self.x[0] * self.x[1]),
            _ => Values::Tame,
        }
    }
}
