//! Where registers live: the same along a row once for each row, the others in blocks placed by linear scan,
//! or in the output that they are stored to.

use super::super::{Instr, Reg};
use super::joining::Pass;
use super::{Kind, LANES, ROWS, Value};

/// Where a register lives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Const(f32),
    Operand(usize),
    Row(usize),
    Block(usize),
    Output(usize),
}

/// The place of each register, the number of row registers, and the number of blocks. `by_row` tells what is
/// the same along a row; with `store`, results are written straight to their output where no later
/// instruction needs what it held.
pub(super) fn places(
    code: &[Pass],
    kinds: &[Kind],
    by_row: &[bool],
    outputs: &[Reg],
    store: bool,
) -> (Vec<Place>, usize, usize) {
    let mut last_use: Vec<usize> = (0..code.len()).collect();
    for (i, pass) in code.iter().enumerate() {
        pass.reads().for_each(|reg| last_use[reg] = i);
    }
    // The last instruction that reads what each output held before.
    let mut held_until = vec![None; outputs.len()];
    for (i, pass) in code.iter().enumerate() {
        if let Pass::One(Instr::Operand(o)) = *pass
            && let Kind::Output(out) = kinds[o]
        {
            held_until[out] = held_until[out].max(Some(last_use[i]));
        }
    }
    let mut places = Vec::with_capacity(code.len());
    let (mut row_registers, mut blocks) = (0, 0);
    let (mut free, mut dying) = (Vec::new(), vec![Vec::new(); code.len()]);
    for (i, pass) in code.iter().enumerate() {
        let mut block = || {
            let block = free.pop().unwrap_or_else(|| {
                blocks += 1;
                blocks - 1
            });
            if !outputs.contains(&i) {
                dying[last_use[i]].push(block);
            }
            Place::Block(block)
        };
        let place = match *pass {
            Pass::Joined => Place::Const(f32::NAN), // never read
            Pass::One(Instr::Const(c)) => Place::Const(c.0),
            Pass::One(Instr::Operand(o)) => match kinds[o] {
                // Kept aside where another output takes it: the two may trade places.
                Kind::Output(out) if (0..outputs.len()).any(|p| p != out && outputs[p] == i) => block(),
                Kind::Output(out) => Place::Output(out),
                Kind::Row | Kind::Lanes => Place::Operand(o),
            },
            _ if by_row[i] => {
                row_registers += 1;
                Place::Row(row_registers - 1)
            }
            _ => {
                let direct = |&out: &usize| store && outputs[out] == i && held_until[out] < Some(i);
                (0..outputs.len()).find(direct).map_or_else(block, Place::Output)
            }
        };
        places.push(place);
        // Freed only now: an instruction never writes the block that it reads.
        free.append(&mut dying[i]);
    }
    (places, row_registers, blocks)
}

/// Whether a pass goes over the block.
pub(super) fn is_pass(pass: &Pass, place: &Place) -> bool {
    matches!(place, Place::Block(_) | Place::Output(_)) && !matches!(pass, Pass::One(Instr::Operand(_)))
}

/// What a pass can read: all but what it writes.
pub(super) struct Registers<'a> {
    pub(super) operands: &'a [Value<'a>],
    pub(super) outputs: &'a [&'a mut [f32]],
    pub(super) rows: usize,
    /// Rows are the lanes of the pass, and every source is one value or one for each row.
    pub(super) along_rows: bool,
    pub(super) row: &'a [f32],
    /// Blocks before the one that is written, and behind it.
    pub(super) below: &'a [f32],
    pub(super) above: &'a [f32],
}

impl<'a> Registers<'a> {
    #[inline(always)]
    pub(super) fn get(&self, place: Place) -> Value<'a> {
        match place {
            Place::Const(c) => Value::Uniform(c),
            Place::Row(r) if self.along_rows => Value::Lanes(&self.row[r * ROWS..][..self.rows]),
            Place::Row(r) => row_value(&self.row[r * ROWS..], self.rows),
            Place::Operand(o) => match self.operands[o] {
                Value::Rows(v) if self.along_rows => Value::Lanes(&v[..self.rows]),
                value => value,
            },
            Place::Output(o) => Value::Lanes(&*self.outputs[o]),
            Place::Block(b) => {
                let at = b * LANES;
                let block = match at.checked_sub(self.below.len()) {
                    None => &self.below[at..],
                    Some(behind) => &self.above[behind - LANES..],
                };
                Value::Lanes(&block[..LANES])
            }
        }
    }
}

/// A row register of a block; one row is a scalar.
#[inline(always)]
pub(super) fn row_value(register: &[f32], rows: usize) -> Value<'_> {
    if rows == 1 { Value::Uniform(register[0]) } else { Value::Rows(&register[..rows]) }
}
