// gemm_dot.wgsl: batched matrix product, one workgroup per output element: for few outputs with a long inner
// sum, such as a linear layer with one logit, where one thread per output would leave the machine idle.
//
//   out[s, i, j] = epilogue(sum over k of a[s·a_slice + i·a_row + k·a_inner] · b[s·b_slice + k·b_inner +
//   j·b_col])
//
// Each of 64 threads sums every 64th product (neighbours read neighbours), then a tree in shared memory adds
// the 64 partial sums in an order fixed by the lane alone.
// Dispatch: slices·rows·cols workgroups of 64, folded into two dimensions. Shared memory: 256 bytes.
// Bindings: 0 params, 1 a, 2 b, 3 out, 4.. epilogue operands.

//#use shared/product.wgsl
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

//#use shared/b_at.wgsl

//#use shared/epilogue.wgsl

const LANES: u32 = 64u;
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x + group.y * groups.x;
    if index >= params.slices * params.rows * params.cols { return; }
    let j = index % params.cols;
    let i = index / params.cols % params.rows;
    let slice = index / params.cols / params.rows;

    let a_start = slice * params.a_slice + i * params.a_row;
    let b_start = slice * params.b_slice + j * params.b_col;
    var acc = 0.0;
    for (var k = lane; k < params.inner; k += LANES) {
        acc += a[a_start + k * params.a_inner] * b_at(b_start + k * params.b_inner);
    }
    sums[lane] = acc;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { sums[lane] += sums[lane + half]; }
    }
    if lane == 0u { out[index] = epilogue(sums[0], j / params.channel_width, index); }
}
