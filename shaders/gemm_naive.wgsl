// gemm_naive.wgsl: batched matrix product, one thread per output element. The reference that the fast
// variants are compared with, and the fast one for matrix times vector with many outputs.
//
//   out[s, i, j] = epilogue(sum over k of a[s·a_slice + i·a_row + k·a_inner] · b[s·b_slice + k·b_inner +
//   j·b_col])
//
// out is [slices, rows, cols] row-major; the strides of a and b express transposed and shared operands.
// Dispatch: ceil(slices·rows·cols / 64) workgroups of 64, folded into two dimensions. Shared memory: none.
// Bindings: 0 params, 1 a, 2 b, 3 out, 4.. epilogue operands.

//#use shared/product.wgsl
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

//#use shared/b_at.wgsl

//#use shared/epilogue.wgsl

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = thread(group, groups, lane);
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
