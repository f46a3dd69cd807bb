// gemm_tile.wgsl: matrix product with shared-memory tiles, for hardware. Its operands are found through the
// functions between //#operands and //#end: plain strides here; conv.wgsl in their place makes it an
// implicit-GEMM convolution (no im2col buffer).
//
//   out[slice, i, j] = epilogue(sum over k of A[i, k] · B[k, j])
//
// Tile: a workgroup of 8 x 8 threads owns R·8 rows and R·8 columns (64 x 64 with R = 8, 32 x 32 with R = 4,
// where the grid would be small) and walks the inner index 16 at a time; a thread owns R x R of them as R·R/4
// vec4 along the columns. Its rows and columns are quads 8 apart, so that the threads of a line read distinct
// banks. Lines of a shared tile hold 2·R quads and one of padding, which spreads the writes of neighbouring k
// over the banks. A is loaded with k running fastest over the lanes, B with the columns running fastest: the
// contiguous directions.
//
// Split-K: with splits > 1 each workgroup sums one chunk of the inner index and stores to the scratch buffer,
// bound in place of out, as [split, slice, row/4, col][row%4]; gemm_reduce.wgsl adds the chunks in order.
//
// Dispatch: row_tiles · col_tiles · splits · slices workgroups, folded into two dimensions; columns run
// fastest.
// Shared memory: 2 · 16 · (2·R + 1) · 16 = 8704 or 4608 bytes. Bindings: 0 params, 1 a, 2 b, 3 out (or
// scratch), 4.. epilogue operands.

//#operands
//#use shared/product.wgsl

//#use shared/strides.wgsl
//#end

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

//#use shared/a_at.wgsl
//#use shared/b_at.wgsl

//#use shared/epilogue.wgsl

//#tile
const R: u32 = 8u; // rows and columns per thread
//#end
const WIDE: u32 = R / 4u; // quads per thread
const DEPTH: u32 = 16u; // inner values in a tile
const LINE: u32 = 2u * R + 1u; // quads from one inner value to the next
var<workgroup> tile_a: array<vec4f, DEPTH * LINE>;
var<workgroup> tile_b: array<vec4f, DEPTH * LINE>;

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
    let a_first = a_row(s, row0 + 4u * (lane / DEPTH));
    let a_last = arrayLength(&a) * select(1u, 2u, HALF_A) - 1u;

    // Computing roles: quads tx, tx + 8 of the columns and ty, ty + 8 of the rows.
    let tx = lane % 8u;
    let ty = lane / 8u;
    // The lengths of these arrays are the trip counts of the loops over them: drivers unroll such loops and
    // keep the elements in registers.
    var acc: array<array<array<vec4f, WIDE>, 4>, WIDE>; // [quad of rows][row][quad of columns]
    for (var k0 = first; k0 < last; k0 += DEPTH) {
        // Inner values from `last` on are zeros in both tiles: what else is there may be NaN. Rows
        // beyond the last hold whatever the address, kept inside the buffer, does; they are not stored.
        let left = last - k0;
        let a_live = lane % DEPTH < left;
        for (var p = 0u; p < R / 2u; p++) {
            var value = vec4f();
            for (var i = 0u; i < 4u; i++) {
                let at = min(a_first + a_inner.a + (16u * p + i) * a_row_step(), a_last);
                value[i] = select(0.0, a_at(at), a_live);
            }
            tile_a[lane % DEPTH * LINE + lane / DEPTH + 4u * p] = value;
        }
        a_inner = inner_add(s, a_inner, a_step);
        for (var p = 0u; p < R / 2u; p++) {
            let line = load_line + lines * p;
            let live = line < left;
            var value = vec4f();
            for (var j = 0u; j < 4u; j++) {
                let inside = live & b_inside(b_inner, cols[j]);
                value[j] = select(0.0, b_at(select(0u, b_offset(s, b_inner, cols[j]), inside)), inside);
            }
            tile_b[line * LINE + load_col] = value;
            b_inner = inner_add(s, b_inner, b_step);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            for (var u = 0u; u < WIDE; u++) {
                let a_quad = tile_a[k * LINE + ty + 8u * u];
                for (var v = 0u; v < WIDE; v++) {
                    let b_quad = tile_b[k * LINE + tx + 8u * v];
                    for (var i = 0u; i < 4u; i++) {
                        acc[u][i][v] = fma(vec4f(a_quad[i]), b_quad, acc[u][i][v]);
                    }
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
                    store(s, slice, split, row0 + 4u * (ty + 8u * u) + i, number, col, acc[u][i][v][j]);
                }
            }
        }
    }
}
