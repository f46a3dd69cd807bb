//! From steps to kernels: builds the parameters of each launch, inputs and outputs still named by graph
//! nodes.

use std::collections::HashMap;

use ganomede_kernels::conv::{Conv, Epilogue, Spread};
use ganomede_kernels::copy::{Copy, CopyPart};
use ganomede_kernels::expr::{Expr, Instr, Num, Reg, Unary};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::moments::Moments;
use ganomede_kernels::pointwise::{Operand, Pointwise, Source};
use ganomede_kernels::reduce::{Combine, Output, Reduce};
use ganomede_kernels::{Kernel, Precision};

use super::CompileError;
use super::fuse::Fused;
use super::steps::{Step, StepKind};
use crate::tape::{NodeId, Op};

/// A kernel with its buffers named by the nodes whose storage they are. `None` is an output nobody reads.
pub(super) struct Lowered {
    pub(super) kernel: Kernel,
    pub(super) inputs: Vec<NodeId>,
    pub(super) outputs: Vec<Option<NodeId>>,
}

/// Row-major strides.
pub(super) fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for d in (0..shape.len().saturating_sub(1)).rev() {
        strides[d] = strides[d + 1] * shape[d + 1];
    }
    strides
}

/// A kernel that copies a whole tensor.
pub(super) fn identity(len: usize) -> Kernel {
    let part = CopyPart {
        src_len: len,
        shape: vec![len],
        src_offset: 0,
        src_strides: vec![1],
        dst_offset: 0,
        dst_strides: vec![1],
    };
    Kernel::Copy(Copy { len, zero: false, parts: vec![part] })
}

impl Fused<'_> {
    /// The step's kernel.
    ///
    /// # Errors
    /// [`CompileError::Internal`] where a step holds what its kind has no kernel for.
    pub(super) fn lower(&self, step: &Step) -> Result<Lowered, CompileError> {
        let lowered = match &step.kind {
            StepKind::Pointwise => self.lower_pointwise(step),
            StepKind::Reduce => self.lower_reduce(step),
            StepKind::Moments { mean } => Ok(self.lower_moments(step, *mean)),
            StepKind::Product(product) => self.lower_product(step.roots[0], *product),
            StepKind::Single => self.lower_single(step.roots[0]),
        };
        lowered.map_err(|what| CompileError::Internal { scope: step.scope.to_string(), what })
    }

    fn lower_pointwise(&self, step: &Step) -> Result<Lowered, String> {
        let shape = self.node(step.roots[0]).shape.clone();
        let mut builder = Builder::new(self, &shape, &[&step.roots[..], &step.again].concat());
        let outputs = step.roots.iter().map(|&r| builder.root(r)).collect::<Result<Vec<Reg>, _>>()?;
        let Builder { expr, mut operands, inputs, .. } = builder;
        let (shape, _) = merge_dims(shape, None, &mut operands);
        Ok(Lowered {
            kernel: Kernel::Pointwise(Pointwise { shape, operands, expr, outputs }),
            inputs,
            outputs: step.roots.iter().map(|&r| Some(r)).collect(),
        })
    }

    fn lower_reduce(&self, step: &Step) -> Result<Lowered, String> {
        let shape = self.node(self.inputs[step.roots[0]][0]).shape.clone();
        let mut builder = Builder::new(self, &shape, &step.again);
        let mut reduced = vec![false; shape.len()];
        let mut outputs = vec![];
        for &root in &step.roots {
            let reg = builder.value(self.inputs[root][0])?;
            let (axes, combine, scale) = match &self.node(root).op {
                Op::Sum { axes, scale } => (axes, Combine::Sum, *scale),
                Op::Max { axes } => (axes, Combine::Max, Num(1.0)),
                other => return Err(format!("{other:?} is no reduction")),
            };
            axes.iter().for_each(|&a| reduced[a] = true);
            outputs.push(Output { reg, combine, scale });
        }
        let Builder { expr, mut operands, inputs, .. } = builder;
        let (shape, reduced) = merge_dims(shape, Some(reduced), &mut operands);
        Ok(Lowered {
            kernel: Kernel::Reduce(Reduce { shape, reduced, operands, expr, outputs }),
            inputs,
            outputs: step.roots.iter().map(|&r| Some(r)).collect(),
        })
    }

    fn lower_moments(&self, step: &Step, mean: Option<NodeId>) -> Lowered {
        let variance = step.roots.iter().copied().find(|&r| Some(r) != mean).unwrap_or(step.roots[0]);
        let x = self.inputs[variance][0];
        let shape = &self.node(x).shape;
        let kept = &self.node(variance).shape;
        let is_kept = |d: usize| kept[d] == shape[d] && shape[d] != 1;
        let first = (0..shape.len()).find(|&d| is_kept(d)).unwrap_or(shape.len());
        let last = (0..shape.len()).rfind(|&d| is_kept(d)).map_or(first, |d| d + 1);
        let product = |range: std::ops::Range<usize>| shape[range].iter().product::<usize>();
        let moments = Moments {
            outer: product(0..first),
            channels: product(first..last),
            inner: product(last..shape.len()),
        };
        Lowered {
            kernel: Kernel::Moments(moments),
            inputs: vec![self.storage(x)],
            outputs: vec![mean, Some(variance)],
        }
    }

    fn lower_product(&self, root: NodeId, product: NodeId) -> Result<Lowered, String> {
        let mut inputs: Vec<_> = self.inputs[product].iter().map(|&i| self.storage(i)).collect();
        let epilogue = if root == product {
            Epilogue::default()
        } else {
            let shape = self.node(root).shape.clone();
            let mut builder = Builder::new(self, &shape, &[root]);
            builder.accumulate(product);
            // The root is computed last: its register is the last one, as epilogues expect.
            builder.root(root)?;
            let Builder { expr, operands, inputs: extra, .. } = builder;
            inputs.extend(extra);
            let full: usize = shape.iter().product();
            let full_strides: Vec<_> = contiguous(&shape)
                .into_iter()
                .zip(&shape)
                .map(|(s, &n)| if n == 1 { 0 } else { s })
                .collect();
            let operands = operands
                .iter()
                .map(|o| match o.len {
                    1 => Spread::Scalar,
                    len if len == full && o.strides == full_strides => Spread::Full,
                    _ => Spread::Channel,
                })
                .collect();
            Epilogue { operands, expr }
        };
        let kernel = match self.node(product).op {
            Op::Conv(face, geometry) => {
                Kernel::Conv(Conv { face, geometry, half: false, precision: Precision::F32, epilogue })
            }
            Op::MatMul { trans_a, trans_b } => Kernel::Gemm(self.gemm(product, trans_a, trans_b, epilogue)),
            ref other => return Err(format!("{other:?} is no product")),
        };
        Ok(Lowered { kernel, inputs, outputs: vec![Some(root)] })
    }

    fn gemm(&self, product: NodeId, trans_a: bool, trans_b: bool, epilogue: Epilogue) -> Gemm {
        let a = &self.node(self.inputs[product][0]).shape;
        let b = &self.node(self.inputs[product][1]).shape;
        let out = &self.node(product).shape;
        let (ra, rb, ro) = (a.len(), b.len(), out.len());
        let (m, n) = (out[ro - 2], out[ro - 1]);
        let k = if trans_a { a[ra - 2] } else { a[ra - 1] };
        let batch = if ro == 3 { out[0] } else { 1 };
        if ra == 3 && rb == 2 && !trans_a {
            // One shared right operand: the batch is just more rows.
            let m = batch * m;
            return Gemm {
                batch: 1,
                m,
                n,
                k,
                trans_a,
                trans_b,
                batched_a: false,
                batched_b: false,
                half_b: false,
                precision: Precision::F32,
                epilogue,
            };
        }
        Gemm {
            batch,
            m,
            n,
            k,
            trans_a,
            trans_b,
            batched_a: ra == 3,
            batched_b: rb == 3,
            half_b: false,
            precision: Precision::F32,
            epilogue,
        }
    }
}

