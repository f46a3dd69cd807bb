// gemm_tile_f16.wgsl: the product of gemm_tile.wgsl with operands rounded to halves and packed multiply-adds,
// two a lane and instruction on hardware that has them. Operands, sums and outputs in memory stay f32. Its
// operands are found through the functions between //#operands and //#end: plain strides here; conv.wgsl in
// their place makes it an implicit-GEMM convolution (no im2col buffer).
//
//   out[slice, i, j] = epilogue(sum over k of A[i, k] · B[k, j])
//
// Range: an operand is multiplied by a power of two of gemm_scales.wgsl before it is rounded, and the sum
// divided by it: one power for all of it, or one for each line of A (A_OWN) or for each outermost digit of
// the columns of B (B_OWN), which is an image.
//
// Sums: 8 products are added in halves, so that they stay packed, and such sums in f32. What a chain of
// halves loses is 2^-11 of its largest partial sum at each of its steps.
//
// Tile: as in gemm_tile.wgsl, 32 inner values deep, in as much shared memory: 2 · 32 · (2·R + 1) · 8 bytes,
// and 512 of scales.
//
// Split-K: as in gemm_tile.wgsl.
//
// Dispatch: row_tiles · col_tiles · splits · slices workgroups, folded into two dimensions; columns run
// fastest. Bindings: 0 params, 1 a, 2 b, 3 out (or scratch), 4 scales, 5.. epilogue operands.

enable f16;

//#operands
//#use shared/product.wgsl

//#use shared/strides.wgsl
//#end

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> scales: array<f32>;

//#use shared/a_at.wgsl
//#use shared/b_at.wgsl

//#use shared/epilogue.wgsl

override A_BASE: u32 = 0u; // where the scales of A begin
override B_BASE: u32 = 0u; // and those of B
override A_OWN: bool = false; // each row of A has a scale
override B_OWN: bool = false; // each image of B has one
override A_SLICES: bool = false; // each slice of A has its own scales
override B_SLICES: bool = false; // and each of B

//#tile
const R: u32 = 8u; // rows and columns per thread
//#end
const PIECES: u32 = 256u; // scales of an operand that has one for all of it
const WIDE: u32 = R / 4u; // quads per thread
const DEPTH: u32 = 32u; // inner values in a tile
const CHAIN: u32 = 8u; // products that are added in halves
const LINE: u32 = 2u * R + 1u; // quads from one inner value to the next
var<workgroup> tile_a: array<vec4<f16>, DEPTH * LINE>;
var<workgroup> tile_b: array<vec4<f16>, DEPTH * LINE>;
var<workgroup> scale_a: array<vec4f, 2u * R>; // of each row of the tile
var<workgroup> scale_b: array<vec4f, 2u * R>; // of each column
var<workgroup> smallest: array<vec2f, 64>; // of A and of B, as far as one lane looked

/// Where the scales of a slice begin: `lines` are those of one slice where each has its own.
fn first_scale(base: u32, sliced: bool, slice: u32, own: bool, lines: u32) -> u32 {
    return base + select(0u, slice * select(PIECES, lines, own), sliced);
}

