//! What an author writes that moves elements, and products.

use ganomede::tape::{ConvOptions, Padding, PoolOptions, Sampling};

use super::author::{Author, MOST};
use super::script::{Binary, Id, Make};

impl Author {
    pub(super) fn rearranged(&mut self) -> Option<Id> {
        let x = self.pick();
        let shape = self.shape(x);
        let rank = shape.len();
        if rank == 0 {
            return None;
        }
        let axis = self.dice.below(rank);
        match self.dice.below(7) {
            0 if rank > 1 => {
                let mut order: Vec<_> = (0..rank).collect();
                order.rotate_left(1 + self.dice.below(rank - 1));
                let out: Vec<_> = order.iter().map(|&o| shape[o]).collect();
                Some(self.make(Make::Permute(order), &[x], &out))
            }
            1 if rank > 1 => Some(self.reshape(x, &[shape.iter().product()])),
            2 => Some(self.reshape(x, &[&[1], shape.as_slice()].concat())),
            3 if shape[axis] > 1 => {
                let (mut start, mut step) = (vec![0; rank], vec![1; rank]);
                step[axis] = 1 + self.dice.below(2);
                start[axis] = self.dice.below(shape[axis]);
                if start[axis] == 0 && step[axis] == 1 {
                    start[axis] = 1;
                }
                let out: Vec<_> = (0..rank).map(|d| (shape[d] - start[d]).div_ceil(step[d])).collect();
                Some(self.make(Make::Slice { start, end: shape, step }, &[x], &out))
            }
            4 => {
                let mut start = vec![0; rank];
                start[axis] = self.dice.below(2);
                let mut step = vec![1; rank];
                step[axis] = 1 + self.dice.below(2);
                let mut out: Vec<_> = (0..rank).map(|d| start[d] + (shape[d] - 1) * step[d] + 1).collect();
                out[0] += 1;
                Some(self.make(Make::Embed { start, step }, &[x], &out))
            }
            5 => Some(self.broadcast(x, &[&[2], shape.as_slice()].concat())),
            6 if shape.contains(&1) => {
                let wide: Vec<_> = shape.iter().map(|&n| if n == 1 { 2 } else { n }).collect();
                Some(self.broadcast(x, &wide))
            }
            _ => None,
        }
    }

    /// Entries of an axis picked, mirrored, repeated, interpolated or filtered.
    pub(super) fn sampled(&mut self) -> Option<Id> {
        let x = self.pick();
        let mut shape = self.shape(x);
        let axis = (0..shape.len()).rfind(|&d| shape[d] > 1)?;
        let (rank, n) = (shape.len(), shape[axis]);
        let make = match self.dice.below(4) {
            0 => {
                let indices: Vec<_> = (0..1 + self.dice.below(4)).map(|_| self.dice.below(n)).collect();
                shape[axis] = indices.len();
                Make::Gather { axis, indices }
            }
            1 => {
                let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
                (low[axis], high[axis]) = (1, self.dice.below(2));
                shape[axis] += low[axis] + high[axis];
                let padding = self.dice.of(&[Padding::Reflect, Padding::Edge, Padding::Constant(0.5)]);
                Make::Pad { low, high, padding }
            }
            2 => {
                let axis = self.dice.below(rank);
                let fractions: [&[f32]; 3] = [&[0.25, 0.5, 0.25], &[-0.3], &[0.1, -0.2, 0.0, 0.4, 0.15]];
                let whole: [&[f32]; 3] = [&[1.0, -2.0, 1.0], &[2.0], &[-1.0, 0.0, 1.0, 1.0, 0.0]];
                let taps = self.dice.of(if self.script.whole { &whole } else { &fractions });
                Make::Filter { axis, taps: taps.to_vec() }
            }
            _ => {
                shape[axis] = 1 + self.dice.below(5);
                let all = [Sampling::Nearest, Sampling::Linear, Sampling::LinearAligned];
                Make::Resample { axis, sampling: self.dice.of(&all) }
            }
        };
        Some(self.make(make, &[x], &shape))
    }

    pub(super) fn concat(&mut self) -> Option<Id> {
        let x = self.pick();
        let shape = self.shape(x);
        let y = self.find(|s| s == shape)?;
        if shape.is_empty() {
            return None;
        }
        let axis = self.dice.below(shape.len());
        let parts = if self.dice.one_in(2) { vec![x, y] } else { vec![y, x, y] };
        let mut out = shape;
        out[axis] *= parts.len();
        Some(self.make(Make::Concat(axis), &parts, &out))
    }

