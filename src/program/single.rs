//! Steps of one node that is neither element-wise nor a reduction: copies, pools, random numbers, weight
//! gradients.

use std::sync::Arc;

use ganomede_kernels::conv::{Conv, Epilogue, Face};
use ganomede_kernels::copy::{Copy, CopyPart};
use ganomede_kernels::random::Random;
use ganomede_kernels::sparse::Sparse;
use ganomede_kernels::{Kernel, Precision};

use super::fuse::Fused;
use super::lower::{Lowered, contiguous};
use crate::tape::{NodeId, Op};

impl Fused<'_> {
    pub(super) fn lower_single(&self, id: NodeId) -> Result<Lowered, String> {
        let node = self.node(id);
        let inputs: Vec<_> = self.inputs[id].iter().map(|&i| self.storage(i)).collect();
        let len = node.shape.iter().product();
        let from = |i: usize| &self.node(self.inputs[id][i]).shape;
        let size = |shape: &[usize]| shape.iter().product::<usize>();
        let copy = |zero, parts| Kernel::Copy(Copy { len, zero, parts });
        let kernel = match &node.op {
            Op::Conv(face @ Face::Weight, geometry) => Kernel::Conv(Conv {
                face: *face,
                geometry: *geometry,
                half: false,
                precision: Precision::F32,
                epilogue: Epilogue::default(),
            }),
            Op::Permute(order) => {
                let strides = contiguous(from(0));
                let strides = order.iter().map(|&o| strides[o]).collect();
                copy(false, vec![part(&node.shape, len, (0, strides), (0, contiguous(&node.shape)))])
            }
            Op::Slice { start, step } => {
                let source = stepped(&contiguous(from(0)), start, step);
                copy(false, vec![part(&node.shape, size(from(0)), source, (0, contiguous(&node.shape)))])
            }
            Op::Embed { start, step } => {
                let target = stepped(&contiguous(&node.shape), start, step);
                copy(true, vec![part(from(0), size(from(0)), (0, contiguous(from(0))), target)])
            }
            Op::Concat(axis) => {
                let strides = contiguous(&node.shape);
                let mut at = 0;
                let joined = (0..inputs.len()).map(|i| {
                    let target = (at * strides[*axis], strides.clone());
                    at += from(i)[*axis];
                    part(from(i), size(from(i)), (0, contiguous(from(i))), target)
                });
                copy(false, joined.collect())
            }
            Op::MaxPool(p) => Kernel::MaxPool(*p),
            Op::Sparse(axis, matrix) => Kernel::Sparse(Sparse {
                outer: size(&from(0)[..*axis]),
                inner: size(&from(0)[axis + 1..]),
                matrix: Arc::clone(matrix),
            }),
            Op::Random(distribution, stream) => {
                Kernel::Random(Random { distribution: *distribution, len, stream: *stream })
            }
            Op::Custom(custom) => {
                let shapes: Vec<&[usize]> = (0..inputs.len()).map(|i| from(i).as_slice()).collect();
                custom.kernel(&shapes)?
            }
            other => return Err(format!("{other:?} has no kernel of its own")),
        };
        Ok(Lowered { kernel, inputs, outputs: vec![Some(id)] })
    }
}

/// Offset and strides of every `step`-th element from `start`.
fn stepped(strides: &[usize], start: &[usize], step: &[usize]) -> (usize, Vec<usize>) {
    let offset = start.iter().zip(strides).map(|(s, t)| s * t).sum();
    (offset, step.iter().zip(strides).map(|(s, t)| s * t).collect())
}

/// A part of a copy, each side with its offset and strides.
fn part(
    shape: &[usize],
    src_len: usize,
    (src_offset, src_strides): (usize, Vec<usize>),
    (dst_offset, dst_strides): (usize, Vec<usize>),
) -> CopyPart {
    CopyPart { src_len, shape: shape.to_vec(), src_offset, src_strides, dst_offset, dst_strides }
}
