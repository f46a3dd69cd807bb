//! The CPU evaluator: straight-line code over a block of lanes at a time.
//!
//! A block is a few rows of lanes. Registers that are the same along a row are computed once for each row; the
//! others are blocks of [`LANES`] floats placed by linear scan, so that the live ones stay in the L1 cache. Operands
//! are read where they lie, and results are written straight to their output wherever no later instruction needs
//! what it held.

use super::{Binary, Expr, Instr, Num, Reg, Unary, math};
use crate::tile;
use multiversion::multiversion;

/// Elements evaluated by one pass over the code.
pub const LANES: usize = 1024;
/// Rows of one pass.
pub const ROWS: usize = 64;

/// Passes over a block during which the next one is fetched into the second-level cache; a single one ends before it arrives.
const AHEAD_PASSES: usize = 2;
/// Numbers in a cache line.
const LINE: usize = 16;

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

/// Where a register lives.
#[derive(Debug, Clone, Copy)]
enum Place {
    Const(f32),
    Operand(usize),
    Row(usize),
    Block(usize),
    Output(usize),
}

/// What one pass over a block does: an instruction, or several of which all but the last are read by
/// the next alone and need not be stored. Each rounds as they would.
#[derive(Debug, Clone, Copy)]
enum Pass {
    One(Instr),
    /// a · b + c
    MulAdd(Reg, Reg, Reg),
    /// (a − b) · c
    SubMul(Reg, Reg, Reg),
    /// a · (1 where m > 0, else slope)
    MaskMul(Num, Reg, Reg),
    /// Leaky ReLU of a + b.
    AddLeaky(Num, Reg, Reg),
    /// Leaky ReLU of (x − m) · s + c, where all but x are the same along a row: a norm and its activation.
    NormLeaky(Num, [Reg; 4]),
    /// a · (1 where (x − m) · s + c > 0, else slope), with the same along a row as above: the gradient of the activation.
    NormMask(Num, [Reg; 5]),
    /// a · k + (x − m) · s, and c added to that, where k, m, s and c are the same along a row: the gradient of a norm.
    NormGrad([Reg; 6]),
    /// Part of a later pass.
    Joined,
}

impl Pass {
    /// Registers read.
    fn reads(&self) -> impl Iterator<Item = Reg> + use<> {
        let (regs, count) = match *self {
            Pass::Joined => ([0; 6], 0),
            Pass::One(instr) => {
                let (mut regs, mut count) = ([0; 6], 0);
                for reg in instr.reads() {
                    regs[count] = reg;
                    count += 1;
                }
                (regs, count)
            }
            Pass::MaskMul(_, a, b) | Pass::AddLeaky(_, a, b) => ([a, b, 0, 0, 0, 0], 2),
            Pass::MulAdd(a, b, c) | Pass::SubMul(a, b, c) => ([a, b, c, 0, 0, 0], 3),
            Pass::NormLeaky(_, [x, m, s, c]) => ([x, m, s, c, 0, 0], 4),
            Pass::NormMask(_, [a, x, m, s, c]) => ([a, x, m, s, c, 0], 5),
            Pass::NormGrad(regs) => (regs, 6),
        };
        regs.into_iter().take(count)
    }
}

