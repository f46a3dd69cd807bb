// pointwise.wgsl: a fused element-wise expression, one element per thread: the reference form.
//
//   outputs[j][i] = value j of the expression at element i, over all i < count
//
// Layouts: outputs contiguous over the iteration shape; operands strided, stride 0 broadcasting. The host
// replaces the marked sections by the bindings of the kernel, the coordinates of element i, one line per
// instruction, and the numbers and sizes in them, which are parameters; what stands here is leaky ReLU of one
// dense input. An output read in place is read before it is written.
// Dispatch: ceil(count / 64) workgroups of 64, folded into two dimensions. Shared memory: none.
// Bindings: 0 params, then inputs, then outputs.

//#params
struct Params { count: u32, pad0: u32, pad1: u32, pad2: u32 } // then numbers and sizes of the expression
//#end
@group(0) @binding(0) var<uniform> params: Params;

//#bindings
@group(0) @binding(1) var<storage, read> in0: array<f32>;
@group(0) @binding(2) var<storage, read_write> out0: array<f32>;
//#end

//#element
fn element(i: u32) {
    let r0 = in0[i];
    out0[i] = select(0.2 * r0, r0, r0 > 0.0);
}
//#end

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    if i < params.count { element(i); }
}
