// conv.wgsl: the three faces of a convolution as matrix products: where the operands are, for gemm_tile.wgsl,
// gemm_registers.wgsl and gemm_reduce.wgsl, whose //#operands section this one replaces. No im2col buffer,
// and no face has a branch of its own: all three are the same affine maps with other numbers.
//
//   face       row  col          inner        A   B        i = source position of (col, inner), each axis
//   conv       co   n, oh, ow    ci, kh, kw   w   x        o·stride - pad         + k·dilation
//   transpose  ci   n, qh, qw    co, th, tw   w   y        q + origin(phase)      - t·dilation/g
//   weight     co   ci, kh, kw   n, oh, ow    y   x        k·dilation - pad       + o·stride
//
// The columns and the inner index are numbers of three digits. Offsets into A and out are linear in the
// digits; B is read at plane(digit 0 of both) and position i, and is zero where i lies outside the plane.
//
// Stride phases. conv_transpose gives x[i] = sum over k, o with o·stride + k·dilation - pad = i. For the
// outputs i = f + stride·q of phase f this asks k·dilation = f + pad (mod stride); with g = gcd(dilation,
// stride) it holds for k = k0 + t·stride/g, t = 0, 1, … (for none where g does not divide f + pad), and then
// o = (f + pad - k0·dilation)/stride + q - t·dilation/g. So each of the stride² phases is a stride-1
// convolution over its own taps, computed without a zero, a modulo or a branch: k4 s2 gives 2 x 2 taps per
// phase, a quarter of the work of zero insertion. A phase is one slice of the product; its constants come
// from the host (kernels/src/conv/gpu/mod.rs), four phases a dispatch. conv and weight have one slice.

//#operands
struct Phase {
    inner_h: u32, inner_w: u32, // sizes of digits 1 and 2 of the inner index
    cols_h: u32, cols_w: u32, // sizes of digits 1 and 2 of the columns
    origin_h: i32, origin_w: i32, // source position of column digits 0 and inner digits 0
    a_start: u32, out_start: u32,
}
struct Params {
    rows: u32, cols: u32, inner: u32, slices: u32, // the largest cols and inner of any slice
    splits: u32, inner_outer: u32, cols_outer: u32, a_row: u32,
    a_0: u32, a_1: u32, a_2: u32, out_row: u32,
    out_0: u32, out_1: u32, out_2: u32, b_inner_0: u32,
    b_col_0: u32, b_h: u32, b_w: u32, padding: u32,
    inner_step_h: i32, inner_step_w: i32, col_step_h: i32, col_step_w: i32,
    phases: array<Phase, 4>,
}
@group(0) @binding(0) var<uniform> params: Params;

struct Slice { cols: u32, inner: u32, phase: Phase }
struct Inner { a: u32, b: i32, h: i32, w: i32, digit_1: u32, digit_2: u32 }
struct Col { b: i32, h: i32, w: i32, out: u32 }

fn slice_at(i: u32) -> Slice {
    let p = params.phases[i];
    return Slice(params.cols_outer * p.cols_h * p.cols_w, params.inner_outer * p.inner_h * p.inner_w, p);
}

fn inner_at(s: Slice, k: u32) -> Inner {
    // A phase without taps has sizes of zero and no inner index to decode.
    let row = k / max(s.phase.inner_w, 1u);
    let d2 = k - row * s.phase.inner_w;
    let d0 = row / max(s.phase.inner_h, 1u);
    let d1 = row - d0 * s.phase.inner_h;
    let h = i32(d1) * params.inner_step_h;
    let w = i32(d2) * params.inner_step_w;
    let b = i32(d0 * params.b_inner_0) + h * i32(params.b_w) + w;
    return Inner(d0 * params.a_0 + d1 * params.a_1 + d2 * params.a_2, b, h, w, d1, d2);
}

/// The inner value behind `k` by as many as `step` is behind 0: adds digit by digit with carries, since everything is
/// linear in the digits; a division takes many times as long.
fn inner_add(s: Slice, k: Inner, step: Inner) -> Inner {
    let d2 = k.digit_2 + step.digit_2;
    let carry_2 = d2 >= s.phase.inner_w;
    let d1 = k.digit_1 + step.digit_1 + u32(carry_2);
    let carry_1 = d1 >= s.phase.inner_h;
    // What a carry adds: one of the next digit for all of this one.
    let full_w = i32(s.phase.inner_w) * params.inner_step_w;
    let full_h = i32(s.phase.inner_h) * params.inner_step_h;
    let a_2 = params.a_1 - s.phase.inner_w * params.a_2;
    let a_1 = params.a_0 - s.phase.inner_h * params.a_1;
    let b_2 = params.inner_step_h * i32(params.b_w) - full_w;
    let b_1 = i32(params.b_inner_0) - full_h * i32(params.b_w);
    return Inner(
        k.a + step.a + select(0u, a_2, carry_2) + select(0u, a_1, carry_1),
        k.b + step.b + select(0, b_2, carry_2) + select(0, b_1, carry_1),
        k.h + step.h + select(0, params.inner_step_h, carry_2) - select(0, full_h, carry_1),
        k.w + step.w - select(0, full_w, carry_2),
        d1 - select(0u, s.phase.inner_h, carry_1),
        d2 - select(0u, s.phase.inner_w, carry_2),
    );
}

fn col_at(s: Slice, j: u32) -> Col {
    let d2 = j % s.phase.cols_w;
    let d1 = j / s.phase.cols_w % s.phase.cols_h;
    let d0 = j / s.phase.cols_w / s.phase.cols_h;
    let h = i32(d1) * params.col_step_h + s.phase.origin_h;
    let w = i32(d2) * params.col_step_w + s.phase.origin_w;
    let b = i32(d0 * params.b_col_0) + h * i32(params.b_w) + w;
    return Col(b, h, w, d0 * params.out_0 + d1 * params.out_1 + d2 * params.out_2);
}

fn a_row(s: Slice, row: u32) -> u32 { return s.phase.a_start + row * params.a_row; }
fn a_row_step() -> u32 { return params.a_row; }
fn b_offset(s: Slice, k: Inner, col: Col) -> u32 { return u32(col.b + k.b); }

/// Whether b_offset is in the plane, or else is one of the zeros around it.
fn b_inside(k: Inner, col: Col) -> bool {
    // A negative position becomes a large unsigned one, so one comparison checks both ends. `&` and not `&&`:
    // a branch would keep the loads around it apart.
    return (u32(col.h + k.h) < params.b_h) & (u32(col.w + k.w) < params.b_w);
}

fn out_offset(s: Slice, row: u32, col: Col) -> u32 {
    return s.phase.out_start + row * params.out_row + col.out;
}

/// The outermost digit of a column: its image, but in the face weight.
fn image(s: Slice, j: u32) -> u32 { return j / (s.phase.cols_h * s.phase.cols_w); }
fn channel(row: u32, col: Col) -> u32 { return row; }
//#end
