//! Tiles of AMX: eight registers of 16 rows of 64 bytes, and one instruction that multiplies two of them onto
//! a third. The compiler has no stable functions for them, so they stand here as instructions.
//!
//! Registers 0 to 3 hold the sums of 32 × 32 outputs, 4 and 5 two blocks of 16 rows of the first operand, 6
//! and 7 both halves of a panel.

use std::arch::asm;

use super::super::LANES;

/// Rows of a register.
const ROWS: usize = 16;
/// Inner indices that a register holds of each row.
const DEPTH: usize = 32;

/// Whether the processor has the instructions and the system lets this process use them. Asks it to, once.
pub(super) fn available() -> bool {
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
    features & (TILE | BF16) == TILE | BF16 && permitted()
}

/// Asks the kernel for the state that the registers need, for all threads (Linux 5.16 and later).
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Sums and first operands of `first` rows and of `second` rows, at most [`ROWS`].
    fn new(first: usize, second: usize) -> Self {
        let (f, s, all) = (first as u8, second as u8, ROWS as u8);
        let mut rows = [0; 16];
        rows[..8].copy_from_slice(&[f, f, s, s, f, s, all, all]);
        Self { palette: 1, start: 0, reserved: [0; 14], row_bytes: rows.map(|r| 64 * u16::from(r > 0)), rows }
    }

    /// # Safety
    /// The machine has AMX.
    unsafe fn load(&self) {
        // SAFETY: reads 64 bytes, the size of a `Config`.
        unsafe { asm!("ldtilecfg [{}]", in(reg) std::ptr::from_ref(self), options(nostack, readonly)) };
    }
}

/// [`super::product`].
///
/// # Safety
/// [`available`] said yes, and the slices reach as far as rows, depth and distances say.
pub(super) unsafe fn product(
    rows: usize,
    depth: usize,
    a: &[u16],
    pitch: usize,
    b: &[u32],
    c: &mut [f32],
    ldc: usize,
    add: bool,
) {
    let mut configured = (0, 0);
    for row in (0..rows).step_by(2 * ROWS) {
        let first = ROWS.min(rows - row);
        let second = ROWS.min(rows - row - first);
        // SAFETY: by the caller's promise; 32 rows from `row` on are `first` and `second` many.
        unsafe {
            if configured != (first, second) {
                Config::new(first, second).load();
                configured = (first, second);
            }
            let (a, c) = (a.as_ptr().add(row * pitch), c.as_mut_ptr().add(row * ldc));
            block(second > 0, depth, a, pitch, b.as_ptr(), c, ldc, add);
        }
    }
    // SAFETY: by the caller's promise. Registers in use would make every switch of threads slower.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Up to 32 rows of sums.
///
/// # Safety
/// As for [`product`]; the configuration is that of the rows, and `a` and `c` point at the first of them.
#[allow(clippy::too_many_arguments, reason = "a product of two operands with their distances")]
unsafe fn block(
    both: bool,
    depth: usize,
    a: *const u16,
    pitch: usize,
    b: *const u32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    let (a_step, b_step, c_step) = (2 * pitch, 4 * LANES, 4 * ldc);
    // SAFETY: registers are those of `Config::new`: each load and store touches as many rows as the caller
    // says there are, of 64 bytes each.
    unsafe {
        let halves = [c, c.add(LANES / 2)];
        let lower = halves.map(|c| c.add(ROWS * ldc));
        if add {
            asm!("tileloadd tmm0, [{} + {} * 1]", in(reg) halves[0], in(reg) c_step, options(nostack, readonly));
            asm!("tileloadd tmm1, [{} + {} * 1]", in(reg) halves[1], in(reg) c_step, options(nostack, readonly));
            if both {
                asm!("tileloadd tmm2, [{} + {} * 1]", in(reg) lower[0], in(reg) c_step, options(nostack, readonly));
                asm!("tileloadd tmm3, [{} + {} * 1]", in(reg) lower[1], in(reg) c_step, options(nostack, readonly));
            }
        } else {
            asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem));
            if both {
                asm!("tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
            }
        }
        for k in (0..depth).step_by(DEPTH) {
            let (a, b) = (a.add(k), b.add(k / 2 * LANES));
            if both {
                asm!(
                    "tileloadd tmm4, [{a0} + {a_step} * 1]",
                    "tileloadd tmm6, [{b0} + {b_step} * 1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b1} + {b_step} * 1]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {a_step} * 1]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    a0 = in(reg) a,
                    a1 = in(reg) a.add(ROWS * pitch),
                    b0 = in(reg) b,
                    b1 = in(reg) b.add(LANES / 2),
                    a_step = in(reg) a_step,
                    b_step = in(reg) b_step,
                    options(nostack, readonly)
                );
            } else {
                asm!(
                    "tileloadd tmm4, [{a} + {a_step} * 1]",
                    "tileloadd tmm6, [{b0} + {b_step} * 1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b1} + {b_step} * 1]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    a = in(reg) a,
                    b0 = in(reg) b,
                    b1 = in(reg) b.add(LANES / 2),
                    a_step = in(reg) a_step,
                    b_step = in(reg) b_step,
                    options(nostack, readonly)
                );
            }
        }
        asm!("tilestored [{} + {} * 1], tmm0", in(reg) halves[0], in(reg) c_step, options(nostack));
        asm!("tilestored [{} + {} * 1], tmm1", in(reg) halves[1], in(reg) c_step, options(nostack));
        if both {
            asm!("tilestored [{} + {} * 1], tmm2", in(reg) lower[0], in(reg) c_step, options(nostack));
            asm!("tilestored [{} + {} * 1], tmm3", in(reg) lower[1], in(reg) c_step, options(nostack));
        }
    }
}
