// gemm_packed.wgsl: operands of gemm_subgroups.wgsl as packed lines, so that one 16-byte load gives a line
// four inner values: lines are the rows of A or the columns of B, in blocks of 64 that lie together.
//
//   packed[slice, line/64, k/4, line%64][k%4]
//
// Entry pack copies A through the functions of //#operands; inner values beyond the last are zeros, lines
// beyond the last hold anything, since no sum that is kept reads them. Sections a and b replace those of
// gemm_subgroups.wgsl. The transforms of conv_winograd.wgsl write the same form.
//
// Dispatch: ceil(slices · rows · ceil(inner/4) / 64) workgroups of 64, folded into two dimensions. Shared
// memory: none.
// Bindings: 0 params, 1 source, 2 lines.

//#operands
//#use shared/product.wgsl

//#use shared/strides.wgsl
//#end

struct Quad { k: u32, left: u32, inner: array<Inner, 4> }

//#a
@group(0) @binding(1) var<storage, read> a: array<vec4f>;

fn load_a(s: Slice, slice: u32, row: u32, quad: Quad) -> vec4f {
    let block = slice * ((params.rows + 63u) / 64u) + row / 64u;
    return a[(block * ((params.inner + 3u) / 4u) + quad.k / 4u) * 64u + row % 64u];
}
//#end

//#b
@group(0) @binding(2) var<storage, read> b: array<vec4f>;

fn load_b(s: Slice, slice: u32, j: u32, col: Col, quad: Quad) -> vec4f {
    let line = min(j, params.cols - 1u);
    let block = slice * ((params.cols + 63u) / 64u) + line / 64u;
    return b[(block * ((params.inner + 3u) / 4u) + quad.k / 4u) * 64u + line % 64u];
}
//#end

@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> lines: array<vec4f>;

//#use shared/source_at.wgsl

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn pack(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
    let quads = (params.inner + 3u) / 4u;
    let row = id % params.rows;
    let quad = id / params.rows % quads;
    let slice = id / params.rows / quads;
    if slice >= params.slices { return; }
    let s = slice_at(slice);
    let start = a_row(s, row);
    var value = vec4f();
    for (var i = 0u; i < 4u; i++) {
        let k = 4u * quad + i;
        let live = k < s.inner;
        value[i] = select(0.0, source_at(select(0u, start + inner_at(s, k).a, live)), live);
    }
    let block = slice * ((params.rows + 63u) / 64u) + row / 64u;
    lines[(block * quads + quad) * 64u + row % 64u] = value;
}
