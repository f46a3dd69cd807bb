//! Reverse-mode differentiation. Every VJP is written in operations of the tape, so the gradient of a
//! gradient is just [`Tape::grad`] again.

use std::collections::HashSet;
use std::sync::Arc;

use ganomede_kernels::conv::{Face, Geometry};
use ganomede_kernels::expr::{Binary, Unary};
use ganomede_kernels::pool::{self, MaxPool};

use super::{Node, NodeId, Op, Tape, Tensor, Variable};

impl Tape {
    /// Gradients of a scalar with respect to `wrt`: any tensors of this tape, be they inputs, states,
    /// constants or values in between. A handle stands for its own uses alone: equal values that were written
    /// twice are two tensors.
    ///
    /// Zeros come out only where the loss does not depend on a tensor: it was recorded after the loss, or
    /// only what lies behind a [`Tensor::stop_gradient`] or in a mask (`sign`, `step`, `greater`, `equal`,
    /// the condition of [`Tensor::select`]) was made from it.
    pub fn grad<'t>(&'t self, loss: Tensor<'t>, wrt: &[Tensor<'t>]) -> Vec<Tensor<'t>> {
        if loss.len() != 1 {
            let what = format!("the loss has shape {:?}; reduce it to one element first", loss.shape());
            self.fail("grad", what);
            return wrt.iter().map(|w| self.zeros(&w.shape())).collect();
        }
        let seed = self.full(1.0, &loss.shape());
        self.vjp(loss, seed, wrt)
    }

    /// Gradients of a scalar with respect to the current values of states, for an update of them.
    ///
    /// # Errors
    /// [`Tape::finish`] names a state that was given a new value after the loss was recorded from an old one:
    /// the gradient with respect to the new value would be zero.
    pub fn grad_of_states<'t>(&'t self, loss: Tensor<'t>, states: &[Variable]) -> Vec<Tensor<'t>> {
        let wrt: Vec<_> = states.iter().map(|state| self.state(state)).collect();
        if !self.owns("grad", loss) {
            return wrt;
        }
        let newer = states.iter().zip(&wrt).filter(|(_, now)| now.id > loss.id).map(|(state, _)| state);
        let outdated = |state: &&Variable| {
            let old = self.leaf(Op::State(state.id), &state.shape);
            old.id <= loss.id && self.between(loss.id, &[old])[loss.id]
        };
        if let Some(state) = newer.into_iter().find(outdated) {
            let what = format!(
                "the loss was recorded before state {} of shape {:?} was updated; record it again after the update, or take all \
                 gradients first",
                state.id.0, state.shape
            );
            self.fail("grad", what);
        }
        self.grad(loss, &wrt)
    }

    /// Vector–Jacobian products: the gradient of ⟨y, cotangent⟩ with respect to `wrt`; the cotangent has y's
    /// shape.
    pub fn vjp<'t>(&'t self, y: Tensor<'t>, cotangent: Tensor<'t>, wrt: &[Tensor<'t>]) -> Vec<Tensor<'t>> {
        let zeros = || wrt.iter().map(|w| self.zeros(&w.shape())).collect();
        if !wrt.iter().chain([&y, &cotangent]).all(|&tensor| self.owns("vjp", tensor)) {
            return zeros();
        }
        if cotangent.shape() != y.shape() {
            let (y, own) = (y.shape(), cotangent.shape());
            self.fail("vjp", format!("the cotangent has shape {own:?}, what it belongs to {y:?}"));
            return zeros();
        }
        let relevant = self.between(y.id, wrt);
        let asked: HashSet<NodeId> = wrt.iter().map(|w| w.id).collect();
        let mut cotangents: Vec<Option<Tensor<'t>>> = vec![None; y.id + 1];
        cotangents[y.id] = Some(cotangent);
        for id in (0..=y.id).rev() {
            let (true, Some(g)) = (relevant[id], cotangents[id]) else { continue };
            let node = self.get(id);
            let _scope = self.gradient_scope(&node.scope);
            // The mean over parts is its own adjoint: each part's share of it comes from all of them.
            if let Some(of) = self.part_of(id) {
                let c = self.whole(g);
                cotangents[of] = Some(cotangents[of].map_or(c, |sum| sum + c));
            }
            for (&input, contribution) in node.inputs.iter().zip(self.node_vjp(id, &node, g, &relevant)) {
                let Some(c) = contribution else { continue };
                let input = self.unrepeated(input, &asked);
                let c = c.sum_to(&Tensor { tape: self, id: input }.shape());
                cotangents[input] = Some(cotangents[input].map_or(c, |sum| sum + c));
            }
        }
        let gradient = |w: &Tensor<'t>| match cotangents.get(w.id).copied().flatten() {
            // A value of its own, though several tensors have the same gradient.
            Some(g) => g.reshape(&g.shape()),
            None => self.full(0.0, &w.shape()),
        };
        wrt.iter().map(gradient).collect()
    }

    /// What a tensor repeats, as far as nobody asks for a gradient in between. What is repeated for several
    /// readers takes a sum from each: adding what they give first would keep their full-sized tensors until
    /// the last of them is done.
    fn unrepeated(&self, mut id: NodeId, asked: &HashSet<NodeId>) -> NodeId {
        while let Op::Broadcast = self.get(id).op
            && !asked.contains(&id)
        {
            id = self.get(id).inputs[0];
        }
        id
    }

    /// Nodes on a path from `wrt` to `y`: the only ones whose cotangents matter.
    fn between(&self, y: NodeId, wrt: &[Tensor<'_>]) -> Vec<bool> {
        let inner = self.inner.borrow();
        let nodes = &inner.graph.nodes[..=y];
        let mut depends = vec![false; nodes.len()];
        for w in wrt.iter().filter(|w| w.id <= y) {
            depends[w.id] = true;
        }
        for (id, node) in nodes.iter().enumerate() {
            depends[id] |= !matches!(node.op, Op::StopGradient) && node.inputs.iter().any(|&i| depends[i]);
            depends[id] |= inner.part_of.get(&id).is_some_and(|&of| depends[of]);
        }
        depends
    }

    /// Gradient launches carry the name of the layer they belong to, marked.
    fn gradient_scope(&self, scope: &str) -> super::ScopeGuard<'_> {
        let mut inner = self.inner.borrow_mut();
        let depth = inner.scopes.len();
        let name = if scope.starts_with('∇') { scope.to_owned() } else { format!("∇{scope}") };
        // The scope of the forward node replaces, not extends, the current one.
        inner.scopes.push(name.clone());
        inner.scope = Some(name.into());
        debug_assert!(inner.scopes.len() == depth + 1);
        super::ScopeGuard(self)
    }

    /// Cotangent of each input of a node, `None` where there is none.
    fn node_vjp<'t>(
        &'t self,
        id: NodeId,
        node: &Node,
        g: Tensor<'t>,
        relevant: &[bool],
    ) -> Vec<Option<Tensor<'t>>> {
        let at = |id: NodeId| Tensor { tape: self, id };
        let y = at(id);
        let input = |i: usize| at(node.inputs[i]);
        let wanted = |i: usize| relevant[node.inputs[i]];
        match &node.op {
            Op::Input(_) | Op::State(_) | Op::Const(_) | Op::StopGradient | Op::Random(..) => {
                vec![None; node.inputs.len()]
            }
            Op::Unary(op) => vec![unary_vjp(*op, input(0), y, g)],
            Op::Binary(op) => {
                let (a, b) = (input(0), input(1));
                let (da, db) = binary_vjp(*op, a, b, y, g, [wanted(0), wanted(1)]);
                vec![da, db]
            }
            Op::Select => {
                let (condition, zero) = (input(0), self.constant(0.0));
                let (da, db) = (|| condition.select(g, zero), || condition.select(zero, g));
                vec![None, wanted(1).then(da), wanted(2).then(db)]
            }
            Op::Broadcast => vec![Some(g.sum_to(&input(0).shape()))],
            Op::Reshape => vec![Some(g.reshape(&input(0).shape()))],
            Op::Permute(order) => {
                let mut inverse = vec![0; order.len()];
                for (i, &o) in order.iter().enumerate() {
                    inverse[o] = i;
                }
                vec![Some(g.permute(&inverse))]
            }
            Op::Slice { start, step } => vec![Some(g.embed(start, step, &input(0).shape()))],
            Op::Embed { start, step } => {
                let from = input(0).shape();
                let end: Vec<_> = (0..from.len()).map(|d| start[d] + (from[d] - 1) * step[d] + 1).collect();
                vec![Some(g.slice(start, &end, step))]
            }
            Op::Concat(axis) => {
                let mut start = 0;
                (0..node.inputs.len())
                    .map(|i| {
                        let len = input(i).shape()[*axis];
                        start += len;
                        wanted(i).then(|| g.narrow(*axis, start - len, len))
                    })
                    .collect()
            }
            Op::Sum { scale, .. } => vec![Some((g * scale.0).repeat(&input(0).shape()))],
            Op::Max { axes } => {
                let x = input(0);
                let shape = x.shape();
                let largest = y.repeat(&shape);
                let mask = x.equal(largest);
                // Of NaN nothing is the largest: 0 · ∞.
                let share = mask * (g / mask.sum(axes));
                vec![Some(largest.greater(x).select(self.constant(0.0), share))]
            }
            Op::Variance { axes } => {
                let x = input(0);
                let count = x.len() / y.len();
                let centred = x - x.mean(axes);
                vec![Some(centred * (g * (2.0 / count as f32)))]
            }
            Op::Conv(face, geometry) => {
                self.conv_vjp(*face, *geometry, input(0), input(1), g, [wanted(0), wanted(1)])
            }
            Op::MatMul { trans_a, trans_b } => {
                let (a, b) = (input(0), input(1));
                let da = wanted(0).then(|| {
                    let da = if *trans_a {
                        b.matmul_with(g, *trans_b, true)
                    } else {
                        g.matmul_with(b, false, !trans_b)
                    };
                    unbatch(da, a.rank())
                });
                let db = wanted(1).then(|| {
                    let db = if *trans_b {
                        g.matmul_with(a, true, *trans_a)
                    } else {
                        a.matmul_with(g, !trans_a, false)
                    };
                    unbatch(db, b.rank())
                });
                vec![da, db]
            }
            Op::Sparse(axis, matrix) => vec![Some(self.sparse(*axis, Arc::new(matrix.transposed()), g))],
            Op::MaxPool(p) => self.max_pool_vjp(p, input, g),
            Op::Custom(custom) => {
                let operands: Vec<Tensor<'t>> = (0..node.inputs.len()).map(input).collect();
                custom.operation().vjp(self, &operands, y, g)
            }
        }
    }

    /// Each face's VJP is the other two faces of the same trilinear form.
    fn conv_vjp<'t>(
        &'t self,
        face: Face,
        geometry: Geometry,
        a: Tensor<'t>,
        b: Tensor<'t>,
        g: Tensor<'t>,
        wanted: [bool; 2],
    ) -> Vec<Option<Tensor<'t>>> {
        let conv = |face, p, q| Some(self.conv(face, geometry, p, q));
        let (da, db) = match face {
            // a = x, b = w, g = dy
            Face::Conv => {
                (wanted[0].then(|| conv(Face::Transpose, g, b)), wanted[1].then(|| conv(Face::Weight, a, g)))
            }
            // a = y, b = w, g = dx
            Face::Transpose => {
                (wanted[0].then(|| conv(Face::Conv, g, b)), wanted[1].then(|| conv(Face::Weight, g, a)))
            }
            // a = x, b = y, g = dw
            Face::Weight => {
                (wanted[0].then(|| conv(Face::Transpose, b, g)), wanted[1].then(|| conv(Face::Conv, a, g)))
            }
        };
        vec![da.flatten(), db.flatten()]
    }

    /// Gather and scatter by fixed indices are each other's adjoint.
    fn max_pool_vjp<'t>(
        &'t self,
        p: &MaxPool,
        input: impl Fn(usize) -> Tensor<'t>,
        g: Tensor<'t>,
    ) -> Vec<Option<Tensor<'t>>> {
        let face = match p.face {
            pool::Face::Indices => return vec![None],
            pool::Face::Gather => pool::Face::Scatter,
            pool::Face::Scatter => pool::Face::Gather,
        };
        let op = Op::MaxPool(MaxPool { face, ..*p });
        vec![Some(self.node(op, &[g, input(1)], input(0).shape())), None]
    }
}

