// sparse.wgsl: a fixed sparse matrix along one axis, some of its rows or a part of one row per dispatch.
//
//   y[o, j, i] = sum over the entries (column, weight) of row j of weight · x[o, column, i]
//
// Layouts: x [outer, columns, inner], y [outer, rows, inner]. Rows first .. first + count are computed; with
// `more` the sums go on from what earlier parts of the row left in y. The table holds count + 1 places where
// entries begin, then column and bits of the weight of each entry; it is a uniform, since neighbouring
// threads mostly read the same row.
// Dispatch: ceil(outer · count · inner / 64) workgroups of 64, folded into two dimensions. Shared memory:
// none.
// Bindings: 0 params, 1 y, 2 x.

//#table
const VECTORS: u32 = 4u; // length of the table in vectors
//#end

struct Params {
    outer: u32, inner: u32, columns: u32, rows: u32,
    first: u32, count: u32, more: u32, pad: u32,
    table: array<vec4u, VECTORS>,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;

fn word(i: u32) -> u32 { return params.table[i / 4u][i % 4u]; }

//#use shared/thread.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = thread(group, groups, lane);
    if index >= params.outer * params.count * params.inner { return; }
    let i = index % params.inner;
    let row = index / params.inner % params.count;
    let o = index / params.inner / params.count;
    let at = (o * params.rows + params.first + row) * params.inner + i;
    let end = word(row + 1u);
    var entry = word(row);
    var sum = 0.0;
    if params.more != 0u {
        sum = y[at];
    } else if entry < end {
        // The first product alone: a single entry of weight 1 keeps the sign of a zero.
        let place = params.count + 1u + 2u * entry;
        sum = bitcast<f32>(word(place + 1u)) * x[(o * params.columns + word(place)) * params.inner + i];
        entry++;
    }
    for (; entry < end; entry++) {
        let place = params.count + 1u + 2u * entry;
        sum += bitcast<f32>(word(place + 1u)) * x[(o * params.columns + word(place)) * params.inner + i];
    }
    y[at] = sum;
}
