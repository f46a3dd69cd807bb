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
//#use shared/product.wgsl

//#use shared/strides.wgsl
//#end

@group(0) @binding(1) var<storage, read> scratch: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

//#use shared/epilogue.wgsl

override START: u32 = 0u;
override QUADS: u32 = 1u;
override COLS: u32 = 1u;

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = thread(group, groups, lane);
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