/// Sums the batch dimension away where the operand had none.
fn unbatch(gradient: Tensor<'_>, rank: usize) -> Tensor<'_> {
    let shape = gradient.shape();
    if shape.len() == 3 && rank == 2 { gradient.sum(&[0]).reshape(&shape[1..]) } else { gradient }
}

/// Where a derivative is 0 by a mask, the mask selects: what comes from behind may be infinite there.
fn unary_vjp<'t>(op: Unary, x: Tensor<'t>, y: Tensor<'t>, g: Tensor<'t>) -> Option<Tensor<'t>> {
    let zero = || g.tape.constant(0.0);
    Some(match op {
        Unary::Neg => -g,
        Unary::Recip => -(g * y * y),
        Unary::Exp => g * y,
        Unary::Log => g / x,
        Unary::Sqrt => g * 0.5 / y,
        Unary::Abs => x.select(g * x.sign(), zero()),
        Unary::Sign | Unary::Step | Unary::LeakyMask(_) | Unary::ClampMask(..) => return None,
        Unary::Square => g * (x * 2.0),
        // Masks read the output where it has the input's sign: the input need not be kept.
        Unary::Relu => y.select(g, zero()),
        Unary::LeakyRelu(s) => g * (if s.0 > 0.0 { y } else { x }).leaky_mask(s.0),
        Unary::Tanh => g * (1.0 - y.square()),
        // 1 − y has no digits where y is nearly 1; the sigmoid of −x has all of them.
        Unary::Sigmoid => g * (y * (-x).sigmoid()),
        Unary::Softplus => g * x.sigmoid(),
        Unary::Affine(scale, _) => g * scale.0,
        Unary::Clamp(low, high) => x.clamp_mask(low, high).select(g, zero()),
    })
}

