// reduce.wgsl: sums and maxima of a fused expression over some dimensions, several results in one pass.
//
//   outputs[o][k] = scale_o · combine_o over j < reduced of value o at (k, j)
//
// k numbers the kept dimensions, j the reduced ones, both row-major. The reduced space is dealt to `segments`
// by turns: segment s takes j = s, s + segments, …; with one segment results go straight to the outputs, else
// to partials[o][k][s], which a second dispatch joins in order. No atomics: the same bits on every run.
//
// Entries: threads, one thread per (k, s), for kept dimensions that lie innermost, short reductions and
//            software adapters, where barriers are expensive; neighbouring threads are neighbouring k where
//            `by_kept` is 1, else neighbouring s. The naive reference has as few segments as llvmpipe's limit
//            of 65,535 loop iterations a thread allows.
//          groups, one workgroup of 256 per (k, s), for reduced dimensions that lie innermost: each thread
//            takes every 256th element of its segment, then a tree in shared memory.
// The second dispatch is one of the two over partials, with `segments` 1.
// Sums of a thread go through blocks of 64, so that rounding grows with the square root of the length, not
// with it. The host replaces the marked sections; what stands here is the mean of 16 elements each.
// Dispatch: threads ceil(kept · segments / 64) of 64; groups kept · segments of 256; folded into two
// dimensions. Shared memory: 256 · outputs · 4 bytes, at most 7 KiB.
// Bindings: 0 params, then inputs, then outputs; inputs, partials in a first dispatch of two; partials,
// outputs in the second.

//#params
struct Params { kept: u32, reduced: u32, segments: u32, by_kept: u32 } // then the expression's numbers, sizes
//#end
@group(0) @binding(0) var<uniform> params: Params;

//#bindings
@group(0) @binding(1) var<storage, read> in0: array<f32>;
@group(0) @binding(2) var<storage, read_write> out0: array<f32>;
//#end

//#element
struct Values { v0: f32 }
fn start() -> Values { return Values(0.0); }
fn join(a: Values, b: Values) -> Values { return Values(a.v0 + b.v0); }
fn element(k: u32, j: u32) -> Values { return Values(in0[k * 16u + j]); }
fn store(k: u32, s: u32, v: Values) { out0[k] = v.v0 * 0.0625; }
//#end

/// Elements `first, first + step, …` of output k.
fn walk(k: u32, first: u32, step: u32) -> Values {
    var total = start();
    var j = first;
    loop {
        if j >= params.reduced { break; }
        var block = start();
        for (var n = 0u; n < 64u && j < params.reduced; n++) {
            block = join(block, element(k, j));
            j += step;
        }
        total = join(total, block);
    }
    return total;
}

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn threads(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    if i >= params.kept * params.segments { return; }
    var k = i / params.segments;
    var s = i % params.segments;
    if params.by_kept == 1u {
        k = i % params.kept;
        s = i / params.kept;
    }
    store(k, s, walk(k, s, params.segments));
}

var<workgroup> lanes: array<Values, 256>;

@compute @workgroup_size(256)
fn groups(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x + group.y * groups.x;
    let k = i / params.segments;
    let s = i % params.segments;
    if k >= params.kept { return; } // the whole workgroup together
    // Neighbouring threads read neighbouring elements.
    lanes[lane] = walk(k, s * 256u + lane, params.segments * 256u);
    for (var width = 128u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width { lanes[lane] = join(lanes[lane], lanes[lane + width]); }
    }
    if lane == 0u { store(k, s, lanes[0]); }
}
