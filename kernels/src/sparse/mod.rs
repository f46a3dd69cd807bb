//! A fixed sparse matrix along one axis: gathers, paddings that repeat or mirror, resampling, averages of
//! windows.
//!
//! `y[o, j, i] = Σ weight · x[o, column, i]` over the entries of row j, in their order. The adjoint is the
//! same with the transposed matrix, so that a scatter-add is a gather by columns: no atomics, one order of
//! summation.

mod cpu;

use std::sync::Arc;

use crate::error::{KernelError, shape_error};
use crate::expr::Num;
use crate::family::{Family, Size};
use crate::ladder::{Ladder, variant};
use crate::launch::{Cost, Dispatch, GpuPlan, GpuTraits, Slot};
use crate::layout;
use crate::plan::{begin, fold, read, write};
use crate::sections::splice;
use crate::text::shape;

const LADDERS: [Ladder; 1] = [Ladder {
    name: "sparse",
    computes: "a fixed sparse matrix along one axis",
    variants: &[variant("naive", "1 output a thread", "always")],
}];

/// Words of one dispatch's part of a matrix: half of what WebGPU lets a uniform buffer hold.
const MOST_WORDS: usize = 8192;

/// A sparse matrix by rows. A row without entries gives 0; one of a single entry of weight 1 copies the
/// element, bits included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Matrix {
    columns: usize,
    /// Where the entries of each row begin; the last one ends there.
    starts: Vec<usize>,
    entries: Vec<(usize, Num)>,
}

impl Matrix {
    /// The matrix over `columns` columns whose rows hold these (column, weight) entries.
    pub fn new(columns: usize, rows: impl IntoIterator<Item = Vec<(usize, f32)>>) -> Self {
        let (mut starts, mut entries) = (vec![0], vec![]);
        for row in rows {
            entries.extend(row.into_iter().map(|(column, weight)| (column, Num(weight))));
            starts.push(entries.len());
        }
        Self { columns, starts, entries }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Column and weight of each entry of a row.
    pub fn row(&self, row: usize) -> &[(usize, Num)] {
        &self.entries[self.starts[row]..self.starts[row + 1]]
    }

    /// Rows become columns; the entries of a new row stand in the order of the old rows. Entries beyond the
    /// columns, which [`crate::Kernel::check`] refuses, are left out.
    pub fn transposed(&self) -> Self {
        let mut rows = vec![vec![]; self.columns];
        for row in 0..self.rows() {
            for &(column, weight) in self.row(row) {
                if let Some(new) = rows.get_mut(column) {
                    new.push((row, weight.0));
                }
            }
        }
        Self::new(self.rows(), rows)
    }
}

/// `x [outer, columns, inner]` → `y [outer, rows, inner]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sparse {
    /// Product of the dimensions before the axis.
    pub outer: usize,
    /// Product of the dimensions after it.
    pub inner: usize,
    /// The matrix.
    pub matrix: Arc<Matrix>,
}

impl Sparse {
    fn dispatch(&self, part: &Part, traits: &GpuTraits) -> Result<Dispatch, KernelError> {
        // Powers of two, so that few texts are compiled.
        let vectors = part.table.len().div_ceil(4).next_power_of_two();
        let sizes =
            [self.outer, self.inner, self.matrix.columns(), self.matrix.rows(), part.first, part.count];
        let mut params: Vec<u32> = sizes.iter().map(|&size| size as u32).collect();
        params.extend([u32::from(part.more), 0]);
        params.extend(&part.table);
        params.resize(8 + 4 * vectors, 0);
        let text = traits.shaders.text("sparse.wgsl");
        Ok(Dispatch {
            shader: "sparse.wgsl",
            source: splice(text, "table", &format!("const VECTORS: u32 = {vectors}u;\n")).into(),
            entry: "main",
            constants: Vec::new(),
            workgroups: fold(self.name(), (self.outer * part.count * self.inner).div_ceil(64), traits)?,
            bindings: vec![write(Slot::Output(0)), read(Slot::Input(0))],
            params,
        })
    }
}

