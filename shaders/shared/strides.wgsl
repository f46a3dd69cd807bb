// strides.wgsl: where the operands of a product are: plain strides. What stands between //#operands and
// //#end of conv.wgsl replaces this and product.wgsl, and makes the product an implicit-GEMM convolution (no
// im2col buffer).

struct Slice { cols: u32, inner: u32, a: u32, b: u32, out: u32 } // one matrix product of a batch
struct Inner { a: u32, b: u32 } // one value of the inner index
struct Col { b: u32, out: u32 } // one column

fn slice_at(i: u32) -> Slice {
    return Slice(params.cols, params.inner, i * params.a_slice, i * params.b_slice, i * params.rows * params.cols);
}
fn inner_at(s: Slice, k: u32) -> Inner { return Inner(k * params.a_inner, k * params.b_inner); }
fn inner_add(s: Slice, k: Inner, step: Inner) -> Inner { return Inner(k.a + step.a, k.b + step.b); }
fn col_at(s: Slice, j: u32) -> Col { return Col(j * params.b_col, j); }
fn a_row(s: Slice, row: u32) -> u32 { return s.a + row * params.a_row; }
fn a_row_step() -> u32 { return params.a_row; }
fn b_offset(s: Slice, k: Inner, col: Col) -> u32 { return s.b + k.b + col.b; }
fn b_inside(k: Inner, col: Col) -> bool { return true; } // a zero that is in no buffer: never here
fn out_offset(s: Slice, row: u32, col: Col) -> u32 { return s.out + row * params.cols + col.out; }
fn image(s: Slice, j: u32) -> u32 { return 0u; } // no operand's columns are images
fn channel(row: u32, col: Col) -> u32 { return col.out / params.channel_width; }
