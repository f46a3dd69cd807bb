//! Reading AMD's assembly as RADV prints it: blocks that begin with `BBn:`, branches that name them.

use std::collections::HashMap;

/// Instructions of one loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loop {
    /// Vector instructions.
    pub valu: u32,
    /// Of them, fused or plain multiply-adds; the halves of a dual-issue pair count one each.
    pub fma: u32,
    /// Of those, packed ones of two halves each.
    pub packed: u32,
}

impl Loop {
    /// Multiply-adds of all vector instructions, 0 to 1.
    pub fn fma_share(&self) -> f64 {
        f64::from(self.fma) / f64::from(self.valu.max(1))
    }
}

const MULTIPLY_ADDS: [&str; 5] = ["v_fma", "v_mac_f", "v_mad_f", "v_pk_fma", "v_dual_fma"];

fn is_multiply_add(name: &str) -> bool {
    MULTIPLY_ADDS.iter().any(|known| name.starts_with(known))
}

/// A line of the listing without its encoding, which follows a `;`.
enum Line<'a> {
    Label(&'a str),
    Instruction(&'a str),
}

fn lines(assembly: &str) -> impl Iterator<Item = Line<'_>> {
    assembly.lines().filter_map(|line| {
        let line = line.split(';').next().unwrap_or("").trim();
        match line.strip_suffix(':') {
            Some(label) => Some(Line::Label(label)),
            None if line.is_empty() => None,
            None => Some(Line::Instruction(line)),
        }
    })
}

/// The innermost loop with the most multiply-adds, `None` where no loop has one. Loops are what lies between
/// a label and the last branch back to it; one that contains another is not innermost.
pub fn hottest_loop(assembly: &str) -> Option<Loop> {
    let mut labels: HashMap<&str, usize> = HashMap::new();
    let mut instructions: Vec<&str> = Vec::new();
    let mut loops: Vec<(usize, usize)> = Vec::new();
    for line in lines(assembly) {
        match line {
            Line::Label(label) => {
                labels.insert(label, instructions.len());
            }
            Line::Instruction(text) => {
                instructions.push(text);
                let mut words = text.split_whitespace();
                let name = words.next().unwrap_or("");
                let jumps = name.starts_with("s_branch") || name.starts_with("s_cbranch");
                if let Some(&start) = words.next().filter(|_| jumps).and_then(|target| labels.get(target)) {
                    loops.retain(|&(other, _)| other != start);
                    loops.push((start, instructions.len()));
                }
            }
        }
    }
    let holds_another = |&(start, end): &(usize, usize)| {
        loops.iter().any(|&(a, b)| (a, b) != (start, end) && start <= a && b <= end)
    };
    let count = |&(start, end): &(usize, usize)| {
        let mut counted = Loop::default();
        // A dual-issue line of RDNA3 holds two instructions with `::` between.
        for text in instructions[start..end].iter().flat_map(|line| line.split("::")) {
            let name = text.split_whitespace().next().unwrap_or("");
            counted.valu += u32::from(name.starts_with("v_"));
            counted.fma += u32::from(is_multiply_add(name));
            counted.packed += u32::from(name.starts_with("v_pk_fma"));
        }
        counted
    };
    loops.iter().filter(|l| !holds_another(l)).map(count).filter(|l| l.fma > 0).max_by_key(|l| l.fma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_loop_with_most_multiply_adds_is_counted() {
        let assembly = "BB0:
\tv_mov_b32_e32 v0, 0 ; 7e000280
BB1:
\tv_fma_f32 v1, v2, v3, v1 ; d54b0001
BB2:
\tv_fmac_f32_e32 v1, v2, v3 ; 56020702
\tv_dual_fmac_f32 v1, v2, v3 :: v_dual_mov_b32 v4, v5
\tds_read_b128 v[0:3], v9
\ts_cbranch_scc1 BB3
\tv_add_nc_u32_e32 v1, 1, v1
\ts_cbranch_scc0 BB2
BB3:
\ts_cbranch_vccnz BB1
\ts_endpgm
";
        assert_eq!(hottest_loop(assembly), Some(Loop { valu: 4, fma: 2, packed: 0 }));
        assert_eq!(hottest_loop("BB0:\n\tv_fma_f32 v1, v2, v3, v1\n\ts_endpgm\n"), None);
    }
}
