// copy.wgsl: slices, pads, transposes, broadcasts and concatenation, one part per dispatch.
//
//   out[dst_offset + sum of i_d · dst_strides_d] = source[src_offset + sum of i_d · src_strides_d]
//   for all i of shape
//
// Entries: main, one thread per element in row-major order of the shape; neighbouring threads write
//            neighbours wherever the output is dense along the last dimension.
//          tile, for transpositions: the last dimension is dense in the output, the one before it in the
//            input. A workgroup takes 32 × 32 of the two through shared memory, reading along one and writing
//            along the other; the 33rd column keeps the two directions from meeting in one memory bank.
//          zero, which clears the output before parts that do not cover it.
// Shape and strides fill the first `rank` places, the last dimension first.
// Dispatch: main and zero ceil(len / 64) workgroups of 64; tile one of 256 for each square; folded into two
// dimensions.
// Shared memory: 32 · 33 · 4 bytes in tile. Bindings: 0 params, 1 out, 2 source; zero binds the output only.

struct Params {
    len: u32, rank: u32, src_offset: u32, dst_offset: u32,
    shape: array<vec4u, 2>,
    src_strides: array<vec4u, 2>,
    dst_strides: array<vec4u, 2>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read> source: array<f32>;

/// Offsets in input and output of element `index` of the dimensions from `first` on.
fn offsets(first: u32, index: u32) -> vec2u {
    var rest = index;
    var at = vec2u(params.src_offset, params.dst_offset);
    for (var d = first; d < params.rank; d++) {
        let size = params.shape[d / 4u][d % 4u];
        let i = rest % size;
        rest /= size;
        at += i * vec2u(params.src_strides[d / 4u][d % 4u], params.dst_strides[d / 4u][d % 4u]);
    }
    return at;
}

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    if i >= params.len { return; }
    let at = offsets(0u, i);
    out[at.y] = source[at.x];
}

@compute @workgroup_size(64)
fn zero(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    if i < params.len { out[i] = 0.0; }
}

var<workgroup> square: array<f32, 1056>; // [32][33]

@compute @workgroup_size(32, 8)
fn tile(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) lane: vec3u,
) {
    let columns = params.shape[0].x; // dense in the output
    let rows = params.shape[0].y; // dense in the input
    let across = (columns + 31u) / 32u;
    let down = (rows + 31u) / 32u;
    let i = group.x + group.y * groups.x;
    let plane = i / (across * down);
    if plane * columns * rows >= params.len { return; } // the whole workgroup together
    let at = offsets(2u, plane);
    let corner = vec2u(i % across, i / across % down) * 32u; // (column, row)
    for (var n = 0u; n < 32u; n += 8u) {
        let row = corner.y + lane.x;
        let column = corner.x + lane.y + n;
        if row < rows && column < columns {
            square[(lane.y + n) * 33u + lane.x] = source[at.x + row + column * params.src_strides[0].x];
        }
    }
    workgroupBarrier();
    for (var n = 0u; n < 32u; n += 8u) {
        let row = corner.y + lane.y + n;
        let column = corner.x + lane.x;
        if row < rows && column < columns {
            out[at.y + column + row * params.dst_strides[0].y] = square[lane.x * 33u + lane.y + n];
        }
    }
}
