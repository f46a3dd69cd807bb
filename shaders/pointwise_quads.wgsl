// pointwise_quads.wgsl: a fused element-wise expression, four consecutive elements per thread.
//
//   outputs[j][i] = value j of the expression at element i, over all i < 4 · count
//
// Why beside pointwise.wgsl: memory moves in 16-byte words, and coordinates are found once for four elements.
// Needs a last dimension that is a multiple of four, so that a quad stays in one row. Inputs that are dense
// everywhere are bound as vec4f; an operand that is still along the last dimension is read once per quad; any
// other is read lane by lane. Layouts and marked sections as in pointwise.wgsl; what stands here is leaky
// ReLU of one dense input.
// Dispatch: ceil(count / 64) workgroups of 64, folded into two dimensions. Shared memory: none.
// Bindings: 0 params, then inputs, then outputs.

//#params
struct Params { count: u32, pad0: u32, pad1: u32, pad2: u32 } // then numbers and sizes of the expression
//#end
@group(0) @binding(0) var<uniform> params: Params;

//#bindings
@group(0) @binding(1) var<storage, read> in0: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out0: array<vec4f>;
//#end

//#element
struct Values { v0: f32 }
fn values(x0: f32) -> Values {
    return Values(select(0.2 * x0, x0, x0 > 0.0));
}
fn quad(q: u32) {
    let x0 = in0[q];
    let a = values(x0.x);
    let b = values(x0.y);
    let c = values(x0.z);
    let d = values(x0.w);
    out0[q] = vec4f(a.v0, b.v0, c.v0, d.v0);
}
//#end

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let q = thread(group, groups, lane);
    if q < params.count { quad(q); }
}
