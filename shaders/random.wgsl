// random.wgsl: counter-based random numbers by Philox 4×32-10 (Salmon et al. 2011).
//
//   element i = word i mod 4 of the block with counter (i / 4, stream, step, 0)
//   uniform: the top 24 bits times 2^-24, in [0, 1), the same bits on every device
//   normal:  Box–Muller on the word pairs (0, 1) and (2, 3): sqrt(-2 ln u) · (cos 2 pi v, sin 2 pi v),
//            u in (0, 1]
//
// WGSL has no 32×32→64 product, so it is built from 16-bit halves. ln, sin and cos are the polynomials of the
// CPU twin (kernels/src/expr/math.rs): the built-in ln is only good to 2^-21 near 1, where the root magnifies
// the error.
//
// Entries: naive, one element per thread; main, one block of four elements per thread.
// Dispatch: ceil(len / 64) or ceil(len / 256) workgroups of 64, folded into two dimensions. Shared memory:
// none.
// Bindings: 0 params, 1 key [2], 2 replay [1] (the step), 3 out.

struct Params { len: u32, stream: u32, normal: u32, pad: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> key: array<u32>;
@group(0) @binding(2) var<storage, read> replay: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

/// (low, high) words of a · b. With a = 2^16 a1 + a0 and b alike, the middle terms a1 b0 and a0 b1 join at 2^16.
fn product(a: u32, b: u32) -> vec2u {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u); // below 2^32: (2^16 - 1)^2 + 2^16 - 1
    let cross = a0 * b1 + (middle & 0xffffu);
    return vec2u(a * b, a1 * b1 + (middle >> 16u) + (cross >> 16u));
}

fn philox(block: u32) -> vec4u {
    var c = vec4u(block, params.stream, u32(replay[0]), 0u);
    var k = vec2u(key[0], key[1]);
    for (var round = 0; round < 10; round++) {
        let a = product(0xD2511F53u, c.x);
        let b = product(0xCD9E8D57u, c.z);
        c = vec4u(b.y ^ c.y ^ k.x, b.x, a.y ^ c.w ^ k.y, a.x);
        k += vec2u(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

const STEP: f32 = 5.9604645e-8; // 2^-24

fn unit(word: u32) -> f32 { return f32(word >> 8u) * STEP; }

/// ln u for normal u in (0, 1]: u = 2^k · (1 + f), then 2 atanh(f / (2 + f)) as f - (f²/2 - s · (f²/2 + R(s²))).
fn ln(u: f32) -> f32 {
    let bits = bitcast<i32>(u);
    let k = (bits - 0x3f3504f3) >> 23u;
    let f = bitcast<f32>(bits - (k << 23u)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * (0.66666663 + z * (0.40000895 + z * (0.28505448 + z * 0.24123351)));
    let half = 0.5 * f * f;
    let e = f32(k);
    return e * 0.6933594 + (f - (half - (s * (half + r) - e * 2.1219444e-4)));
}

/// (cos 2 pi u, sin 2 pi u): u = q/4 + f with |f| <= 1/8, polynomials in f, then the quarter turn by q.
fn cos_sin(u: f32) -> vec2f {
    let q = u32(u * 4.0 + 0.5);
    let f = u - f32(q) * 0.25;
    let z = f * f;
    let s = f * (6.2831855 + z * (-41.341663 + z * (81.59255 - z * 75.40207)));
    let c = 1.0 + z * (-19.739208 + z * (64.93932 + z * (-85.44374 + z * 59.245964)));
    let even = (q & 1u) == 0u;
    let sine = select(c, s, even);
    let cosine = select(s, c, even);
    return vec2f(
        select(cosine, -cosine, ((q + 1u) & 2u) != 0u),
        select(sine, -sine, (q & 2u) != 0u),
    );
}

fn pair(a: u32, b: u32) -> vec2f {
    // ln is never above 0 in exact arithmetic; rounding must not make the root NaN.
    return sqrt(max(-2.0 * ln(unit(a) + STEP), 0.0)) * cos_sin(unit(b));
}

fn block_of(block: u32) -> vec4f {
    let w = philox(block);
    if params.normal == 1u { return vec4f(pair(w.x, w.y), pair(w.z, w.w)); }
    return vec4f(unit(w.x), unit(w.y), unit(w.z), unit(w.w));
}

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn naive(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread(group, groups, lane);
    if i < params.len { out[i] = block_of(i / 4u)[i % 4u]; }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = thread(group, groups, lane) * 4u;
    if first >= params.len { return; }
    let values = block_of(first / 4u);
    for (var n = 0u; n < min(4u, params.len - first); n++) {
        out[first + n] = values[n];
    }
}
