// peak_copy.wgsl: how fast the adapter reads and writes its memory. Not part of any program; `bench` and
// `profile` measure with it.
//
//   out[i] = x[i], 16 bytes a thread, neighbours side by side, over buffers larger than any cache
//
// Bytes: 32 a thread, half read and half written.
//
// Dispatch: ceil(quads / 64) workgroups of 64, folded into two dimensions. Shared memory: none.
// Bindings: 0 params, 1 x [quads] of vec4f, 2 out [quads] of vec4f.

struct Params { quads: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= params.quads { return; }
    out[i] = x[i];
}
