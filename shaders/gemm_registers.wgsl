// gemm_registers.wgsl: matrix product with register tiles and no shared memory: for adapters that run on a
// CPU, where every lane loads by itself and a barrier is a switch of coroutines, and for products with few
// rows, which waste most of a square tile. Its operands are found through the functions of its section
// operands: plain strides here; conv.wgsl in their place makes it an implicit-GEMM convolution (no im2col
// buffer).
//
//   sums[split, slice, i/4, j][i%4] = sum over the split's chunk of k of A[i, k] · B[k, j]
//
// Entry pack copies A into scratch as vec4 of four rows, [slice, k, row/4], rows and inner index padded with
// zeros, so that entry main reads four rows with one load, whatever A's strides are. In main a thread owns
// 4·U rows and C columns; the columns are as far apart as there are column tiles, so that neighbouring
// threads read neighbours. It sums one chunk of the inner index and stores to scratch behind the packed A,
// whole tiles without a guard, since a branch around each store, or an epilogue after each sum, would
// multiply the unrolled code. gemm_reduce.wgsl adds the chunks in order and applies the epilogue.
//
// Dispatch: pack ceil(slices · inner · row_tiles·U / 64) workgroups of 64; main ceil(slices · splits ·
// row_tiles · col_tiles / LANES) of LANES; both folded into two dimensions. Shared memory: none.
// Bindings: 0 params, 1 a (pack), 2 scratch, 3 b (main).

//#operands
//#use shared/product.wgsl

//#use shared/strides.wgsl
//#end

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> scratch: array<vec4f>;
@group(0) @binding(3) var<storage, read> b: array<f32>;

//#use shared/a_at.wgsl
//#use shared/b_at.wgsl

//#tile
const U: u32 = 4u; // quads of rows per thread
const C: u32 = 8u; // columns per thread
//#end
override LANES: u32 = 64u;

/// Quads of rows in the packed A.
fn packed_quads() -> u32 {
    return (params.rows + 4u * U - 1u) / (4u * U) * U;
}

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn pack(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = thread(group, groups, lane);
    let quads = packed_quads();
    let k = index % params.inner;
    let quad = index / params.inner % quads;
    let slice = index / params.inner / quads;
    if slice >= params.slices { return; }
    let s = slice_at(slice);
    var value = vec4f();
    if k < s.inner {
        let inner = inner_at(s, k);
        for (var i = 0u; i < 4u; i++) {
            let row = min(4u * quad + i, params.rows - 1u);
            value[i] = select(0.0, a_at(a_row(s, row) + inner.a), 4u * quad + i < params.rows);
        }
    }
    scratch[(slice * params.inner + k) * quads + quad] = value;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = (group.x + group.y * groups.x) * LANES + lane;
    let quads = packed_quads();
    let col_tiles = (params.cols + C - 1u) / C;
    let row_tiles = quads / U;
    let col0 = id % col_tiles;
    let quad0 = id / col_tiles % row_tiles * U;
    let split = id / col_tiles / row_tiles % params.splits;
    let slice = id / col_tiles / row_tiles / params.splits;
    if slice >= params.slices { return; }
    let s = slice_at(slice);
    if col0 >= s.cols { return; }
    let chunk = (s.inner + params.splits - 1u) / params.splits;
    let first = min(split * chunk, s.inner);
    let last = min(first + chunk, s.inner);

    // The lengths of these arrays are the trip counts of the loops over them: drivers unroll such loops and
    // keep the elements in registers.
    var cols: array<Col, C>;
    for (var j = 0u; j < C; j++) { cols[j] = col_at(s, min(col0 + j * col_tiles, s.cols - 1u)); }
    var acc: array<array<vec4f, C>, U>;
    var packed = (slice * params.inner + first) * quads + quad0;
    var inner = inner_at(s, first);
    let step = inner_at(s, 1u);
    for (var k = first; k < last; k++) {
        var b_values: array<f32, C>;
        for (var j = 0u; j < C; j++) {
            let inside = b_inside(inner, cols[j]);
            b_values[j] = select(0.0, b_at(select(0u, b_offset(s, inner, cols[j]), inside)), inside);
        }
        for (var u = 0u; u < U; u++) {
            let a_quad = scratch[packed + u];
            for (var j = 0u; j < C; j++) { acc[u][j] = fma(a_quad, vec4f(b_values[j]), acc[u][j]); }
        }
        packed += quads;
        inner = inner_add(s, inner, step);
    }

    let sum = params.slices * params.inner * quads + (split * params.slices + slice) * quads * col_tiles * C;
    for (var u = 0u; u < U; u++) {
        for (var j = 0u; j < C; j++) { scratch[sum + ((quad0 + u) * C + j) * col_tiles + col0] = acc[u][j]; }
    }
}
