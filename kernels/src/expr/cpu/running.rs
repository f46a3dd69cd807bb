//! The passes over a block: loops that the compiler turns into vector instructions.

use super::super::{Binary, Instr, Reg, Unary, math};
use super::joining::Pass;
use super::registers::{Place, Registers, is_pass, row_value};
use super::{Evaluator, Kind, LANES, ROWS, Value};
use crate::tile;
use multiversion::multiversion;

/// Passes over a block during which the next one is fetched into the second-level cache; a single one ends
/// before it arrives.
const AHEAD_PASSES: usize = 2;
/// Numbers in a cache line.
const LINE: usize = 16;

/// Asks for the part of pass `pass` of what follows a block of `n` elements, where the next block mostly
/// lies: memory then works while arithmetic does.
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
pub(super) fn run_block(
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
        // One call for every place: `apply` is inlined, and a second copy of its loops would only be compiled
        // again.
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

// Loops over rows stand in each of these functions: a closure around the arithmetic would be compiled without
// the machine's vector instructions wherever it is too large to be inlined.

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
