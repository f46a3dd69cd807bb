// moments.wgsl: mean and biased variance of x [outer, channels, inner] over outer and inner.
//
//   Welford:  mean += (x - mean) / n;  m2 += (x - mean_before) · (x - mean_after)
//   Chan, to join two sets:  d = mean_b - mean_a;  mean = mean_a + d · n_b / n;
//                            m2 = m2_a + m2_b + d² · n_a · n_b / n
//
// Values are taken relative to the channel's first one: of numbers that lie close together far from zero, a
// running mean in f32 would lose what the variance is made of. Any value of the set serves: of n values, the
// square of its distance from the mean is at most n times the variance.
//
// A set is vec3f(n, mean - shift, m2). Sets of a channel are numbered: its elements, j = o · inner + i, in
// the first dispatch, and partials [channels][segments] in a finish. Sets are dealt to `segments` by turns:
// segment s takes s, s + segments, …. With one segment results go straight to the outputs, else to partials,
// which a finish dispatch joins in order.
//
// Entries: threads, one thread per (channel, segment), for software adapters, where barriers are expensive;
//            the naive reference has as few segments as llvmpipe's limit of 65,535 loop iterations a thread
//            allows.
//          groups, one workgroup of 256 per (channel, segment) with a tree in shared memory.
// Dispatch: threads ceil(channels · segments / 64) of 64; groups channels · segments of 256; folded into two
// dimensions.
// Shared memory: 256 · 16 bytes.
// Bindings: 0 params, 1 x, 2 mean, 3 variance; 1 x, 2 partials before a finish; 1 x, 2 mean, 3 variance, 4
// partials in it. The host replaces the marked sections accordingly; what stands here is the form with one
// segment.

struct Params { channels: u32, inner: u32, sets: u32, segments: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;

fn shift_of(channel: u32) -> f32 { return x[channel * params.inner]; }

//#source
fn set_at(channel: u32, j: u32, shift: f32) -> vec3f {
    let at = (j / params.inner * params.channels + channel) * params.inner + j % params.inner;
    return vec3f(1.0, x[at] - shift, 0.0);
}
//#end

//#target
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;

fn store(channel: u32, segment: u32, stats: vec3f) {
    mean[channel] = shift_of(channel) + stats.y;
    variance[channel] = stats.z / stats.x;
}
//#end

fn join(a: vec3f, b: vec3f) -> vec3f {
    let n = a.x + b.x;
    if n == 0.0 { return a; }
    let d = b.y - a.y;
    let share = b.x / n;
    return vec3f(n, a.y + d * share, a.z + b.z + d * d * (a.x * share));
}

/// Sets `first, first + step, …` of a channel.
fn walk(channel: u32, first: u32, step: u32) -> vec3f {
    let shift = shift_of(channel);
    var stats = vec3f(0.0);
    for (var j = first; j < params.sets; j += step) {
        stats = join(stats, set_at(channel, j, shift));
    }
    return stats;
}

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn threads(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    let channel = i / params.segments;
    let segment = i % params.segments;
    if channel >= params.channels { return; }
    store(channel, segment, walk(channel, segment, params.segments));
}

var<workgroup> lanes: array<vec3f, 256>;

@compute @workgroup_size(256)
fn groups(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x + group.y * groups.x;
    let channel = i / params.segments;
    let segment = i % params.segments;
    if channel >= params.channels { return; } // the whole workgroup together
    lanes[lane] = walk(channel, segment * 256u + lane, params.segments * 256u);
    for (var width = 128u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width { lanes[lane] = join(lanes[lane], lanes[lane + width]); }
    }
    if lane == 0u { store(channel, segment, lanes[0]); }
}