//#use shared/store.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let edge = 8u * R;
    let col_tiles = (params.cols + edge - 1u) / edge;
    let row_tiles = (params.rows + edge - 1u) / edge;
    let id = group.x + group.y * groups.x;
    let col0 = id % col_tiles * edge;
    let row0 = id / col_tiles % row_tiles * edge;
    let split = id / (col_tiles * row_tiles) % params.splits;
    let slice = id / (col_tiles * row_tiles) / params.splits;
    if slice >= params.slices { return; }
    let s = slice_at(slice);
    if col0 >= s.cols { return; }
    let chunk = ((s.inner + params.splits - 1u) / params.splits + DEPTH - 1u) / DEPTH * DEPTH;
    let first = min(split * chunk, s.inner);
    let last = min(first + chunk, s.inner);

    // The scales of the tile's rows and columns.
    let a_scales = first_scale(A_BASE, A_SLICES, slice, A_OWN, params.rows);
    let b_scales = first_scale(B_BASE, B_SLICES, slice, false, 0u);
    var found = vec2f(bitcast<f32>(0x7f000000u));
    for (var i = lane; i < PIECES; i += 64u) {
        if !A_OWN { found.x = min(found.x, scales[a_scales + i]); }
        if !B_OWN { found.y = min(found.y, scales[b_scales + i]); }
    }
    smallest[lane] = found;
    workgroupBarrier();
    for (var i = 0u; i < 64u; i++) { found = min(found, smallest[i]); }
    if lane < 2u * R {
        var of_rows = vec4f(found.x);
        var of_cols = vec4f(found.y);
        for (var i = 0u; i < 4u; i++) {
            let line = 4u * lane + i;
            if A_OWN { of_rows[i] = scales[a_scales + min(row0 + line, params.rows - 1u)]; }
            if B_OWN { of_cols[i] = scales[b_scales + image(s, min(col0 + line, s.cols - 1u))]; }
        }
        scale_a[lane] = of_rows;
        scale_b[lane] = of_cols;
    }
    workgroupBarrier();

    // Loading roles: this thread's four columns of B, and its place among the inner values of both tiles.
    let quads = edge / 4u;
    let load_col = lane % quads;
    let load_line = lane / quads;
    var cols: array<Col, 4>;
    for (var j = 0u; j < 4u; j++) { cols[j] = col_at(s, min(col0 + 4u * load_col + j, s.cols - 1u)); }
    // A thread of A keeps its inner value for all of its rows, one of B walks the tile in steps of 64/quads.
    let lines = 64u / quads;
    let a_step = inner_at(s, DEPTH);
    let b_step = inner_at(s, lines);
    var a_inner = inner_at(s, first + lane % DEPTH);
    var b_inner = inner_at(s, first + load_line);
    let a_quad0 = lane / DEPTH; // its first quad of rows
    let a_first = a_row(s, row0 + 4u * a_quad0);
    let a_last = arrayLength(&a) * select(1u, 2u, HALF_A) - 1u;

    // Computing roles: quads tx, tx + 8 of the columns and ty, ty + 8 of the rows.
    let tx = lane % 8u;
    let ty = lane / 8u;
    // The lengths of these arrays are the trip counts of the loops over them: drivers unroll such loops and
    // keep the elements in registers.
    var acc: array<array<array<vec4f, WIDE>, 4>, WIDE>; // [quad of rows][row][quad of columns]
    for (var k0 = first; k0 < last; k0 += DEPTH) {
        // Inner values from `last` on are zeros in both tiles, as in gemm_tile.wgsl.
        let left = last - k0;
        let a_live = lane % DEPTH < left;
        for (var p = 0u; p < R; p++) {
            let quad = 64u / DEPTH * p; // behind the first
            var value = vec4f();
            for (var i = 0u; i < 4u; i++) {
                let at = min(a_first + a_inner.a + (4u * quad + i) * a_row_step(), a_last);
                value[i] = select(0.0, a_at(at), a_live);
            }
            tile_a[lane % DEPTH * LINE + a_quad0 + quad] = vec4<f16>(value * scale_a[a_quad0 + quad]);
        }
        a_inner = inner_add(s, a_inner, a_step);
        for (var p = 0u; p < R; p++) {
            let line = load_line + lines * p;
            let live = line < left;
            var value = vec4f();
            for (var j = 0u; j < 4u; j++) {
                let inside = live & b_inside(b_inner, cols[j]);
                value[j] = select(0.0, b_at(select(0u, b_offset(s, b_inner, cols[j]), inside)), inside);
            }
            tile_b[line * LINE + load_col] = vec4<f16>(value * scale_b[load_col]);
            b_inner = inner_add(s, b_inner, b_step);
        }
        workgroupBarrier();
        for (var chain = 0u; chain < min(DEPTH, left); chain += CHAIN) {
            // Through arrays as long as the chain, so that this loop is unrolled too: carried around a loop,
            // halves would be unpacked and packed again.
            var sums: array<array<array<vec4<f16>, WIDE>, 4>, WIDE>;
            var a_quads: array<array<vec4<f16>, WIDE>, CHAIN>;
            var b_quads: array<array<vec4<f16>, WIDE>, CHAIN>;
            for (var k = 0u; k < CHAIN; k++) {
                for (var u = 0u; u < WIDE; u++) {
                    a_quads[k][u] = tile_a[(chain + k) * LINE + ty + 8u * u];
                    b_quads[k][u] = tile_b[(chain + k) * LINE + tx + 8u * u];
                }
                for (var u = 0u; u < WIDE; u++) {
                    for (var i = 0u; i < 4u; i++) {
                        for (var v = 0u; v < WIDE; v++) {
                            sums[u][i][v] = fma(vec4<f16>(a_quads[k][u][i]), b_quads[k][v], sums[u][i][v]);
                        }
                    }
                }
            }
            for (var u = 0u; u < WIDE; u++) {
                for (var i = 0u; i < 4u; i++) {
                    for (var v = 0u; v < WIDE; v++) { acc[u][i][v] += vec4f(sums[u][i][v]); }
                }
            }
        }
        workgroupBarrier();
    }

    for (var v = 0u; v < WIDE; v++) {
        for (var j = 0u; j < 4u; j++) {
            let number = col0 + 4u * (tx + 8u * v) + j;
            let col = col_at(s, min(number, s.cols - 1u));
            for (var u = 0u; u < WIDE; u++) {
                for (var i = 0u; i < 4u; i++) {
                    // One after the other: the product of both may be out of range.
                    let value = acc[u][i][v][j] / scale_a[ty + 8u * u][i] / scale_b[tx + 8u * v][j];
                    store(s, slice, split, row0 + 4u * (ty + 8u * u) + i, number, col, value);
                }
            }
        }
    }
}
