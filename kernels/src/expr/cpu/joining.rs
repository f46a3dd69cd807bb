//! Instructions joined into passes, so that what only the next one reads is never stored.

use super::super::{Binary, Instr, Num, Reg, Unary};

/// What one pass over a block does: an instruction, or several of which all but the last are read by
/// the next alone and need not be stored. Each rounds as they would.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pass {
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
    /// a · (1 where (x − m) · s + c > 0, else slope), with the same along a row as above: the gradient of the
    /// activation.
    NormMask(Num, [Reg; 5]),
    /// a · k + (x − m) · s, and c added to that, where k, m, s and c are the same along a row: the gradient
    /// of a norm.
    NormGrad([Reg; 6]),
    /// Part of a later pass.
    Joined,
}

impl Pass {
    /// Registers read.
    pub(super) fn reads(&self) -> impl Iterator<Item = Reg> + use<> {
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

/// The passes of some code: instructions joined in pairs where the first varies along rows, is read once, and
/// is no output. The difference from what is the same along a row may be read more often: to compute it again
/// costs less than to store it.
pub(super) fn passes(code: &[Instr], by_row: &[bool], outputs: &[Reg]) -> Vec<Pass> {
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