/// The passes of some code: instructions joined in pairs where the first varies along rows, is read once, and is no output. The
/// difference from what is the same along a row may be read more often: to compute it again costs less than to store it.
fn passes(code: &[Instr], by_row: &[bool], outputs: &[Reg]) -> Vec<Pass> {
    let mut passes: Vec<Pass> = code.iter().map(|&instr| Pass::One(instr)).collect();
    let mut uses = vec![0; code.len()];
    passes.iter().flat_map(Pass::reads).for_each(|reg| uses[reg] += 1);
    for i in 0..code.len() {
        // Where a register is read here alone: what makes it.
        let made = |reg: Reg| match passes[reg] {
            Pass::One(instr) if uses[reg] == 1 && !by_row[reg] && !outputs.contains(&reg) => Some(instr),
            _ => None,
        };
        let joined = match code[i] {
            Instr::Unary(Unary::LeakyRelu(slope), sum) => match made(sum) {
                Some(Instr::Binary(Binary::Add, a, b)) => Some((sum, Pass::AddLeaky(slope, a, b))),
                _ => None,
            },
            Instr::Binary(op @ (Binary::Add | Binary::Mul), a, b) => {
                let mut sides = [(a, b), (b, a)].into_iter();
                sides
                    .clone()
                    .find_map(|(first, other)| {
                        let pass = match (op, made(first)?) {
                            (Binary::Add, Instr::Binary(Binary::Mul, p, q)) => Pass::MulAdd(p, q, other),
                            (Binary::Mul, Instr::Binary(Binary::Sub, p, q)) => Pass::SubMul(p, q, other),
                            (Binary::Mul, Instr::Unary(Unary::LeakyMask(slope), mask)) => {
                                Pass::MaskMul(slope, other, mask)
                            }
                            _ => return None,
                        };
                        Some((first, pass))
                    })
                    .or_else(|| {
                        sides.find_map(|(first, other)| match (op, passes[first]) {
                            (Binary::Mul, Pass::One(Instr::Binary(Binary::Sub, p, q)))
                                if !by_row[p] && by_row[q] && !outputs.contains(&first) =>
                            {
                                Some((first, Pass::SubMul(p, q, other)))
                            }
                            _ => None,
                        })
                    })
            }
            _ => None,
        };
        if let Some((first, pass)) = joined {
            passes[i] = pass;
            uses[first] -= 1;
            if uses[first] == 0 {
                passes[first] = Pass::Joined;
            } else {
                // What it reads is read here as well.
                pass.reads()
                    .filter(|reg| passes[first].reads().any(|read| read == *reg))
                    .for_each(|reg| uses[reg] += 1);
            }
        }
    }
    join_norms(&mut passes, &uses, by_row, outputs);
    passes
}

