// gemm_naive.wgsl: batched matrix product, one thread per output element. The reference that the fast
// variants are compared with, and the fast one for matrix times vector with many outputs.
//
//   out[s, i, j] = epilogue(sum over k of a[s·a_slice + i·a_row + k·a_inner] · b[s·b_slice + k·b_inner +
//   j·b_col])
//
// out is [slices, rows, cols] row-major; the strides of a and b express transposed and shared operands.
// Dispatch: ceil(slices·rows·cols / 64) workgroups of 64, folded into two dimensions. Shared memory: none.
// Bindings: 0 params, 1 a, 2 b, 3 out, 4.. epilogue operands.

struct Params {
    rows: u32, cols: u32, inner: u32, slices: u32,
    splits: u32, a_slice: u32, a_row: u32, a_inner: u32,
    b_slice: u32, b_inner: u32, b_col: u32, channel_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

override HALF_B: bool = false; // b is stored in halves

/// Element i of b: a number of its own, or one of the two halves of a word.
fn b_at(i: u32) -> f32 {
    if HALF_B { return unpack2x16float(bitcast<u32>(b[i / 2u]) >> (i % 2u * 16u)).x; }
    return b[i];
}

//#epilogue
fn epilogue(acc: f32, channel: u32, index: u32) -> f32 {
    return acc;
}
//#end

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    if index >= params.slices * params.rows * params.cols { return; }
    let j = index % params.cols;
    let i = index / params.cols % params.rows;
    let slice = index / params.cols / params.rows;

    let a_start = slice * params.a_slice + i * params.a_row;
    let b_start = slice * params.b_slice + j * params.b_col;
    var acc = 0.0;
    for (var k = 0u; k < params.inner; k++) {
        acc += a[a_start + k * params.a_inner] * b_at(b_start + k * params.b_inner);
    }
    out[index] = epilogue(acc, j / params.channel_width, index);
}
