// conv_winograd.wgsl: 4 x 4 convolutions at stride 2, their transposes and weight gradients by Winograd's
// F(2x2, 2x2).
//
// Such a convolution is a sum over four phases (the parities of the taps) of 2 x 2-tap convolutions at stride
// 1, and two neighbouring outputs of a pair of taps f, y0 = d0·f0 + d1·f1 and y1 = d1·f0 + d2·f1, take three
// products and not four:
//
//   y = At [(G f) ∘ (Bt d)]    Bt = [1 -1 0; 0 1 0; 0 1 -1]    G = [1 0; 1 1; 0 1]    At = [1 1 0; 0 1 -1]
//
// Along both axes: 9 products for 16, of transforms that only add. The products of all phases and channels
// are 9 matrix products, slices of one launch. The other faces are the same trilinear form read the other
// ways:
//
//   face         9 products [row, inner] · [inner, col]    before                      after
//   0 conv       [co, (ci, phase)] · [(ci, phase), tile]   taps G w Gt, data Bt x B    output At m A
//   1 transpose  [(ci, phase), co] · [co, tile]            taps, gradient A y At       image B m Bt, added
//   2 weight     [co, tile] · [tile, (ci, phase)]          gradient, data              weights Gt m G
//
// A tile is 2 x 2 outputs y of one image; of each phase it sees 3 x 3 pixels x[4·tile + 2·r + phase - pad],
// r = 0, 1, 2. taps, data and gradient write operands in the form of gemm_packed.wgsl. The section
// //#operands tells the products where those values and the sums are; gemm_tile.wgsl steps through the inner
// index by multiples of 4, which keeps k%4.
//
// Dispatch: a thread per line and quad of inner values (before), per quad of rows and column or position
// (after), in workgroups of 64, folded into two dimensions. Shared memory: none.
// Bindings: 0 params, 1 source and 2 lines (before), 1 sums and 2 out, 3.. epilogue operands (after).

//#operands
struct Params {
    rows: u32, cols: u32, inner: u32, slices: u32,
    splits: u32, face: u32, batch: u32, ci: u32,
    co: u32, tiles_h: u32, tiles_w: u32, x_h: u32,
    x_w: u32, y_h: u32, y_w: u32, pad_h: u32,
    // Where the sums are: vec4 sums_start, [split, slice, quad of rows, col].
    pad_w: u32, sums_start: u32, sums_quads: u32, sums_cols: u32,
}
@group(0) @binding(0) var<uniform> params: Params;

struct Slice { cols: u32, inner: u32, number: u32 }
struct Inner { a: u32, b: u32, k: u32 }
struct Col { b: u32, number: u32 }

/// First element of a line's block.
fn block_at(slice: u32, lines: u32, line: u32) -> u32 {
    return (slice * ((lines + 63u) / 64u) + line / 64u) * ((params.inner + 3u) / 4u) * 256u + line % 64u * 4u;
}
fn slice_at(i: u32) -> Slice { return Slice(params.cols, params.inner, i); }
fn inner_at(s: Slice, k: u32) -> Inner {
    let at = k / 4u * 256u + k % 4u;
    return Inner(at, at, k);
}
fn inner_add(s: Slice, k: Inner, step: Inner) -> Inner { return inner_at(s, k.k + step.k); }
fn col_at(s: Slice, j: u32) -> Col { return Col(block_at(s.number, params.cols, j), j); }
fn a_row(s: Slice, row: u32) -> u32 { return block_at(s.number, params.rows, row); }
fn a_row_step() -> u32 { return 4u; } // within a block
fn b_offset(s: Slice, k: Inner, col: Col) -> u32 { return k.b + col.b; }
fn b_inside(k: Inner, col: Col) -> bool { return true; }
fn out_offset(s: Slice, row: u32, col: Col) -> u32 {
    return ((s.number * ((params.rows + 3u) / 4u) + row / 4u) * params.cols + col.number) * 4u + row % 4u;
}
fn channel(row: u32, col: Col) -> u32 { return row; }
//#end

@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> lines: array<vec4f>;

//#use shared/source_at.wgsl

@group(0) @binding(1) var<storage, read> sums: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

//#use shared/epilogue.wgsl

struct Tile { image: u32, h: u32, w: u32 }

fn tiles() -> u32 { return params.batch * params.tiles_h * params.tiles_w; }

fn tile_at(i: u32) -> Tile {
    let row = i / params.tiles_w;
    return Tile(row / params.tiles_h, row % params.tiles_h, i % params.tiles_w);
}

/// Bt d B, four at once.
fn transform_data(d: array<vec4f, 9>) -> array<vec4f, 9> {
    var rows: array<vec4f, 9>;
    for (var i = 0u; i < 3u; i++) {
        rows[i] = d[i] - d[3u + i];
        rows[3u + i] = d[3u + i];
        rows[6u + i] = d[3u + i] - d[6u + i];
    }
    var t: array<vec4f, 9>;
    for (var i = 0u; i < 3u; i++) {
        t[3u * i] = rows[3u * i] - rows[3u * i + 1u];
        t[3u * i + 1u] = rows[3u * i + 1u];
        t[3u * i + 2u] = rows[3u * i + 1u] - rows[3u * i + 2u];
    }
    return t;
}