/// Joins what norms and their gradients are made of.
fn join_norms(passes: &mut [Pass], uses: &[usize], by_row: &[bool], outputs: &[Reg]) {
    let alone = |reg: Reg| uses[reg] == 1 && !outputs.contains(&reg);
    for i in 0..passes.len() {
        let submul = |reg: Reg| match passes[reg] {
            Pass::SubMul(x, m, s) if alone(reg) && !by_row[x] && by_row[m] && by_row[s] => Some([x, m, s]),
            _ => None,
        };
        // A sum of two, the first of which is made here alone and the second the same along a row.
        let sides = |a: Reg, b: Reg| [(a, b), (b, a)].into_iter().filter(|&(_, c)| by_row[c]);
        let joined: Option<(Vec<Reg>, Pass)> = match passes[i] {
            Pass::One(Instr::Binary(Binary::Add, a, b)) => sides(a, b).find_map(|(sum, c)| {
                let Pass::MulAdd(p, q, norm) = passes[sum] else { return None };
                let (a, k) = [(p, q), (q, p)].into_iter().find(|&(a, k)| !by_row[a] && by_row[k])?;
                let [x, m, s] = submul(norm).filter(|_| alone(sum))?;
                Some((vec![sum, norm], Pass::NormGrad([a, k, x, m, s, c])))
            }),
            Pass::AddLeaky(slope, a, b) => sides(a, b).find_map(|(sum, c)| {
                submul(sum).map(|[x, m, s]| (vec![sum], Pass::NormLeaky(slope, [x, m, s, c])))
            }),
            Pass::MaskMul(slope, a, norm) => match passes[norm] {
                Pass::One(Instr::Binary(Binary::Add, p, q)) if alone(norm) && !by_row[a] => sides(p, q)
                    .find_map(|(sum, c)| {
                        submul(sum).map(|[x, m, s]| (vec![sum, norm], Pass::NormMask(slope, [a, x, m, s, c])))
                    }),
                _ => None,
            },
            _ => None,
        };
        if let Some((parts, pass)) = joined {
            parts.iter().for_each(|&part| passes[part] = Pass::Joined);
            passes[i] = pass;
        }
    }
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
    /// Prepares `expr` for operands of these kinds. With `store`, [`Evaluator::run`] writes `outputs` to buffers;
    /// without, they are kept for [`Evaluator::value`].
    pub fn new(expr: &Expr, kinds: &[Kind], outputs: &[Reg], store: bool) -> Self {
        let mut by_row = vec![true; expr.code.len()];
        for (i, instr) in expr.code.iter().enumerate() {
            by_row[i] = match *instr {
                Instr::Operand(o) => kinds[o] == Kind::Row,
                _ => instr.reads().all(|reg| by_row[reg]),
            };
        }
        let code = passes(&expr.code, &by_row, outputs);
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
        let passes = code.iter().zip(&places).filter(|(pass, place)| is_pass(pass, place)).count();
        let (kinds, outputs) = (kinds.to_vec(), outputs.to_vec());
        Self { code, kinds, places, outputs, store, row_registers, blocks, passes }
    }

    /// Elements of scratch that evaluation needs.
    pub fn scratch_len(&self) -> usize {
        (self.row_registers * ROWS + self.blocks * LANES).max(16)
    }

    /// Evaluates `rows ≤` [`ROWS`] rows of `lanes` lanes, together at most [`LANES`]. `outputs` are the blocks stored
    /// to (empty slice without `store`).
    #[inline]
    pub fn run(
        &self,
        (rows, lanes): (usize, usize),
        operands: &[Value<'_>],
        outputs: &mut [&mut [f32]],
        scratch: &mut [f32],
    ) {
        run_block(self, rows, lanes, operands, outputs, scratch);
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

/// Whether a pass goes over the block.
fn is_pass(pass: &Pass, place: &Place) -> bool {
    matches!(place, Place::Block(_) | Place::Output(_)) && !matches!(pass, Pass::One(Instr::Operand(_)))
}

/// Asks for the part of pass `pass` of what follows a block of `n` elements, where the next block mostly lies: memory then
/// works while arithmetic does.
#[inline(always)]
fn fetch_ahead(values: &[f32], n: usize, pass: usize, passes: usize) {
    let lines = n / LINE;
    for line in pass * lines / passes..(pass + 1) * lines / passes {
        tile::prefetch(values, n + LINE * line);
    }
}

/// One pass over the code. The only place where vector instructions of the machine are chosen.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn run_block(
    ev: &Evaluator,
    rows: usize,
    lanes: usize,
    operands: &[Value<'_>],
    outputs: &mut [&mut [f32]],
    scratch: &mut [f32],
) {
    let n = rows * lanes;
    let (row_registers, blocks) = scratch.split_at_mut(ev.row_registers * ROWS);
    let mut passed = 0;
    for (i, pass) in ev.code.iter().enumerate() {
        if ev.passes >= AHEAD_PASSES && is_pass(pass, &ev.places[i]) {
            for operand in operands {
                if let Value::Lanes(values) = operand {
                    fetch_ahead(values, n, passed, ev.passes);
                }
            }
            for values in outputs.iter() {
                fetch_ahead(values, n, passed, ev.passes);
            }
            passed += 1;
        }
        // One call for every place: `apply` is inlined, and a second copy of its loops would only be compiled again.
        let mut taken: &mut [f32] = &mut [];
        let (dst, lanes, registers) = match ev.places[i] {
            Place::Const(_) | Place::Operand(_) => continue,
            Place::Output(_) if matches!(pass, Pass::One(Instr::Operand(_))) => continue,
            Place::Row(row) => {
                let (done, rest) = row_registers.split_at_mut(row * ROWS);
                let registers = Registers {
                    operands,
                    outputs,
                    rows,
                    along_rows: true,
                    row: done,
                    below: blocks,
                    above: &[],
                };
                (&mut rest[..rows], rows, registers)
            }
            Place::Output(o) => {
                // Taken out while it is written, so that the other outputs can be read beside it.
                taken = std::mem::take(&mut outputs[o]);
                let row = &*row_registers;
                let registers =
                    Registers { operands, outputs, rows, along_rows: false, row, below: blocks, above: &[] };
                (&mut taken[..n], lanes, registers)
            }
            Place::Block(b) => {
                let (below, rest) = blocks.split_at_mut(b * LANES);
                let (block, above) = rest.split_at_mut(LANES);
                if let Pass::One(Instr::Operand(o)) = *pass
                    && let Kind::Output(out) = ev.kinds[o]
                {
                    block[..n].copy_from_slice(&outputs[out][..n]);
                }
                let row = &*row_registers;
                let registers = Registers { operands, outputs, rows, along_rows: false, row, below, above };
                (&mut block[..n], lanes, registers)
            }
        };
        apply(pass, dst, lanes, |reg| registers.get(ev.places[reg]));
        if let Place::Output(o) = ev.places[i] {
            outputs[o] = taken;
        }
    }
    if !ev.store {
        return;
    }
    for (o, &reg) in ev.outputs.iter().enumerate() {
        let value = match ev.places[reg] {
            Place::Output(p) if p == o => continue,
            Place::Const(c) => Value::Uniform(c),
            Place::Row(r) => row_value(&row_registers[r * ROWS..], rows),
            Place::Operand(i) => operands[i],
            Place::Output(_) => Value::Uniform(f32::NAN), // filled in below, where the borrow ends
            Place::Block(b) => Value::Lanes(&blocks[b * LANES..][..LANES]),
        };
        let out = std::mem::take(&mut outputs[o]);
        match (ev.places[reg], value) {
            (Place::Output(p), _) => out[..n].copy_from_slice(&outputs[p][..n]),
            (_, Value::Uniform(v)) => out[..n].fill(v),
            (_, Value::Rows(v)) => out[..n].chunks_exact_mut(lanes).zip(v).for_each(|(row, v)| row.fill(*v)),
            (_, Value::Lanes(v)) => out[..n].copy_from_slice(&v[..n]),
        }
        outputs[o] = out;
    }
}

/// What a pass can read: all but what it writes.
struct Registers<'a> {
    operands: &'a [Value<'a>],
    outputs: &'a [&'a mut [f32]],
    rows: usize,
    /// Rows are the lanes of the pass, and every source is one value or one for each row.
    along_rows: bool,
    row: &'a [f32],
    /// Blocks before the one that is written, and behind it.
    below: &'a [f32],
    above: &'a [f32],
}