fn binary_vjp<'t>(
    op: Binary,
    a: Tensor<'t>,
    b: Tensor<'t>,
    y: Tensor<'t>,
    g: Tensor<'t>,
    wanted: [bool; 2],
) -> (Option<Tensor<'t>>, Option<Tensor<'t>>) {
    // Ties of max and min share the gradient; what another value beats has none.
    let pick = |beaten: Tensor<'t>| beaten.select(g.tape.constant(0.0), a.equal(b).select(g * 0.5, g));
    let da = || match op {
        Binary::Add | Binary::Sub => Some(g),
        Binary::Mul => Some(g * b),
        Binary::Div => Some(g / b),
        Binary::Max => Some(pick(b.greater(a))),
        Binary::Min => Some(pick(a.greater(b))),
        // To no power nothing moves, and neither does its derivative: a^-1 would, at zero.
        Binary::Pow => {
            let zero = b.tape.constant(0.0);
            Some(b.select(g * (b * a.pow(b.select(b - 1.0, zero))), zero))
        }
        Binary::Greater | Binary::Equal => None,
    };
    let db = || match op {
        Binary::Add => Some(g),
        Binary::Sub => Some(-g),
        Binary::Mul => Some(g * a),
        Binary::Div => Some(-(g * y / b)),
        Binary::Max => Some(pick(a.greater(b))),
        Binary::Min => Some(pick(b.greater(a))),
        // 0 to no negative power does not move with it.
        Binary::Pow => {
            let zero = a.tape.constant(0.0);
            let still = a.equal(zero).select(b.greater(zero) + b.equal(zero), zero);
            Some(still.select(zero, g * (y * a.log())))
        }
        Binary::Greater | Binary::Equal => None,
    };
    (wanted[0].then(da).flatten(), wanted[1].then(db).flatten())
}