/// G f Gt.
fn transform_filter(f: array<vec4f, 4>) -> array<vec4f, 9> {
    let below = array<vec4f, 2>(f[0] + f[2], f[1] + f[3]);
    return array<vec4f, 9>(
        f[0], f[0] + f[1], f[1], below[0], below[0] + below[1], below[1], f[2], f[2] + f[3], f[3],
    );
}

/// A y At.
fn transform_gradient(y: array<vec4f, 4>) -> array<vec4f, 9> {
    let below = array<vec4f, 2>(y[0] + y[2], y[1] + y[3]);
    return array<vec4f, 9>(
        y[0], y[0] + y[1], -y[1], below[0], below[0] + below[1], -below[1], -y[2], -y[2] - y[3], y[3],
    );
}

fn store_lines(count: u32, quads: u32, line: u32, quad: u32, values: array<vec4f, 9>) {
    let blocks = (count + 63u) / 64u;
    for (var slice = 0u; slice < 9u; slice++) {
        lines[((slice * blocks + line / 64u) * quads + quad) * 64u + line % 64u] = values[slice];
    }
}

/// Bt x B. Faces conv and weight: lines are tiles with the phases of a channel in a quad, or phases with four tiles in it.
//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn data(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
    let weight = params.face == 2u;
    let count = select(params.cols, 4u * params.ci, weight);
    let quads = (params.inner + 3u) / 4u;
    let line = id % count;
    let quad = id / count;
    if quad >= quads { return; }
    var d: array<vec4f, 9>;
    for (var i = 0u; i < 4u; i++) {
        let channel = select(quad, line / 4u, weight);
        let phase = select(i, line % 4u, weight);
        let number = select(line, 4u * quad + i, weight);
        let t = tile_at(min(number, tiles() - 1u));
        let plane = (t.image * params.ci + channel) * params.x_h * params.x_w;
        for (var r = 0u; r < 3u; r++) {
            for (var c = 0u; c < 3u; c++) {
                // Before the first pixel the difference wraps to a large number, so one comparison checks
                // both ends.
                let h = 4u * t.h + 2u * r + phase / 2u - params.pad_h;
                let w = 4u * t.w + 2u * c + phase % 2u - params.pad_w;
                let inside = (number < tiles()) & (h < params.x_h) & (w < params.x_w);
                d[3u * r + c][i] = select(0.0, source[select(0u, plane + h * params.x_w + w, inside)], inside);
            }
        }
    }
    store_lines(count, quads, line, quad, transform_data(d));
}

/// G w Gt. Face conv: lines are co with the phases of a ci in a quad; face transpose: lines are (ci, phase) with four co in it.
@compute @workgroup_size(64)
fn taps(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
    let transpose = params.face == 1u;
    let quads = (params.inner + 3u) / 4u;
    let line = id % params.rows;
    let quad = id / params.rows;
    if quad >= quads { return; }
    var f: array<vec4f, 4>;
    for (var i = 0u; i < 4u; i++) {
        let co = select(line, 4u * quad + i, transpose);
        let ci = select(quad, line / 4u, transpose);
        let phase = select(i, line % 4u, transpose);
        let live = co < params.co;
        let start = (co * params.ci + ci) * 16u + phase / 2u * 4u + phase % 2u;
        for (var r = 0u; r < 2u; r++) {
            for (var c = 0u; c < 2u; c++) {
                f[2u * r + c][i] = select(0.0, source_at(select(0u, start + 8u * r + 2u * c, live)), live);
            }
        }
    }
    store_lines(params.rows, quads, line, quad, transform_filter(f));
}

/// A y At. Face transpose: lines are tiles with four co in a quad; face weight: lines are co with four tiles in it.
@compute @workgroup_size(64)
fn gradient(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
    let weight = params.face == 2u;
    let count = select(params.cols, params.co, weight);
    let quads = (params.inner + 3u) / 4u;
    let line = id % count;
    let quad = id / count;
    if quad >= quads { return; }
    var y: array<vec4f, 4>;
    for (var i = 0u; i < 4u; i++) {
        let co = select(4u * quad + i, line, weight);
        let number = select(line, 4u * quad + i, weight);
        let t = tile_at(min(number, tiles() - 1u));
        let plane = (t.image * params.co + co) * params.y_h * params.y_w;
        for (var r = 0u; r < 2u; r++) {
            for (var c = 0u; c < 2u; c++) {
                let h = 2u * t.h + r;
                let w = 2u * t.w + c;
                let inside = (number < tiles()) & (co < params.co) & (h < params.y_h) & (w < params.y_w);
                y[2u * r + c][i] = select(0.0, source[select(0u, plane + h * params.y_w + w, inside)], inside);
            }
        }
    }
    store_lines(count, quads, line, quad, transform_gradient(y));
}