impl<'a> Registers<'a> {
    #[inline(always)]
    fn get(&self, place: Place) -> Value<'a> {
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
fn row_value(register: &[f32], rows: usize) -> Value<'_> {
    if rows == 1 { Value::Uniform(register[0]) } else { Value::Rows(&register[..rows]) }
}

/// What a row sees of a value.
#[derive(Clone, Copy)]
enum Part<'a> {
    One(f32),
    Lanes(&'a [f32]),
}

/// Length of the rows to go by: that of the block where no value is the same along rows only.
#[inline(always)]
fn row_len<const N: usize>(len: usize, lanes: usize, values: &[Value<'_>; N]) -> usize {
    if values.iter().any(|value| matches!(value, Value::Rows(_))) { lanes } else { len.max(1) }
}

/// What row `r` of `lanes` sees of each value.
#[inline(always)]
fn parts<'a, const N: usize>(values: &[Value<'a>; N], r: usize, lanes: usize) -> [Part<'a>; N] {
    let mut parts = [Part::One(0.0); N];
    for (part, value) in parts.iter_mut().zip(values) {
        *part = match *value {
            Value::Uniform(v) => Part::One(v),
            Value::Rows(v) => Part::One(v[r]),
            Value::Lanes(v) => Part::Lanes(&v[r * lanes..][..lanes]),
        };
    }
    parts
}

// Loops over rows stand in each of these functions: a closure around the arithmetic would be compiled without the machine's
// vector instructions wherever it is too large to be inlined.

#[inline(always)]
fn map(dst: &mut [f32], lanes: usize, a: Value<'_>, f: impl Fn(f32) -> f32) {
    let lanes = row_len(dst.len(), lanes, &[a]);
    for (r, dst) in dst.chunks_exact_mut(lanes).enumerate() {
        match parts(&[a], r, lanes) {
            [Part::One(a)] => dst.fill(f(a)),
            [Part::Lanes(a)] => {
                for (d, &a) in dst.iter_mut().zip(a) {
                    *d = f(a);
                }
            }
        }
    }
}

