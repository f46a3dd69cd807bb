// peak_fma.wgsl: how fast the adapter multiplies and adds. Not part of any program; `bench` and `profile`
// measure with it.
//
//   out[i] = sum of eight sums of thread i, each after 4 * rounds of: sum = sum * factor + shift
//
// The eight sums, two vec4f, wait for nothing but themselves, so that they hide the latency of the
// multiply-add units, and fit the registers of every processor; no memory is touched until the end. factor
// and shift are parameters: a compiler cannot fold the loop. Four steps a round make the loop itself cheap
// where lanes are emulated.
// FLOP: 2 * 32 * rounds a thread. llvmpipe ends a thread after 65,535 rounds.
//
// Dispatch: threads / 64 workgroups of 64; threads is the length of out. Shared memory: none.
// Bindings: 0 params, 1 out [threads].

struct Params { rounds: u32, factor: f32, shift: f32, len: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let i = id.x;
    if i >= params.len { return; }
    let factor = vec4f(params.factor);
    let shift = vec4f(params.shift);
    var a = vec4f(f32(i));
    var b = a + 1.0;
    for (var round = 0u; round < params.rounds; round++) {
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
        a = fma(a, factor, shift);
        b = fma(b, factor, shift);
    }
    out[i] = dot(a + b, vec4f(1.0));
}