/// The nine products of four rows and a column, chunks added in order.
fn products_at(quad: u32, col: u32) -> array<vec4f, 9> {
    var all: array<vec4f, 9>;
    for (var split = 0u; split < params.splits; split++) {
        for (var slice = 0u; slice < 9u; slice++) { all[slice] += sum_at(split, slice, quad, col); }
    }
    return all;
}

/// A chunk's sums of four rows of a product.
fn sum_at(split: u32, slice: u32, quad: u32, col: u32) -> vec4f {
    return sums[params.sums_start + ((split * 9u + slice) * params.sums_quads + quad) * params.sums_cols + col];
}

/// At m A of four co and one tile.
@compute @workgroup_size(64)
fn output(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
    let col = id % params.cols;
    let quad = id / params.cols;
    if quad >= (params.rows + 3u) / 4u { return; }
    let m = products_at(quad, col);
    let t = tile_at(col);
    for (var r = 0u; r < 2u; r++) {
        var row: array<vec4f, 3>;
        for (var c = 0u; c < 3u; c++) { row[c] = select(m[3u + c] - m[6u + c], m[c] + m[3u + c], r == 0u); }
        let left = row[0] + row[1];
        let right = row[1] - row[2];
        let h = 2u * t.h + r;
        for (var i = 0u; i < 4u; i++) {
            let co = 4u * quad + i;
            let index = ((t.image * params.co + co) * params.y_h + h) * params.y_w + 2u * t.w;
            if co < params.co && h < params.y_h {
                out[index] = epilogue(left[i], co, index);
                if 2u * t.w + 1u < params.y_w { out[index + 1u] = epilogue(right[i], co, index + 1u); }
            }
        }
    }
}

/// B m Bt of one ci: the 4 x 4 pixels of a position, 2 x 2 of each phase, from 4 x 4 products: nine of its tile, and behind them the
/// last ones of the tiles above and to the left, which overlap. There are positions beyond the last tile wherever x goes on.
@compute @workgroup_size(64)
fn image(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
    let places_h = (params.x_h + params.pad_h + 3u) / 4u;
    let places_w = (params.x_w + params.pad_w + 3u) / 4u;
    let w = id % places_w;
    let h = id / places_w % places_h;
    let ci = id / places_w / places_h % params.ci;
    let image = id / places_w / places_h / params.ci;
    if image >= params.batch { return; }
    // Its own tile, the one to the left, the one above, and the one to the left of that.
    var col: array<u32, 4>;
    var inside: array<bool, 4>;
    for (var i = 0u; i < 4u; i++) {
        let tile_h = h - i / 2u;
        let tile_w = w - i % 2u;
        inside[i] = (tile_h < params.tiles_h) & (tile_w < params.tiles_w);
        col[i] = select(0u, (image * params.tiles_h + tile_h) * params.tiles_w + tile_w, inside[i]);
    }
    var m: array<vec4f, 16>; // four phases each
    for (var split = 0u; split < params.splits; split++) {
        for (var e = 0u; e < 16u; e++) {
            let tile = e / 12u * 2u + e % 4u / 3u;
            let sum = sum_at(split, 3u * min(e / 4u, 2u) + min(e % 4u, 2u), ci, col[tile]);
            m[e] += select(vec4f(), sum, inside[tile]);
        }
    }
    var rows: array<vec4f, 8>;
    for (var e = 0u; e < 4u; e++) {
        rows[e] = m[e] - m[12u + e];
        rows[4u + e] = m[4u + e] + m[8u + e] - m[e];
    }
    for (var a = 0u; a < 2u; a++) {
        let first = rows[4u * a];
        let left = first - rows[4u * a + 3u];
        let right = rows[4u * a + 1u] + rows[4u * a + 2u] - first;
        for (var phase = 0u; phase < 4u; phase++) {
            let x_h = 4u * h + 2u * a + phase / 2u - params.pad_h;
            let x_w = 4u * w + phase % 2u - params.pad_w;
            let index = ((image * params.ci + ci) * params.x_h + x_h) * params.x_w + x_w;
            if x_h < params.x_h {
                if x_w < params.x_w { out[index] = epilogue(left[phase], ci, index); }
                if x_w + 2u < params.x_w { out[index + 2u] = epilogue(right[phase], ci, index + 2u); }
            }
        }
    }
}

/// Gt m G: the four taps of one phase, for four co.
@compute @workgroup_size(64)
fn weights(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
    let col = id % params.cols;
    let quad = id / params.cols;
    if quad >= (params.rows + 3u) / 4u { return; }
    let m = products_at(quad, col);
    for (var r = 0u; r < 2u; r++) {
        var row: array<vec4f, 3>;
        for (var c = 0u; c < 3u; c++) { row[c] = select(m[3u + c] + m[6u + c], m[c] + m[3u + c], r == 0u); }
        let left = row[0] + row[1];
        let right = row[1] + row[2];
        for (var i = 0u; i < 4u; i++) {
            let co = 4u * quad + i;
            if co < params.co {
                let tap = (col % 4u / 2u + 2u * r) * 4u + col % 2u;
                let index = (co * params.ci + col / 4u) * 16u + tap;
                out[index] = left[i];
                out[index + 2u] = right[i];
            }
        }
    }
}
