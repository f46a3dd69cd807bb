//! The fused tail on the CPU: applied to outputs while they are in cache.

use super::{Epilogue, Spread};
use crate::expr::{Evaluator, Kind, LANES, ROWS, Value};
use crate::tile::ALIGN;

/// Where the channels of a block of outputs lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels {
    /// Each row is of one channel.
    Rows,
    /// Each column is of one channel.
    Columns,
}

/// An epilogue prepared for blocks of outputs.
#[derive(Debug)]
pub(crate) struct Tail {
    evaluator: Option<Evaluator>,
    spreads: Vec<Spread>,
    channels: Channels,
}

impl Epilogue {
    /// Prepares the epilogue for outputs whose channels lie so.
    pub(crate) fn tail(&self, channels: Channels) -> Tail {
        let kind = |spread: &Spread| match (spread, channels) {
            (Spread::Scalar, _) | (Spread::Channel, Channels::Rows) => Kind::Row,
            (Spread::Full, _) | (Spread::Channel, Channels::Columns) => Kind::Lanes,
        };
        let kinds: Vec<Kind> =
            std::iter::once(Kind::Output(0)).chain(self.operands.iter().map(kind)).collect();
        let evaluator =
            self.expr.code.len().checked_sub(1).map(|last| Evaluator::new(&self.expr, &kinds, &[last], true));
        Tail { evaluator, spreads: self.operands.clone(), channels }
    }
}

impl Tail {
    /// Elements of scratch that [`Tail::apply`] needs, in whole cache lines.
    pub(crate) fn scratch_len(&self) -> usize {
        self.evaluator.as_ref().map_or(0, |e| e.scratch_len().next_multiple_of(ALIGN))
    }

    /// Replaces the sums in `out`, rows of `lanes` that begin at element `start` of the output and at channel
    /// `channel`, by what is stored.
    pub(crate) fn apply(
        &self,
        out: &mut [f32],
        lanes: usize,
        operands: &[&[f32]],
        start: usize,
        channel: usize,
        scratch: &mut [f32],
    ) {
        let Some(evaluator) = &self.evaluator else { return };
        // Several short rows together, where an operand may have a value for each.
        let rows = if self.channels == Channels::Rows { (LANES / lanes).clamp(1, ROWS) } else { 1 };
        for (block, out) in out.chunks_mut(rows * lanes).enumerate() {
            let (row, start) = (block * rows, start + block * rows * lanes);
            for (part, out) in out.chunks_mut(LANES).enumerate() {
                let (column, start) = (part * LANES, start + part * LANES);
                let rows = out.len().div_ceil(lanes);
                let mut values = [Value::Uniform(0.0); 1 + Epilogue::MAX_OPERANDS];
                for ((value, spread), operand) in values[1..].iter_mut().zip(&self.spreads).zip(operands) {
                    *value = match (spread, self.channels) {
                        (Spread::Scalar, _) => Value::Uniform(operand[0]),
                        (Spread::Full, _) => Value::Lanes(&operand[start..start + out.len()]),
                        (Spread::Channel, Channels::Rows) if rows == 1 => {
                            Value::Uniform(operand[channel + row])
                        }
                        (Spread::Channel, Channels::Rows) => Value::Rows(&operand[channel + row..][..rows]),
                        (Spread::Channel, Channels::Columns) => {
                            Value::Lanes(&operand[channel + column..][..out.len()])
                        }
                    };
                }
                let shape = if rows == 1 { (1, out.len()) } else { (rows, lanes) };
                evaluator.run(shape, &values[..=self.spreads.len()], &mut [out], scratch);
            }
        }
    }
}
