// conv_direct.wgsl: conv_transpose for 4 x 4 kernels at stride 2 onto an image of at most four channels:
// tiles of a matrix product would waste nearly all of their rows there, and finding an address for each
// multiply-add would take longer than the multiply-add.
//
//   x[n, ci, 2·g + f - pad] = epilogue(sum over co, t = 0, 1 of y[n, co, g - t] · w[co, ci, f + 2·t])
//   along both axes, f = 0, 1
//
// Tile: a thread owns the 4 x 4 pixels of g = 2·place and 2·place + 1 of all CI channels. They see the same 3
// x 3 values of y, whose offsets and whether they lie inside are found once: for every co 9 loads and CI · 64
// multiply-adds. The weights are the same for all threads, so that hardware loads them into scalar registers.
// Dispatch: ceil(batch · places_h · places_w / 64) workgroups of 64, folded into two dimensions; there are
// places wherever x goes on beyond y. Shared memory: none. Bindings: 0 params, 1 y, 2 w, 3 out, 4.. epilogue
// operands.

struct Params {
    batch: u32, co: u32, x_h: u32, x_w: u32,
    y_h: u32, y_w: u32, pad_h: u32, pad_w: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<vec4f>; // [co, ci, row of taps]
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

override HALF_B: bool = false; // w is stored in halves

/// Row i of taps: a line of its own, or a half of one.
fn taps(i: u32) -> vec4f {
    if !HALF_B { return w[i]; }
    let words = bitcast<vec4u>(w[i / 2u]);
    let pair = select(words.xy, words.zw, i % 2u == 1u);
    return vec4f(unpack2x16float(pair.x), unpack2x16float(pair.y));
}

//#use shared/epilogue.wgsl

//#tile
const CI: u32 = 1u; // channels of x
//#end

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
    let places_h = (params.x_h + params.pad_h + 3u) / 4u;
    let places_w = (params.x_w + params.pad_w + 3u) / 4u;
    let place_w = id % places_w;
    let place_h = id / places_w % places_h;
    let image = id / places_w / places_h;
    if image >= params.batch { return; }

    var offset: array<array<u32, 3>, 3>;
    var inside: array<array<bool, 3>, 3>;
    for (var r = 0u; r < 3u; r++) {
        for (var c = 0u; c < 3u; c++) {
            // Before the first value the difference wraps to a large number, so one comparison checks both
            // ends.
            let h = 2u * place_h + r - 1u;
            let v = 2u * place_w + c - 1u;
            inside[r][c] = (h < params.y_h) & (v < params.y_w);
            offset[r][c] = select(0u, h * params.y_w + v, inside[r][c]);
        }
    }
    var acc: array<array<array<f32, 4>, 4>, CI>; // [channel][row][column]
    for (var co = 0u; co < params.co; co++) {
        let plane = (image * params.co + co) * params.y_h * params.y_w;
        var values: array<array<f32, 3>, 3>;
        for (var r = 0u; r < 3u; r++) {
            for (var c = 0u; c < 3u; c++) {
                values[r][c] = select(0.0, y[plane + offset[r][c]], inside[r][c]);
            }
        }
        for (var ci = 0u; ci < CI; ci++) {
            for (var r = 0u; r < 4u; r++) {
                // Rows of phase r%2 at g = 2·place + r/2: taps f see y[g], row 1 + r/2 of values, and taps
                // f + 2 see y[g - 1].
                let here = taps((co * CI + ci) * 4u + r % 2u);
                let back = taps((co * CI + ci) * 4u + r % 2u + 2u);
                for (var c = 0u; c < 4u; c++) {
                    var sum = acc[ci][r][c];
                    sum = fma(here[c % 2u], values[1u + r / 2u][1u + c / 2u], sum);
                    sum = fma(here[c % 2u + 2u], values[1u + r / 2u][c / 2u], sum);
                    sum = fma(back[c % 2u], values[r / 2u][1u + c / 2u], sum);
                    acc[ci][r][c] = fma(back[c % 2u + 2u], values[r / 2u][c / 2u], sum);
                }
            }
        }
    }
    for (var ci = 0u; ci < CI; ci++) {
        for (var r = 0u; r < 4u; r++) {
            for (var c = 0u; c < 4u; c++) {
                let h = 4u * place_h + r - params.pad_h;
                let v = 4u * place_w + c - params.pad_w;
                if h < params.x_h && v < params.x_w {
                    let index = ((image * CI + ci) * params.x_h + h) * params.x_w + v;
                    out[index] = epilogue(acc[ci][r][c], ci, index);
                }
            }
        }
    }
}
