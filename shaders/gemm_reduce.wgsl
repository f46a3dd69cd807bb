// gemm_reduce.wgsl: last stage of gemm_registers.wgsl, and of gemm_tile.wgsl where that splits the inner
// index.
//
//   out[slice, i, j] = epilogue(sum over splits of sums[split, slice, i/4, j][i%4])
//
// One thread per four rows of a column adds their partial sums in the order of the splits: no atomics, so the
// bits repeat. Where an element goes is found through the functions between //#operands and //#end, as in the
// first stage.
//
// Dispatch: ceil(slices · ceil(rows/4) · cols / 64) workgroups of 64, folded into two dimensions. Shared
// memory: none.
// Bindings: 0 params, 1 scratch, 2 out, 3.. epilogue operands. The sums begin at vec4 START of scratch and
// have QUADS quads of rows and COLS columns, padding included.

//#operands
struct Params {
    rows: u32, cols: u32, inner: u32, slices: u32,
    splits: u32, a_slice: u32, a_row: u32, a_inner: u32,
    b_slice: u32, b_inner: u32, b_col: u32, channel_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;

struct Slice { cols: u32, inner: u32, a: u32, b: u32, out: u32 } // one matrix product of a batch
struct Col { b: u32, out: u32 } // one column

fn slice_at(i: u32) -> Slice {
    return Slice(params.cols, params.inner, i * params.a_slice, i * params.b_slice, i * params.rows * params.cols);
}
fn col_at(s: Slice, j: u32) -> Col { return Col(j * params.b_col, j); }
fn out_offset(s: Slice, row: u32, col: Col) -> u32 { return s.out + row * params.cols + col.out; }
fn channel(row: u32, col: Col) -> u32 { return col.out / params.channel_width; }
//#end

@group(0) @binding(1) var<storage, read> scratch: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

//#epilogue
fn epilogue(acc: f32, channel: u32, index: u32) -> f32 {
    return acc;
}
//#end

override START: u32 = 0u;
override QUADS: u32 = 1u;
override COLS: u32 = 1u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = (group.x + group.y * groups.x) * 64u + lane;
    let row_quads = (params.rows + 3u) / 4u;
    let j = id % params.cols;
    let quad = id / params.cols % row_quads;
    let slice = id / params.cols / row_quads;
    if slice >= params.slices { return; }
    let s = slice_at(slice);
    if j >= s.cols { return; }
    var acc = vec4f();
    for (var split = 0u; split < params.splits; split++) {
        acc += scratch[START + ((split * params.slices + slice) * QUADS + quad) * COLS + j];
    }
    let col = col_at(s, j);
    for (var i = 0u; i < 4u; i++) {
        let row = 4u * quad + i;
        if row < params.rows {
            let index = out_offset(s, row, col);
            out[index] = epilogue(acc[i], channel(row, col), index);
        }
    }
}
