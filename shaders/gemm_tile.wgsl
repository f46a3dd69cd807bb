// gemm_tile.wgsl: matrix product with shared-memory tiles, for hardware. Its operands are found through the functions
// between //#operands and //#end: plain strides here; conv.wgsl in their place makes it an implicit-GEMM convolution
// (no im2col buffer).
//
//   out[slice, i, j] = epilogue(sum over k of A[i, k] · B[k, j])
//
// Tile: a workgroup of 8 x 8 threads owns R·8 rows and R·8 columns (64 x 64 with R = 8, 32 x 32 with R = 4, where the
// grid would be small) and walks the inner index 16 at a time; a thread owns R x R of them as R·R/4 vec4 along the
// columns. Its rows and columns are quads 8 apart, so that the threads of a line read distinct banks. Lines of a
// shared tile hold 2·R quads and one of padding, which spreads the writes of neighbouring k over the banks.
// A is loaded with k running fastest over the lanes, B with the columns running fastest: the contiguous directions.
//
// Split-K: with splits > 1 each workgroup sums one chunk of the inner index and stores to the scratch buffer, bound
// in place of out, as [split, slice, row/4, col][row%4]; gemm_reduce.wgsl adds the chunks in order.
//
// Dispatch: row_tiles · col_tiles · splits · slices workgroups, folded into two dimensions; columns run fastest.
// Shared memory: 2 · 16 · (2·R + 1) · 16 = 8704 or 4608 bytes. Bindings: 0 params, 1 a, 2 b, 3 out (or scratch), 4.. epilogue operands.

//#operands
struct Params {
    rows: u32, cols: u32, inner: u32, slices: u32,
    splits: u32, a_slice: u32, a_row: u32, a_inner: u32,
    b_slice: u32, b_inner: u32, b_col: u32, channel_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;

struct Slice { cols: u32, inner: u32, a: u32, b: u32, out: u32 } // one matrix product of a batch
struct Inner { a: u32, b: u32 } // one value of the inner index
struct Col { b: u32, out: u32 } // one column

const ABSENT: u32 = 0xffffffffu; // what b_offset returns for a zero that is in no buffer: never, for plain matrices

fn slice_at(i: u32) -> Slice {
    return Slice(params.cols, params.inner, i * params.a_slice, i * params.b_slice, i * params.rows * params.cols);
}
fn inner_at(s: Slice, k: u32) -> Inner { return Inner(k * params.a_inner, k * params.b_inner); }
fn inner_next(s: Slice, k: Inner) -> Inner { return Inner(k.a + params.a_inner, k.b + params.b_inner); }
fn col_at(s: Slice, j: u32) -> Col { return Col(j * params.b_col, j); }
fn a_offset(s: Slice, row: u32, k: Inner) -> u32 { return s.a + row * params.a_row + k.a; }
fn b_offset(s: Slice, k: Inner, col: Col) -> u32 { return s.b + k.b + col.b; }
fn out_offset(s: Slice, row: u32, col: Col) -> u32 { return s.out + row * params.cols + col.out; }
fn channel(row: u32, col: Col) -> u32 { return col.out / params.channel_width; }
//#end

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

//#epilogue
fn epilogue(acc: f32, channel: u32, index: u32) -> f32 {
    return acc;
}
//#end

//#tile
const R: u32 = 8u; // rows and columns per thread
//#end
const WIDE: u32 = R / 4u; // quads per thread
const DEPTH: u32 = 16u; // inner values in a tile
const LINE: u32 = 2u * R + 1u; // quads from one inner value to the next
var<workgroup> tile_a: array<vec4f, DEPTH * LINE>;
var<workgroup> tile_b: array<vec4f, DEPTH * LINE>;

fn load_b(s: Slice, k: Inner, col: Col) -> f32 {
    let at = b_offset(s, k, col);
    let absent = at == ABSENT;
    return select(b[select(at, 0u, absent)], 0.0, absent);
}

/// Stores an element of the tile, where it lies inside the output.
fn store(s: Slice, slice: u32, split: u32, row: u32, j: u32, col: Col, value: f32) {
    if row >= params.rows || j >= s.cols { return; }
    if params.splits > 1u {
        let line = (split * params.slices + slice) * ((params.rows + 3u) / 4u) + row / 4u;
        out[(line * params.cols + j) * 4u + row % 4u] = value;
    } else {
        let index = out_offset(s, row, col);
        out[index] = epilogue(value, channel(row, col), index);
    }
}

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
    var cols: array<Col, 4>;
    for (var j = 0u; j < 4u; j++) { cols[j] = col_at(s, min(col0 + 4u * load_col + j, s.cols - 1u)); }

    // Computing roles: quads tx, tx + 8 of the columns and ty, ty + 8 of the rows.
    let tx = lane % 8u;
    let ty = lane / 8u;
    // The lengths of these arrays are the trip counts of the loops over them: drivers unroll such loops and keep the
    // elements in registers.
    var acc: array<array<array<vec4f, WIDE>, 4>, WIDE>; // [quad of rows][row][quad of columns]
    for (var k0 = first; k0 < last; k0 += DEPTH) {
        let a_k = k0 + lane % DEPTH;
        let a_live = a_k < last;
        let a_inner = inner_at(s, min(a_k, last - 1u));
        for (var p = 0u; p < R / 2u; p++) {
            let quad = lane / DEPTH + 4u * p;
            var value = vec4f();
            for (var i = 0u; i < 4u; i++) {
                let row = min(row0 + 4u * quad + i, params.rows - 1u);
                value[i] = select(0.0, a[a_offset(s, row, a_inner)], a_live);
            }
            tile_a[lane % DEPTH * LINE + quad] = value;
        }
        for (var p = 0u; p < R / 2u; p++) {
            let line = lane / quads + 64u / quads * p;
            let b_live = k0 + line < last;
            let b_inner = inner_at(s, min(k0 + line, last - 1u));
            var value = vec4f();
            for (var j = 0u; j < 4u; j++) { value[j] = select(0.0, load_b(s, b_inner, cols[j]), b_live); }
            tile_b[line * LINE + load_col] = value;
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
