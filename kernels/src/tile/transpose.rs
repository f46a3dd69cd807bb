//! Transposes: blocks that fit the registers, by shuffles.

use super::WIDTH;
use multiversion::{multiversion, target::match_target};
use std::ops::Range;

/// `dst[c][r] = src[r][c]`: `src` is `[rows, src_pitch]` of which `columns` are read, `dst` is `[columns,
/// dst_pitch]`.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn transpose(
    rows: usize,
    columns: usize,
    src: &[f32],
    src_pitch: usize,
    dst: &mut [f32],
    dst_pitch: usize,
) {
    match_target! {
        "x86_64+avx512f+avx512vl+avx512dq+avx512bw" => {
            let (r, c) = (rows / WIDTH * WIDTH, columns / WIDTH * WIDTH);
            x86::transpose(r, c, src, src_pitch, dst, dst_pitch);
            transpose_in(0..r, c..columns, src, src_pitch, dst, dst_pitch);
            transpose_in(r..rows, 0..columns, src, src_pitch, dst, dst_pitch);
        },
        _ => transpose_in(0..rows, 0..columns, src, src_pitch, dst, dst_pitch),
    }
}

#[inline(always)]
fn transpose_in(
    rows: Range<usize>,
    columns: Range<usize>,
    src: &[f32],
    src_pitch: usize,
    dst: &mut [f32],
    dst_pitch: usize,
) {
    const B: usize = 8;
    for r in rows.clone().step_by(B) {
        for c in columns.clone().step_by(B) {
            if r + B <= rows.end && c + B <= columns.end {
                let mut block = [[0.0; B]; B];
                for i in 0..B {
                    block[i].copy_from_slice(&src[(r + i) * src_pitch + c..][..B]);
                }
                let block = swapped::<1>(swapped::<2>(swapped::<4>(block)));
                for j in 0..B {
                    dst[(c + j) * dst_pitch + r..][..B].copy_from_slice(&block[j]);
                }
            } else {
                for i in r..rows.end.min(r + B) {
                    for j in c..columns.end.min(c + B) {
                        dst[j * dst_pitch + i] = src[i * src_pitch + j];
                    }
                }
            }
        }
    }
}

/// Swaps off-diagonal blocks of `S`: a shuffle of two registers for each row. With S = 4, 2, 1 that is a
/// transpose.
#[inline(always)]
fn swapped<const S: usize>(block: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let mut out = block;
    for i in 0..8 {
        for j in 0..8 {
            if i & S == 0 && j & S == 0 {
                out[i][j + S] = block[i + S][j];
                out[i + S][j] = block[i][j + S];
            }
        }
    }
    out
}

/// The one place where plain loops are not enough: LLVM makes more than twice the shuffles of a 16 × 16
/// transpose.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::prefetch;
    use super::WIDTH;
    use std::arch::x86_64::*;

    /// [`super::transpose`] of whole 16 × 16 blocks.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    pub(super) fn transpose(
        rows: usize,
        columns: usize,
        src: &[f32],
        src_pitch: usize,
        dst: &mut [f32],
        dst_pitch: usize,
    ) {
        for r in (0..rows).step_by(WIDTH) {
            for c in (0..columns).step_by(WIDTH) {
                // The same columns of the next rows: short rows are no streams that a processor foresees.
                for next in r + WIDTH..rows.min(r + 2 * WIDTH) {
                    prefetch(src, next * src_pitch + c);
                }
                block(&src[r * src_pitch + c..], src_pitch, &mut dst[c * dst_pitch + r..], dst_pitch);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
    #[inline]
    fn block(src: &[f32], src_pitch: usize, dst: &mut [f32], dst_pitch: usize) {
        let mut a = [_mm512_setzero_ps(); WIDTH];
        for (i, a) in a.iter_mut().enumerate() {
            let row = &src[i * src_pitch..][..WIDTH];
            // SAFETY: the slice holds the 16 numbers that are read.
            *a = unsafe { _mm512_loadu_ps(row.as_ptr()) };
        }
        let mut b = a;
        // Pairs of rows, then quadruples: afterwards quarter q of a[4i + c] holds column 4q + c of rows 4i to
        // 4i + 3.
        for i in 0..8 {
            b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
        }
        for i in 0..4 {
            for half in 0..2 {
                let (low, high) = (_mm512_castps_pd(b[4 * i + half]), _mm512_castps_pd(b[4 * i + 2 + half]));
                a[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
                a[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
            }
        }
        // Quarters 0 and 2 (0x88) or 1 and 3 (0xdd) of two registers, twice.
        for c in 0..4 {
            let even = _mm512_shuffle_f32x4::<0x88>(a[c], a[4 + c]);
            let odd = _mm512_shuffle_f32x4::<0xdd>(a[c], a[4 + c]);
            let even_high = _mm512_shuffle_f32x4::<0x88>(a[8 + c], a[12 + c]);
            let odd_high = _mm512_shuffle_f32x4::<0xdd>(a[8 + c], a[12 + c]);
            b[c] = _mm512_shuffle_f32x4::<0x88>(even, even_high);
            b[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd, odd_high);
            b[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even, even_high);
            b[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_high);
        }
        for (j, b) in b.iter().enumerate() {
            let column = &mut dst[j * dst_pitch..][..WIDTH];
            // SAFETY: the slice holds the 16 numbers that are written.
            unsafe { _mm512_storeu_ps(column.as_mut_ptr(), *b) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_of_any_size() {
        for (rows, columns) in [(1, 1), (8, 8), (16, 24), (7, 19), (33, 9), (40, 1), (64, 48), (31, 50)] {
            let pitch = columns + 3;
            let src: Vec<f32> = (0..rows * pitch).map(|i| i as f32).collect();
            let mut dst = vec![-1.0; columns * (rows + 2)];
            transpose(rows, columns, &src, pitch, &mut dst, rows + 2);
            let mut plain = vec![-1.0; dst.len()];
            transpose_in(0..rows, 0..columns, &src, pitch, &mut plain, rows + 2);
            assert_eq!(dst, plain);
            for r in 0..rows {
                for c in 0..columns {
                    assert_eq!(dst[c * (rows + 2) + r], src[r * pitch + c]);
                }
            }
        }
    }
}
