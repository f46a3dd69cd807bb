// conv_naive.wgsl: the three faces of the trilinear form <conv(x, w), y>, one thread per output element,
// straight from the definition: the reference that the fast variants are compared with.
//
//   y[n, co, o] = sum over ci, k of   x[n, ci, i] · w[co, ci, k]      entry conv:      a = x, b = w
//   x[n, ci, i] = sum over co, k, o of y[n, co, o] · w[co, ci, k]     entry transpose: a = y, b = w
//   w[co, ci, k] = sum over n, o of   x[n, ci, i] · y[n, co, o]       entry weight:    a = x, b = y
//   with i = o·stride + k·dilation - pad along both axes; terms with i outside the image are absent.
//
// Layouts: x [n, ci, h, w], y [n, co, oh, ow], w [co, ci, kh, kw], row-major; pairs below are (height,
// width).
// Dispatch: ceil(outputs / 64) workgroups of 64, folded into two dimensions. Shared memory: none.
// Bindings: 0 params, 1 a, 2 b, 3 out, 4.. epilogue operands.

struct Params {
    x: vec2i, y: vec2i,
    kernel: vec2i, stride: vec2i,
    pad: vec2i, dilation: vec2i,
    batch: u32, ci: u32, co: u32, outputs: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

//#use shared/b_at.wgsl

//#use shared/epilogue.wgsl

//#use shared/thread.wgsl

/// Offset of element `at` of plane `plane` of a tensor of planes of `size`.
fn element(plane: u32, at: vec2i, size: vec2i) -> u32 {
    return plane * u32(size.x * size.y) + u32(at.x * size.y + at.y);
}

/// Position number `index` of a plane of `size`.
fn position(index: u32, size: vec2i) -> vec2i {
    return vec2i(i32(index) / size.y, i32(index) % size.y);
}

fn inside(at: vec2i, size: vec2i) -> bool {
    return all(at >= vec2i(0)) && all(at < size);
}

@compute @workgroup_size(64)
fn conv(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = thread(group, groups, lane);
    if index >= params.outputs { return; }
    let plane = u32(params.y.x * params.y.y);
    let o = position(index % plane, params.y);
    let co = index / plane % params.co;
    let n = index / plane / params.co;
    var acc = 0.0;
    for (var ci = 0u; ci < params.ci; ci++) {
        for (var kh = 0; kh < params.kernel.x; kh++) {
            for (var kw = 0; kw < params.kernel.y; kw++) {
                let k = vec2i(kh, kw);
                let i = o * params.stride + k * params.dilation - params.pad;
                if inside(i, params.x) {
                    acc += a[element(n * params.ci + ci, i, params.x)]
                        * b_at(element(co * params.ci + ci, k, params.kernel));
                }
            }
        }
    }
    out[index] = epilogue(acc, co, index);
}

@compute @workgroup_size(64)
fn transpose(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = thread(group, groups, lane);
    if index >= params.outputs { return; }
    let plane = u32(params.x.x * params.x.y);
    let i = position(index % plane, params.x);
    let ci = index / plane % params.ci;
    let n = index / plane / params.ci;
    var acc = 0.0;
    for (var co = 0u; co < params.co; co++) {
        for (var kh = 0; kh < params.kernel.x; kh++) {
            for (var kw = 0; kw < params.kernel.y; kw++) {
                let k = vec2i(kh, kw);
                let reach = i + params.pad - k * params.dilation; // o·stride, where that divides
                let o = reach / params.stride;
                if all(reach >= vec2i(0)) && all(o * params.stride == reach) && inside(o, params.y) {
                    acc += a[element(n * params.co + co, o, params.y)]
                        * b_at(element(co * params.ci + ci, k, params.kernel));
                }
            }
        }
    }
    out[index] = epilogue(acc, ci, index);
}

@compute @workgroup_size(64)
fn weight(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = thread(group, groups, lane);
    if index >= params.outputs { return; }
    let plane = u32(params.kernel.x * params.kernel.y);
    let k = position(index % plane, params.kernel);
    let ci = index / plane % params.ci;
    let co = index / plane / params.ci;
    var acc = 0.0;
    for (var n = 0u; n < params.batch; n++) {
        for (var oh = 0; oh < params.y.x; oh++) {
            for (var ow = 0; ow < params.y.y; ow++) {
                let o = vec2i(oh, ow);
                let i = o * params.stride + k * params.dilation - params.pad;
                if inside(i, params.x) {
                    acc += a[element(n * params.ci + ci, i, params.x)] * b[element(n * params.co + co, o, params.y)];
                }
            }
        }
    }
    out[index] = acc;
}