    pub(super) fn product(&mut self) -> Option<Id> {
        let x = self.find(|s| (2..=3).contains(&s.len()))?;
        let (a, trans_a, trans_b) = (self.shape(x), self.dice.one_in(2), self.dice.one_in(2));
        let rank = a.len();
        let (m, inner) = if trans_a { (a[rank - 1], a[rank - 2]) } else { (a[rank - 2], a[rank - 1]) };
        let y = self.find(|b| {
            (2..=3).contains(&b.len())
                && b[b.len() - if trans_b { 1 } else { 2 }] == inner
                && (rank == 2 || b.len() == 2 || a[0] == b[0])
        })?;
        let b = self.shape(y);
        let n = b[b.len() - if trans_b { 2 } else { 1 }];
        let out = if rank == 3 {
            vec![a[0], m, n]
        } else if b.len() == 3 {
            vec![b[0], m, n]
        } else {
            vec![m, n]
        };
        let product = self.make(Make::MatMul { trans_a, trans_b }, &[x, y], &out);
        // A bias, as layers have it, or what keeps the numbers small.
        let tail = self.find(|s| s.len() <= 2 && (s == [n] || s.iter().product::<usize>() == 1));
        match tail {
            Some(bias) if self.dice.one_in(2) => Some(self.binary(Binary::Add, product, bias)),
            _ if self.len(product) <= MOST => Some(self.tame(product)),
            _ => Some(product),
        }
    }

    pub(super) fn image(&mut self) -> Option<Id> {
        if self.dice.one_in(5) {
            return self.signal();
        }
        let x = self.find(|s| s.len() == 4 && s[1] == 2 && s[2] >= 3 && s[3] >= 2)?;
        let w = self.find(|s| s == [2, 2, 3, 2] || s == [2, 1, 3, 2])?;
        let groups = 2 / self.shape(w)[1];
        let s = self.shape(x);
        let size = |d: usize, pads: usize, k: usize, stride: usize| (s[d] + pads - k) / stride + 1;
        let options = self.dice.of(&[
            ConvOptions::new(2, 1),
            ConvOptions::default(),
            ConvOptions::asymmetric(1, 1, 0),
            ConvOptions { dilation: [1, 2], pad_low: [0, 1], pad_high: [1, 1], ..ConvOptions::default() },
        ]);
        let options = ConvOptions { groups, ..options };
        let made = match self.dice.below(7) {
            0 | 1 => {
                let out = [0, 1].map(|d| {
                    let extent = options.dilation[d] * ([3, 2][d] - 1) + 1;
                    size(2 + d, options.pad_low[d] + options.pad_high[d], extent, options.stride[d])
                });
                self.make(Make::Conv(options), &[x, w], &[s[0], 2, out[0], out[1]])
            }
            2 => {
                let out = [0, 1].map(|d| {
                    let full = (s[2 + d] - 1) * options.stride[d] + options.dilation[d] * ([3, 2][d] - 1) + 1;
                    full - options.pad_low[d] - options.pad_high[d]
                });
                self.make(Make::ConvTranspose(options), &[x, w], &[s[0], 2, out[0], out[1]])
            }
            3 => {
                let padding = self.dice.below(2);
                let pool = PoolOptions::new([2; 2], [2; 2], [padding; 2]);
                let out = [s[0], s[1], size(2, 2 * padding, 2, 2), size(3, 2 * padding, 2, 2)];
                let pool = if self.dice.one_in(2) { Make::MaxPool(pool) } else { Make::AvgPool(pool) };
                return Some(self.make(pool, &[x], &out));
            }
            4 => {
                let pool = PoolOptions::new([2, 2], [1, 1], [0, 0]);
                let out = [s[0], s[1], size(2, 0, 2, 1), size(3, 0, 2, 1)];
                self.make(Make::AvgPool(pool), &[x], &out)
            }
            // Dilated windows, padded on one side alone, whose padding does not count.
            5 => {
                let (dilation, pad_low, pad_high) = ([2, 1], [1, 0], [0, 1]);
                let pool =
                    PoolOptions { dilation, pad_low, pad_high, ..PoolOptions::new([2; 2], [1; 2], [0; 2]) };
                let pool = PoolOptions { count_padding: self.dice.one_in(2), ..pool };
                let out = [s[0], s[1], size(2, 1, 3, 1), size(3, 1, 2, 1)];
                let pool = if self.dice.one_in(2) { Make::MaxPool(pool) } else { Make::AvgPool(pool) };
                return Some(self.make(pool, &[x], &out));
            }
            _ => return Some(self.make(Make::Upsample(2), &[x], &[s[0], s[1], 2 * s[2], 2 * s[3]])),
        };
        Some(if self.len(made) > MOST { made } else { self.tame(made) })
    }

    pub(super) fn signal(&mut self) -> Option<Id> {
        let x = self.find(|s| s == [2, 4, 3])?;
        let w = self.find(|s| s.len() == 3 && s[1] == 4 && s[2] <= 3)?;
        let k = self.shape(w);
        let (stride, padding, dilation) = (1 + self.dice.below(2), self.dice.below(2), 1);
        if self.dice.one_in(2) || k[0] != 4 {
            let out = (3 + 2 * padding - k[2]) / stride + 1;
            return Some(self.make(Make::Conv1d { stride, padding, dilation }, &[x, w], &[2, k[0], out]));
        }
        let out = (2 * stride + k[2]).checked_sub(2 * padding)?;
        Some(self.make(Make::ConvTranspose1d { stride, padding, dilation }, &[x, w], &[2, k[1], out]))
    }
}