impl Family for Sparse {
    fn name(&self) -> &'static str {
        "sparse"
    }

    fn check(&self) -> Result<(), KernelError> {
        let (rows, columns) = (self.matrix.rows(), self.matrix.columns());
        layout::checked_numel(self.name(), &[self.outer, columns, self.inner])?;
        layout::checked_numel(self.name(), &[self.outer, rows, self.inner])?;
        match self.matrix.entries.iter().find(|entry| entry.0 >= columns) {
            Some(beyond) => {
                let what = format!("an entry reads column {} of {columns}", beyond.0);
                Err(shape_error(self.name(), what))
            }
            None => Ok(()),
        }
    }

    fn input_lens(&self) -> Vec<usize> {
        vec![self.outer * self.matrix.columns() * self.inner]
    }

    fn output_lens(&self) -> Vec<usize> {
        vec![self.outer * self.matrix.rows() * self.inner]
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: 2 * (self.outer * self.inner) as u64 * self.matrix.entries.len() as u64,
            bytes_read: layout::bytes(&self.input_lens()),
            bytes_written: layout::bytes(&self.output_lens()),
        }
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        let variant = begin(self, traits, variant, || "naive")?;
        let dispatches = parts(&self.matrix).into_iter().map(|part| self.dispatch(&part, traits));
        Ok(GpuPlan { variant, dispatches: dispatches.collect::<Result<_, _>>()?, scratch_lens: Vec::new() })
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], _scratch: &mut [f32]) {
        cpu::run(self, inputs[0], outputs[0]);
    }

    fn line(&self) -> String {
        let from = [self.outer, self.matrix.columns(), self.inner];
        format!("{} → {}", shape(&from), shape(&[self.outer, self.matrix.rows(), self.inner]))
    }

    fn ladders() -> &'static [Ladder] {
        &LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &LADDERS[0]
    }

    fn oracle(&self, inputs: &[&[f32]], _before: &[&[f32]]) -> Vec<Vec<f64>> {
        let (rows, columns) = (self.matrix.rows(), self.matrix.columns());
        let mut out = vec![0.0; self.outer * rows * self.inner];
        for (at, y) in out.iter_mut().enumerate() {
            let (o, row, i) = (at / self.inner / rows, at / self.inner % rows, at % self.inner);
            for &(column, weight) in self.matrix.row(row) {
                let x = inputs[0][(o * columns + column) * self.inner + i];
                *y += f64::from(weight.0) * f64::from(x);
            }
        }
        vec![out]
    }

    /// Rows resized linearly to twice their number.
    fn sample(_ladder: &str, _variant: &str, size: Size) -> Self {
        let (outer, columns, inner) = if size == Size::Typical { (4096, 32, 32) } else { (3, 7, 5) };
        let row = |j: usize| {
            // Half a column before or behind column j / 2, of those that there are.
            let (near, far) =
                (j / 2, if j.is_multiple_of(2) { (j / 2).saturating_sub(1) } else { j / 2 + 1 });
            let [first, second] =
                if far < near { [(far, 0.25), (near, 0.75)] } else { [(near, 0.75), (far, 0.25)] };
            if near == far || far == columns { vec![(near, 1.0)] } else { vec![first, second] }
        };
        Self { outer, inner, matrix: Arc::new(Matrix::new(columns, (0..2 * columns).map(row))) }
    }
}

/// Some rows of a matrix, or a part of one row, as a dispatch takes them.
struct Part {
    first: usize,
    count: usize,
    /// Adds to what earlier parts of its row gave.
    more: bool,
    /// Where each row's entries begin and the last one's end, then column and weight of each.
    table: Vec<u32>,
}

/// The matrix cut so that each part's table fits its words.
fn parts(matrix: &Matrix) -> Vec<Part> {
    let (mut parts, mut row) = (vec![], 0);
    while row < matrix.rows() {
        // As many whole rows as fit, or one in pieces.
        let mut count = 0;
        let words = |end: usize| end - row + 1 + 2 * (matrix.starts[end] - matrix.starts[row]);
        while row + count < matrix.rows() && words(row + count + 1) <= MOST_WORDS {
            count += 1;
        }
        if count > 0 {
            let rows: Vec<_> = (row..row + count).map(|r| matrix.row(r)).collect();
            parts.push(Part { first: row, count, more: false, table: table(&rows) });
        } else {
            count = 1;
            for (i, piece) in matrix.row(row).chunks((MOST_WORDS - 2) / 2).enumerate() {
                parts.push(Part { first: row, count, more: i > 0, table: table(&[piece]) });
            }
        }
        row += count;
    }
    parts
}

fn table(rows: &[&[(usize, Num)]]) -> Vec<u32> {
    let mut words = vec![0];
    words.extend(rows.iter().scan(0, |at, row| {
        *at += row.len() as u32;
        Some(*at)
    }));
    for &(column, weight) in rows.iter().copied().flatten() {
        words.extend([column as u32, weight.0.to_bits()]);
    }
    words
}
