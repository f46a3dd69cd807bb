//! Operations in a file of their own: each is one kernel with its derivative, and no case of [`Op`] by
//! itself.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ganomede_kernels::Kernel;

use super::{Op, Tape, Tensor};

/// An operation that one kernel computes. [`Tape::custom`] records it; nothing else needs to know of it.
///
/// ```
/// use std::sync::Arc;
/// use ganomede::tape::{Operation, Tape, Tensor};
/// use ganomede_kernels::Kernel;
/// use ganomede_kernels::sparse::{Matrix, Sparse};
///
/// /// A vector from its end to its beginning.
/// #[derive(Debug)]
/// struct Reverse;
///
/// impl Operation for Reverse {
///     fn name(&self) -> &'static str {
///         "reverse"
///     }
///
///     fn kernel(&self, operands: &[&[usize]]) -> Result<(Vec<usize>, Kernel), String> {
///         let &[&[n]] = operands else { return Err(format!("takes one vector, not {operands:?}")) };
///         let matrix = Arc::new(Matrix::new(n, (0..n).map(|i| vec![(n - 1 - i, 1.0)])));
///         Ok((vec![n], Kernel::Sparse(Sparse { outer: 1, inner: 1, matrix })))
///     }
///
///     fn vjp<'t>(
///         &self,
///         tape: &'t Tape,
///         _operands: &[Tensor<'t>],
///         _result: Tensor<'t>,
///         cotangent: Tensor<'t>,
///     ) -> Vec<Option<Tensor<'t>>> {
///         vec![Some(tape.custom(Reverse, &[cotangent]))]
///     }
/// }
///
/// let tape = Tape::new();
/// tape.output("y", tape.custom(Reverse, &[tape.input("x", &[5])]));
/// assert!(tape.finish().is_ok());
/// ```
pub trait Operation: Debug + Send + Sync {
    /// What messages call it.
    fn name(&self) -> &'static str;

    /// The shape of the result for operands of these shapes, and the kernel that gives it: one input for each
    /// operand, one output.
    ///
    /// # Errors
    /// What does not fit, with the shapes.
    fn kernel(&self, operands: &[&[usize]]) -> Result<(Vec<usize>, Kernel), String>;

    /// The cotangent of each operand, in operations of the tape; `None` where there is none.
    fn vjp<'t>(
        &self,
        tape: &'t Tape,
        operands: &[Tensor<'t>],
        result: Tensor<'t>,
        cotangent: Tensor<'t>,
    ) -> Vec<Option<Tensor<'t>>>;
}

/// An [`Operation`] on a tape. Two are equal where they print alike under `{:?}`, which `derive(Debug)` sees
/// to.
#[derive(Debug, Clone)]
pub struct Custom(Arc<dyn Operation>);

impl Custom {
    fn printed(&self) -> String {
        format!("{} {:?}", self.0.name(), self.0)
    }

    pub(super) fn operation(&self) -> &dyn Operation {
        &*self.0
    }

    /// [`Operation::name`].
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// The kernel for operands of these shapes.
    ///
    /// # Errors
    /// What does not fit; none on a tape that was checked.
    pub fn kernel(&self, operands: &[&[usize]]) -> Result<Kernel, String> {
        Ok(self.0.kernel(operands)?.1)
    }

    /// Whether the kernel gives a result of this shape, and is one that can run.
    pub(super) fn check(&self, operands: &[&[usize]], shape: &[usize]) -> Result<bool, String> {
        let (gives, kernel) = self.0.kernel(operands)?;
        kernel.check().map_err(|error| error.to_string())?;
        let lens = |shapes: &[&[usize]]| shapes.iter().map(|s| s.iter().product()).collect::<Vec<usize>>();
        if kernel.input_lens() != lens(operands) || kernel.output_lens() != lens(&[shape]) {
            return Err(format!("{} does not read {operands:?} and write {shape:?}", kernel.name()));
        }
        Ok(gives == shape)
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.printed() == other.printed()
    }
}
impl Eq for Custom {}

impl Hash for Custom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.printed().hash(state);
    }
}

impl Tape {
    /// Records an operation that one kernel computes.
    ///
    /// # Errors
    /// [`Tape::finish`] says what the operation finds wrong with its operands.
    pub fn custom<'t>(&'t self, operation: impl Operation + 'static, operands: &[Tensor<'t>]) -> Tensor<'t> {
        let shapes: Vec<Vec<usize>> = operands.iter().map(Tensor::shape).collect();
        let views: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        match operation.kernel(&views) {
            Ok((shape, _)) => self.node(Op::Custom(Custom(Arc::new(operation))), operands, shape),
            Err(what) => self.poison(operation.name(), what, views.first().copied().unwrap_or_default()),
        }
    }
}