/// Builds one expression over an iteration shape.
struct Builder<'f> {
    fused: &'f Fused<'f>,
    shape: Vec<usize>,
    /// Stored nodes that are computed here.
    computed: Vec<NodeId>,
    accumulator: Option<NodeId>,
    expr: Expr,
    operands: Vec<Operand>,
    inputs: Vec<NodeId>,
    known: HashMap<NodeId, Reg>,
    known_operands: HashMap<(NodeId, Vec<usize>), Reg>,
}

impl<'f> Builder<'f> {
    fn new(fused: &'f Fused<'f>, shape: &[usize], computed: &[NodeId]) -> Self {
        Self {
            fused,
            shape: shape.to_vec(),
            computed: computed.to_vec(),
            accumulator: None,
            expr: Expr::default(),
            operands: vec![],
            inputs: vec![],
            known: HashMap::new(),
            known_operands: HashMap::new(),
        }
    }

    /// Makes a product the accumulator of an epilogue: operand 0, ahead of `operands`.
    fn accumulate(&mut self, product: NodeId) {
        self.accumulator = Some(product);
        let reg = self.expr.push(Instr::Operand(0));
        self.known.insert(product, reg);
    }

    fn root(&mut self, id: NodeId) -> Result<Reg, String> {
        match self.known.get(&id) {
            Some(&reg) => Ok(reg),
            None => self.compute(id),
        }
    }

    fn value(&mut self, id: NodeId) -> Result<Reg, String> {
        if let Some(&reg) = self.known.get(&id) {
            return Ok(reg);
        }
        if self.fused.is_pointwise(id) && (!self.fused.stored[id] || self.computed.contains(&id)) {
            self.compute(id)
        } else {
            let strides = contiguous(&self.fused.node(id).shape);
            Ok(self.operand(id, strides))
        }
    }

