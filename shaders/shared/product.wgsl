// product.wgsl: the parameters of a batched matrix product whose operands are found by strides.

struct Params {
    rows: u32, cols: u32, inner: u32, slices: u32,
    splits: u32, a_slice: u32, a_row: u32, a_inner: u32,
    b_slice: u32, b_inner: u32, b_col: u32, channel_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
