// store.wgsl: where the sums of a tile go: into the output, or with split-K into the scratch buffer bound in
// its place, as [split, slice, row/4, col][row%4].

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