    /// What a mask can look at in place of `id`: of an activation that is computed here alone, its input has
    /// the same sign.
    fn same_sign(&self, op: Unary, id: NodeId) -> NodeId {
        let mask = matches!(op, Unary::LeakyMask(_) | Unary::Step);
        let keeps_sign = match self.fused.node(id).op {
            Op::Unary(Unary::LeakyRelu(slope)) => slope.0 > 0.0,
            Op::Unary(Unary::Relu) => true,
            _ => false,
        };
        let here = !self.fused.stored[id] || self.computed.contains(&id);
        if mask && keeps_sign && here { self.fused.inputs[id][0] } else { id }
    }

    fn compute(&mut self, id: NodeId) -> Result<Reg, String> {
        let inputs = self.fused.inputs[id];
        let instr = match &self.fused.node(id).op {
            Op::Const(c) => Instr::Const(*c),
            Op::Unary(op) => Instr::Unary(*op, self.value(self.same_sign(*op, inputs[0]))?),
            Op::Binary(op) => {
                let (a, b) = (self.value(inputs[0])?, self.value(inputs[1])?);
                Instr::Binary(*op, a, b)
            }
            Op::Select => {
                let (condition, a, b) =
                    (self.value(inputs[0])?, self.value(inputs[1])?, self.value(inputs[2])?);
                Instr::Select(condition, a, b)
            }
            Op::Broadcast => {
                let from = self.fused.node(inputs[0]);
                let reg = match from.op {
                    Op::Const(c) => self.expr.push(Instr::Const(c)),
                    _ => {
                        let own = contiguous(&from.shape);
                        let strides = (0..self.shape.len())
                            .map(|d| if from.shape.is_empty() || from.shape[d] == 1 { 0 } else { own[d] })
                            .collect();
                        self.operand(inputs[0], strides)
                    }
                };
                self.known.insert(id, reg);
                return Ok(reg);
            }
            other => return Err(format!("{other:?} is no part of an expression")),
        };
        let reg = self.expr.push(instr);
        self.known.insert(id, reg);
        Ok(reg)
    }

    fn operand(&mut self, id: NodeId, strides: Vec<usize>) -> Reg {
        let storage = self.fused.storage(id);
        // Dimensions of size 1 have no stride worth telling apart.
        let strides: Vec<_> =
            strides.iter().zip(&self.shape).map(|(&s, &n)| if n == 1 { 0 } else { s }).collect();
        if let Some(&reg) = self.known_operands.get(&(storage, strides.clone())) {
            return reg;
        }
        // The epilogue of a product has one input for each operand; elsewhere inputs are shared.
        let input = match self.inputs.iter().position(|&i| i == storage) {
            Some(found) if self.accumulator.is_none() => found,
            _ => {
                self.inputs.push(storage);
                self.inputs.len() - 1
            }
        };
        let len = self.fused.node(storage).shape.iter().product();
        let offset = usize::from(self.accumulator.is_some());
        let reg = self.expr.push(Instr::Operand(self.operands.len() + offset));
        self.operands.push(Operand { source: Source::Input(input), len, strides: strides.clone() });
        self.known_operands.insert((storage, strides), reg);
        reg
    }
}

/// Drops dimensions of size 1 and merges neighbours that every operand walks as one (and that are reduced
/// alike).
pub(super) fn merge_dims(
    shape: Vec<usize>,
    reduced: Option<Vec<bool>>,
    operands: &mut [Operand],
) -> (Vec<usize>, Vec<bool>) {
    let mut dims: Vec<usize> = (0..shape.len()).filter(|&d| shape[d] != 1).collect();
    let flags = reduced.unwrap_or_else(|| vec![false; shape.len()]);
    let mut sizes: Vec<usize> = dims.iter().map(|&d| shape[d]).collect();
    for operand in operands.iter_mut() {
        operand.strides = dims.iter().map(|&d| operand.strides[d]).collect();
    }
    let mut d = 0;
    while d + 1 < dims.len() {
        let together = flags[dims[d]] == flags[dims[d + 1]]
            && operands.iter().all(|o| o.strides[d] == o.strides[d + 1] * sizes[d + 1]);
        if together {
            sizes[d + 1] *= sizes[d];
            sizes.remove(d);
            dims.remove(d);
            for operand in operands.iter_mut() {
                operand.strides.remove(d);
            }
        } else {
            d += 1;
        }
    }
    if sizes.is_empty() {
        sizes.push(1);
        operands.iter_mut().for_each(|o| o.strides = vec![0]);
        return (sizes, vec![flags.iter().any(|&f| f)]);
    }
    let reduced = dims.iter().map(|&d| flags[d]).collect();
    (sizes, reduced)
}
