//! The CPU evaluator: straight-line code over a block of lanes at a time.
//!
//! A block is a few rows of lanes. Registers that are the same along a row are computed once for each row;
//! the others are blocks of [`LANES`] floats placed by linear scan, so that the live ones stay in the L1
//! cache. Operands are read where they lie, and results are written straight to their output wherever no
//! later instruction needs what it held.

mod joining;
mod registers;
mod running;

use super::{Expr, Instr, Reg};
use joining::{Pass, passes};
use registers::{Place, is_pass, places};

/// Elements evaluated by one pass over the code.
pub const LANES: usize = 1024;
/// Rows of one pass.
pub const ROWS: usize = 64;

/// How an operand of the expression varies along a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same for all lanes of a row.
    Row,
    /// One value for each lane.
    Lanes,
    /// What output `i` holds before it is written.
    Output(usize),
}

/// An operand or register over one block.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// The same in every lane of every row.
    Uniform(f32),
    /// The same in every lane of a row; at least as many values as the block has rows.
    Rows(&'a [f32]),
    /// Row-major, at least as many values as the block has elements.
    Lanes(&'a [f32]),
}

/// An expression prepared for evaluation over blocks.
#[derive(Debug, Clone)]
pub struct Evaluator {
    code: Vec<Pass>,
    kinds: Vec<Kind>,
    places: Vec<Place>,
    outputs: Vec<Reg>,
    store: bool,
    row_registers: usize,
    blocks: usize,
    /// Instructions that go over whole blocks.
    passes: usize,
}

impl Evaluator {
    /// Prepares `expr` for operands of these kinds. With `store`, [`Evaluator::run`] writes `outputs` to
    /// buffers; without, they are kept for [`Evaluator::value`].
    pub fn new(expr: &Expr, kinds: &[Kind], outputs: &[Reg], store: bool) -> Self {
        let mut by_row = vec![true; expr.code.len()];
        for (i, instr) in expr.code.iter().enumerate() {
            by_row[i] = match *instr {
                Instr::Operand(o) => kinds[o] == Kind::Row,
                _ => instr.reads().all(|reg| by_row[reg]),
            };
        }
        let code = passes(&expr.code, &by_row, outputs);
        let (places, row_registers, blocks) = places(&code, kinds, &by_row, outputs, store);
        let passes = code.iter().zip(&places).filter(|(pass, place)| is_pass(pass, place)).count();
        let (kinds, outputs) = (kinds.to_vec(), outputs.to_vec());
        Self { code, kinds, places, outputs, store, row_registers, blocks, passes }
    }

    /// Elements of scratch that evaluation needs.
    pub fn scratch_len(&self) -> usize {
        (self.row_registers * ROWS + self.blocks * LANES).max(16)
    }

    /// Evaluates `rows ≤` [`ROWS`] rows of `lanes` lanes, together at most [`LANES`]. `outputs` are the
    /// blocks stored to (empty slice without `store`).
    #[inline]
    pub fn run(
        &self,
        (rows, lanes): (usize, usize),
        operands: &[Value<'_>],
        outputs: &mut [&mut [f32]],
        scratch: &mut [f32],
    ) {
        running::run_block(self, rows, lanes, operands, outputs, scratch);
    }

    /// Output `o` of the last [`Evaluator::run`] without `store`.
    pub fn value<'a>(&self, o: usize, operands: &[Value<'a>], scratch: &'a [f32]) -> Value<'a> {
        match self.places[self.outputs[o]] {
            Place::Const(c) => Value::Uniform(c),
            Place::Operand(i) => operands[i],
            Place::Row(r) => Value::Rows(&scratch[r * ROWS..][..ROWS]),
            Place::Block(b) => Value::Lanes(&scratch[self.row_registers * ROWS + b * LANES..][..LANES]),
            Place::Output(_) => Value::Uniform(f32::NAN), // only made with `store`
        }
    }
}
