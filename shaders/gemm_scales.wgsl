// gemm_scales.wgsl: powers of two that bring the operands of gemm_tile_f16.wgsl into the range of halves, so
// that small gradients do not vanish and nothing overflows.
//
// An operand is a number of lines, of numbers that lie together, and a line is cut into pieces, each with a
// scale: one piece where each line has a scale of its own (rows of a matrix, images of a batch), so that what
// is made of one does not depend on the others; many where it is the operand, whose scale is the smallest of
// theirs. The largest number of a piece times its scale lies between 16 and 32: eight products then add up to
// 8,192 at most.
//
// Dispatch: the pieces of all lines of a, then of b, each a workgroup of 256, folded into two dimensions.
// Shared memory: 1024 bytes.
// Bindings: 0 params, 1 a, 2 b, 3 scales: those of a from a_base on, those of b from b_base on.

struct Params {
    a_lines: u32, a_line: u32, a_pieces: u32, a_base: u32,
    b_lines: u32, b_line: u32, b_pieces: u32, b_base: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

//#use shared/a_at.wgsl
//#use shared/b_at.wgsl

const LANES: u32 = 256u;
var<workgroup> peaks: array<f32, LANES>;

/// The power of two, from 2^-96 to 2^96, that brings `peak` to 16 or more and below 32.
fn scale_of(peak: f32) -> f32 {
    let exponent = bitcast<u32>(peak) >> 23u; // with a bias of 127
    return bitcast<f32>(clamp(258u - exponent, 31u, 223u) << 23u);
}

/// |value|, or 0 where that is not finite: it stays so at any scale, and the others are not lost beside it.
fn size(value: f32) -> f32 {
    return select(0.0, abs(value), abs(value) <= 0x1.fffffep+127f);
}

/// Where a piece begins and ends, of lines of `line` numbers.
fn span(piece: u32, line: u32, pieces: u32) -> vec2u {
    let len = (line + pieces - 1u) / pieces;
    let start = piece / pieces * line;
    return vec2u(start + min(piece % pieces * len, line), start + min((piece % pieces + 1u) * len, line));
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = group.x + group.y * groups.x;
    let of_a = params.a_lines * params.a_pieces;
    if id >= of_a + params.b_lines * params.b_pieces { return; }
    var peak = 0.0;
    if id < of_a {
        let range = span(id, params.a_line, params.a_pieces);
        for (var i = range.x + lane; i < range.y; i += LANES) { peak = max(peak, size(a_at(i))); }
    } else {
        let range = span(id - of_a, params.b_line, params.b_pieces);
        for (var i = range.x + lane; i < range.y; i += LANES) { peak = max(peak, size(b_at(i))); }
    }
    peaks[lane] = peak;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { peaks[lane] = max(peaks[lane], peaks[lane + half]); }
    }
    if lane == 0u { scales[select(params.b_base + id - of_a, params.a_base + id, id < of_a)] = scale_of(peaks[0]); }
}
