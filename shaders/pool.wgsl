// pool.wgsl: max pooling as three closed operations over planes x [h, w] and y [oh, ow].
//
//   indices: out[o] = index within the plane of the first maximum of window o, as f32; NaN is the largest
//   gather:  out[o] = a[index[o]]                                              a = x
//   scatter: out[i] = sum over the windows o that hold i and have index[o] = i of a[o]     a = y
//
// Window o holds the elements o · stride + k · dilation - pad for k < kernel; padding is absent (-infinity).
// Scatter is written as a gather over the few windows that can hold an element, so that it needs no atomics
// and sums in a fixed order.
// Dispatch: ceil(outputs / 64) workgroups of 64, folded into two dimensions. Shared memory: none.
// Bindings: 0 params; indices 1 out, 2 a; gather and scatter 1 out, 2 a, 3 index.

struct Params {
    x: vec2u, y: vec2u,
    kernel: vec2u, stride: vec2u,
    pad: vec2u, dilation: vec2u,
    len: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> index: array<f32>;

//#use shared/thread.wgsl

fn is_nan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }

@compute @workgroup_size(64)
fn indices(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    if i >= params.len { return; }
    let ny = params.y.x * params.y.y;
    let first = i / ny * params.x.x * params.x.y;
    let corner = vec2u(i % ny / params.y.y, i % params.y.y) * params.stride;
    // The first element at or behind the padding.
    let before = (max(corner, params.pad) - corner + params.dilation - 1u) / params.dilation;
    let low = corner + before * params.dilation - params.pad;
    let end = max(corner + params.kernel * params.dilation, params.pad) - params.pad;
    let high = min(end, params.x);
    var best = a[first + low.x * params.x.y + low.y];
    var at = low.x * params.x.y + low.y;
    for (var r = low.x; r < high.x; r += params.dilation.x) {
        for (var c = low.y; c < high.y; c += params.dilation.y) {
            let v = a[first + r * params.x.y + c];
            if v > best || (is_nan(v) && !is_nan(best)) {
                best = v;
                at = r * params.x.y + c;
            }
        }
    }
    out[i] = f32(at);
}

@compute @workgroup_size(64)
fn gather(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    if i >= params.len { return; }
    let nx = params.x.x * params.x.y;
    let plane = i / (params.y.x * params.y.y);
    out[i] = a[plane * nx + min(u32(index[i]), nx - 1u)];
}

@compute @workgroup_size(64)
fn scatter(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    if i >= params.len { return; }
    let nx = params.x.x * params.x.y;
    let own = i % nx;
    let first = i / nx * params.y.x * params.y.y;
    let at = vec2u(own / params.x.y, own % params.x.y) + params.pad;
    // o · stride <= at <= o · stride + (kernel - 1) · dilation
    let reach = (params.kernel - 1u) * params.dilation;
    let low = (max(at, reach) - reach + params.stride - 1u) / params.stride;
    let high = min(at / params.stride + 1u, params.y);
    var sum = 0.0;
    for (var r = low.x; r < high.x; r++) {
        for (var c = low.y; c < high.y; c++) {
            let o = first + r * params.y.y + c;
            if u32(index[o]) == own { sum += a[o]; }
        }
    }
    out[i] = sum;
}