#[inline(always)]
fn map2(dst: &mut [f32], lanes: usize, a: Value<'_>, b: Value<'_>, f: impl Fn(f32, f32) -> f32) {
    match (a, b) {
        // Rows of a convolution's epilogue may be short: nothing is decided anew for each.
        (Value::Lanes(a), Value::Rows(b)) => {
            for ((dst, a), &b) in dst.chunks_exact_mut(lanes).zip(a.chunks_exact(lanes)).zip(b) {
                for (d, &a) in dst.iter_mut().zip(a) {
                    *d = f(a, b);
                }
            }
        }
        (Value::Rows(a), Value::Lanes(b)) => {
            for ((dst, &a), b) in dst.chunks_exact_mut(lanes).zip(a).zip(b.chunks_exact(lanes)) {
                for (d, &b) in dst.iter_mut().zip(b) {
                    *d = f(a, b);
                }
            }
        }
        _ => {
            let lanes = row_len(dst.len(), lanes, &[a, b]);
            for (r, dst) in dst.chunks_exact_mut(lanes).enumerate() {
                pairs(dst, parts(&[a, b], r, lanes), &f);
            }
        }
    }
}

#[inline(always)]
fn pairs(dst: &mut [f32], parts: [Part<'_>; 2], f: impl Fn(f32, f32) -> f32) {
    match parts {
        [Part::One(a), Part::One(b)] => dst.fill(f(a, b)),
        [Part::One(a), Part::Lanes(b)] => {
            for (d, &b) in dst.iter_mut().zip(b) {
                *d = f(a, b);
            }
        }
        [Part::Lanes(a), Part::One(b)] => {
            for (d, &a) in dst.iter_mut().zip(a) {
                *d = f(a, b);
            }
        }
        [Part::Lanes(a), Part::Lanes(b)] => {
            for ((d, &a), &b) in dst.iter_mut().zip(a).zip(b) {
                *d = f(a, b);
            }
        }
    }
}

#[inline(always)]
fn map3(dst: &mut [f32], lanes: usize, values: [Value<'_>; 3], f: impl Fn(f32, f32, f32) -> f32) {
    let lanes = row_len(dst.len(), lanes, &values);
    for (r, dst) in dst.chunks_exact_mut(lanes).enumerate() {
        match parts(&values, r, lanes) {
            [Part::One(a), b, c] => pairs(dst, [b, c], |b, c| f(a, b, c)),
            [a, Part::One(b), c] => pairs(dst, [a, c], |a, c| f(a, b, c)),
            [a, b, Part::One(c)] => pairs(dst, [a, b], |a, b| f(a, b, c)),
            [Part::Lanes(a), Part::Lanes(b), Part::Lanes(c)] => {
                for (((d, &a), &b), &c) in dst.iter_mut().zip(a).zip(b).zip(c) {
                    *d = f(a, b, c);
                }
            }
        }
    }
}

/// Row by row, `f` of the row's part of each value: all lanes, or one number.
#[inline(always)]
fn by_rows<const N: usize>(
    dst: &mut [f32],
    lanes: usize,
    values: [Value<'_>; N],
    f: impl Fn(&mut [f32], [&[f32]; N]),
) {
    for (r, dst) in dst.chunks_exact_mut(lanes).enumerate() {
        let mut parts: [&[f32]; N] = [&[]; N];
        for (part, value) in parts.iter_mut().zip(&values) {
            *part = match value {
                Value::Uniform(v) => std::slice::from_ref(v),
                Value::Rows(v) => &v[r..r + 1],
                Value::Lanes(v) => &v[r * lanes..][..lanes],
            };
        }
        f(dst, parts);
    }
}

#[inline(always)]
fn truth(is: bool) -> f32 {
    if is { 1.0 } else { 0.0 }
}

/// Runs a pass over `dst`, rows of `lanes`.
#[inline(always)]
fn apply<'a>(pass: &Pass, dst: &mut [f32], lanes: usize, get: impl Fn(Reg) -> Value<'a>) {
    let instr = match *pass {
        Pass::Joined => return,
        Pass::One(instr) => instr,
        Pass::MulAdd(a, b, c) => return map3(dst, lanes, [get(a), get(b), get(c)], |a, b, c| a * b + c),
        Pass::SubMul(a, b, c) => return map3(dst, lanes, [get(a), get(b), get(c)], |a, b, c| (a - b) * c),
        Pass::MaskMul(s, a, mask) => {
            return map2(dst, lanes, get(a), get(mask), |a, mask| a * if mask > 0.0 { 1.0 } else { s.0 });
        }
        Pass::AddLeaky(s, a, b) => {
            return map2(dst, lanes, get(a), get(b), |a, b| {
                let sum = a + b;
                if sum > 0.0 { sum } else { s.0 * sum }
            });
        }
        Pass::NormLeaky(slope, regs) => {
            return by_rows(dst, lanes, regs.map(get), |dst, [x, m, s, c]| {
                let (m, s, c) = (m[0], s[0], c[0]);
                for (d, &x) in dst.iter_mut().zip(x) {
                    let sum = (x - m) * s + c;
                    *d = if sum > 0.0 { sum } else { slope.0 * sum };
                }
            });
        }
        Pass::NormMask(slope, regs) => {
            return by_rows(dst, lanes, regs.map(get), |dst, [a, x, m, s, c]| {
                let (m, s, c) = (m[0], s[0], c[0]);
                for ((d, &a), &x) in dst.iter_mut().zip(a).zip(x) {
                    let sum = (x - m) * s + c;
                    *d = a * if sum > 0.0 { 1.0 } else { slope.0 };
                }
            });
        }
        Pass::NormGrad(regs) => {
            return by_rows(dst, lanes, regs.map(get), |dst, [a, k, x, m, s, c]| {
                let (k, m, s, c) = (k[0], m[0], s[0], c[0]);
                for ((d, &a), &x) in dst.iter_mut().zip(a).zip(x) {
                    *d = a * k + (x - m) * s + c;
                }
            });
        }
    };
    match instr {
        Instr::Operand(_) | Instr::Const(_) => {}
        Instr::Unary(op, a) => {
            let a = get(a);
            match op {
                Unary::Neg => map(dst, lanes, a, |x| -x),
                Unary::Recip => map(dst, lanes, a, |x| 1.0 / x),
                Unary::Exp => map(dst, lanes, a, math::exp),
                Unary::Log => map(dst, lanes, a, math::log),
                Unary::Sqrt => map(dst, lanes, a, f32::sqrt),
                Unary::Abs => map(dst, lanes, a, f32::abs),
                Unary::Sign => map(dst, lanes, a, |x| truth(x > 0.0) - truth(x < 0.0)),
                Unary::Square => map(dst, lanes, a, |x| x * x),
                Unary::Relu => map(dst, lanes, a, |x| if x < 0.0 { 0.0 } else { x }),
                Unary::LeakyRelu(s) => map(dst, lanes, a, |x| if x > 0.0 { x } else { s.0 * x }),
                Unary::LeakyMask(s) => map(dst, lanes, a, |x| if x > 0.0 { 1.0 } else { s.0 }),
                Unary::Tanh => map(dst, lanes, a, math::tanh),
                Unary::Sigmoid => map(dst, lanes, a, math::sigmoid),
                Unary::Softplus => map(dst, lanes, a, math::softplus),
                Unary::Affine(k, c) => map(dst, lanes, a, |x| x.mul_add(k.0, c.0)),
                Unary::Clamp(low, high) => map(dst, lanes, a, |x| math::clamp(x, low.0, high.0)),
                Unary::ClampMask(low, high) => map(dst, lanes, a, |x| truth(x >= low.0 && x <= high.0)),
                Unary::Step => map(dst, lanes, a, |x| truth(x > 0.0)),
            }
        }
        Instr::Binary(op, a, b) => {
            let (a, b) = (get(a), get(b));
            match op {
                Binary::Add => map2(dst, lanes, a, b, |a, b| a + b),
                Binary::Sub => map2(dst, lanes, a, b, |a, b| a - b),
                Binary::Mul => map2(dst, lanes, a, b, |a, b| a * b),
                Binary::Div => map2(dst, lanes, a, b, |a, b| a / b),
                Binary::Max => map2(dst, lanes, a, b, math::max),
                Binary::Min => map2(dst, lanes, a, b, math::min),
                Binary::Pow => map2(dst, lanes, a, b, f32::powf),
                Binary::Greater => map2(dst, lanes, a, b, |a, b| truth(a > b)),
                Binary::Equal => map2(dst, lanes, a, b, |a, b| truth(a == b)),
            }
        }
        Instr::Select(condition, a, b) => {
            let values = [get(condition), get(a), get(b)];
            map3(dst, lanes, values, |condition, a, b| if condition == 0.0 { b } else { a });
        }
    }
}
