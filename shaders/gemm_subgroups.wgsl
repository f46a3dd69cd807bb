// gemm_subgroups.wgsl: matrix product with register tiles whose left operand the lanes of a subgroup share:
// for adapters that run on a CPU, where a load of one lane costs as much as dozens of multiply-adds of all.
// Each lane loads one row's values and hands them to the others by a shuffle, so that a value of A is loaded
// once a subgroup and not once a lane; both operands come four inner values at a time. Its operands are found
// through the functions between //#operands and //#end: plain strides here; conv.wgsl in their place makes it
// an implicit-GEMM convolution (no im2col buffer).
//
//   sums[split, slice, i/4, j][i%4] = sum over the split's chunk of k of A[i, k] · B[k, j]
//
// Tile: a workgroup is one subgroup of LANES lanes and owns Q·LANES rows and C·LANES columns; a lane keeps C
// columns of all of the rows. Rows run fastest over the workgroups, so that a panel of B stays in cache while
// the rows pass. Whole tiles are stored without a guard; gemm_reduce.wgsl adds the chunks in order and
// applies the epilogue. Where A is used by many columns, gemm_packed.wgsl packs it first, and its section a
// replaces the one below.
//
// Needs subgroup operations and subgroups of exactly LANES lanes, a divisor of 32 and at least 4. WGSL asks
// for `enable subgroups;` here, which naga does not know yet: it takes the functions without.
// Dispatch: row_tiles · col_tiles · splits · slices workgroups of LANES, folded into two dimensions. Shared
// memory: none.
// Bindings: 0 params, 1 a, 2 b, 3 sums.

//#operands
//#use shared/product.wgsl

//#use shared/strides.wgsl
//#end

/// Four consecutive inner values from `k` on, of which those from `left` on count as zero.
struct Quad { k: u32, left: u32, inner: array<Inner, 4> }

//#a
@group(0) @binding(1) var<storage, read> a: array<f32>;

//#use shared/a_at.wgsl

fn load_a(s: Slice, slice: u32, row: u32, quad: Quad) -> vec4f {
    let start = a_row(s, min(row, params.rows - 1u));
    var value = vec4f();
    for (var i = 0u; i < 4u; i++) {
        let live = i < quad.left;
        value[i] = select(0.0, a_at(select(0u, start + quad.inner[i].a, live)), live);
    }
    return value;
}
//#end

//#b
@group(0) @binding(2) var<storage, read> b: array<f32>;

//#use shared/b_at.wgsl

fn load_b(s: Slice, slice: u32, j: u32, col: Col, quad: Quad) -> vec4f {
    var value = vec4f();
    for (var i = 0u; i < 4u; i++) {
        let inside = (i < quad.left) & b_inside(quad.inner[i], col);
        value[i] = select(0.0, b_at(select(0u, b_offset(s, quad.inner[i], col), inside)), inside);
    }
    return value;
}
//#end

@group(0) @binding(3) var<storage, read_write> sums: array<vec4f>;

//#tile
const LANES: u32 = 8u;
const Q: u32 = 4u; // rows per lane that it loads
const C: u32 = 8u; // columns per lane that it keeps
//#end
const ROWS: u32 = Q * LANES;
const COLS: u32 = C * LANES;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let id = group.x + group.y * groups.x;
    let row_tiles = (params.rows + ROWS - 1u) / ROWS;
    let col_tiles = (params.cols + COLS - 1u) / COLS;
    let row0 = id % row_tiles * ROWS;
    let col0 = id / row_tiles % col_tiles * COLS;
    let split = id / row_tiles / col_tiles % params.splits;
    let slice = id / row_tiles / col_tiles / params.splits;
    // All lanes leave or none: a shuffle from a lane that has left would be undefined.
    if slice >= params.slices { return; }
    let s = slice_at(slice);
    if col0 >= s.cols { return; }
    let chunk = ((s.inner + params.splits - 1u) / params.splits + 3u) / 4u * 4u;
    let first = min(split * chunk, s.inner);
    let last = min(first + chunk, s.inner);

    // The lengths of these arrays are the trip counts of the loops over them: drivers unroll such loops and
    // keep the elements in registers.
    var cols: array<Col, C>;
    for (var j = 0u; j < C; j++) { cols[j] = col_at(s, min(col0 + j * LANES + lane, s.cols - 1u)); }
    var quad: Quad;
    for (var i = 0u; i < 4u; i++) { quad.inner[i] = inner_at(s, first + i); }
    let step = inner_at(s, 4u);
    var acc: array<array<array<f32, C>, LANES>, Q>;
    for (var k = first; k < last; k += 4u) {
        quad.k = k;
        quad.left = last - k;
        var b_quads: array<vec4f, C>;
        for (var j = 0u; j < C; j++) { b_quads[j] = load_b(s, slice, col0 + j * LANES + lane, cols[j], quad); }
        for (var q = 0u; q < Q; q++) {
            let own = load_a(s, slice, row0 + q * LANES + lane, quad);
            for (var l = 0u; l < LANES; l++) {
                let a_quad = subgroupShuffle(own, l);
                for (var j = 0u; j < C; j++) {
                    var sum = acc[q][l][j];
                    sum = fma(a_quad.x, b_quads[j].x, sum);
                    sum = fma(a_quad.y, b_quads[j].y, sum);
                    sum = fma(a_quad.z, b_quads[j].z, sum);
                    acc[q][l][j] = fma(a_quad.w, b_quads[j].w, sum);
                }
            }
        }
        for (var i = 0u; i < 4u; i++) { quad.inner[i] = inner_add(s, quad.inner[i], step); }
    }

    let line = (split * params.slices + slice) * row_tiles * (ROWS / 4u) + row0 / 4u;
    for (var q = 0u; q < Q; q++) {
        for (var h = 0u; h < LANES / 4u; h++) {
            for (var j = 0u; j < C; j++) {
                let rows = vec4f(
                    acc[q][4u * h][j], acc[q][4u * h + 1u][j], acc[q][4u * h + 2u][j], acc[q][4u * h + 3u][j],
                );
                sums[(line + q * (LANES / 4u) + h) * col_tiles * COLS + col0 + j * LANES + lane] = rows;
            }
        }
    }
}
