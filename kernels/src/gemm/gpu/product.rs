//! The matrix-product shaders with their operands found by strides or, for convolutions, by the maps of `conv.wgsl`.

use crate::conv::{Epilogue, Spread};
use crate::expr::wgsl::{section, splice};
use crate::{Access, Bind, Dispatch, GpuTraits, KernelError, Slot};
use std::borrow::Cow;

/// Fewest inner values in a chunk of split-K: below, moving partial sums costs more than idle units.
const SHORTEST_CHUNK: usize = 128;
/// Workgroups that keep a hardware adapter busy: about two for each compute unit of a large one.
const BUSY_WORKGROUPS: usize = 128;
/// Threads that spread evenly over the cores of a software adapter, eight lanes to each vector.
const BUSY_SOFTWARE_THREADS: usize = 512;

/// One or several matrix products `[rows, inner] · [inner, cols]` of one launch.
pub(crate) struct Product<'a> {
    /// Family, for errors.
    pub(crate) kernel: &'static str,
    /// Shader file with the `//#operands` section, `None` for plain strides.
    pub(crate) operands: Option<&'static str>,
    /// Rows of the output.
    pub(crate) rows: usize,
    /// Columns of the output; the most of any slice.
    pub(crate) cols: usize,
    /// Inner size; the most of any slice.
    pub(crate) inner: usize,
    /// Number of products.
    pub(crate) slices: usize,
    /// The words of `Params` after rows, cols, inner, slices and splits.
    pub(crate) params: Vec<u32>,
    /// Left operand.
    pub(crate) a: Slot,
    /// Right operand.
    pub(crate) b: Slot,
    /// Which of them are stored in halves.
    pub(crate) half: [bool; 2],
    /// Fused tail.
    pub(crate) epilogue: &'a Epilogue,
}

/// Dispatches with the scratch elements they need.
#[derive(Debug)]
pub(crate) struct Stages {
    /// Dispatches in order.
    pub(crate) dispatches: Vec<Dispatch>,
    /// Elements of scratch.
    pub(crate) scratch_len: usize,
}

/// Variants that every product has.
pub(crate) const VARIANTS: [&str; 3] = ["tile64", "tile32", "registers"];

impl Product<'_> {
    /// The variant for an adapter.
    ///
    /// Software adapters and products of at most four rows take register tiles where the scratch fits a binding. On
    /// hardware 64 × 64 tiles reuse each loaded value most, but 32 × 32 tiles waste less where a side is short and
    /// give four times the workgroups where, split-K included, the grid would leave the adapter idle.
    pub(crate) fn choose(&self, traits: &GpuTraits) -> &'static str {
        let fits = |stages: Stages| 4 * stages.scratch_len as u64 <= traits.max_binding_bytes;
        let groups = self.rows.div_ceil(64) * self.cols.div_ceil(64) * self.slices;
        if (traits.software || self.rows <= 4) && self.registers(traits).is_ok_and(fits) {
            "registers"
        } else if self.rows.min(self.cols) <= 32
            || groups * (self.inner / SHORTEST_CHUNK).max(1) < BUSY_WORKGROUPS / 2
        {
            "tile32"
        } else {
            "tile64"
        }
    }

    /// The dispatches of one of [`VARIANTS`].
    pub(crate) fn stages(&self, variant: &str, traits: &GpuTraits) -> Result<Stages, KernelError> {
        match variant {
            "tile64" => self.tile(8, traits),
            "tile32" => self.tile(4, traits),
            _ => self.registers(traits),
        }
    }

    /// Shared-memory tiles of `8 r` by `8 r`.
    fn tile(&self, r: usize, traits: &GpuTraits) -> Result<Stages, KernelError> {
        let groups = self.rows.div_ceil(8 * r) * self.cols.div_ceil(8 * r) * self.slices;
        let sums = Sums { start: 0, quads: self.rows.div_ceil(4), cols: self.cols };
        let splits = self.splits(groups, BUSY_WORKGROUPS, &sums, traits);
        let target = if splits > 1 { Slot::Scratch } else { Slot::Output(0) };
        let mut dispatches = vec![Dispatch {
            shader: "gemm_tile.wgsl",
            source: self.source("gemm_tile.wgsl", 4, &format!("const R: u32 = {r}u;\n"), traits),
            entry: "main",
            constants: self.half_constants(),
            workgroups: fold(self.kernel, groups * splits, traits)?,
            bindings: bindings(vec![read(self.a), read(self.b), write(target)], self.epilogue),
            params: self.words(splits),
        }];
        let mut scratch_len = 0;
        if splits > 1 {
            dispatches.push(self.reduce(splits, &sums, traits)?);
            scratch_len = self.sums_len(splits, &sums);
        }
        Ok(Stages { dispatches, scratch_len })
    }

    /// Register tiles of `4 u` rows by `c` columns, with A packed first and the epilogue last.
    fn registers(&self, traits: &GpuTraits) -> Result<Stages, KernelError> {
        let (u, c, lanes, busy) = if traits.software {
            (quads_per_thread(self.rows, 4), cols_per_thread(self.cols, 8), 8, BUSY_SOFTWARE_THREADS)
        } else {
            (quads_per_thread(self.rows, 2), cols_per_thread(self.cols, 4), 64, BUSY_WORKGROUPS * 64)
        };
        let (row_tiles, col_tiles) = (self.rows.div_ceil(4 * u), self.cols.div_ceil(c));
        let packed = self.slices * self.inner * row_tiles * u;
        let threads = row_tiles * col_tiles * self.slices;
        let sums = Sums { start: packed, quads: row_tiles * u, cols: col_tiles * c };
        let splits = self.splits(threads, busy, &sums, traits);
        let source = self.source(
            "gemm_registers.wgsl",
            0,
            &format!("const U: u32 = {u}u;\nconst C: u32 = {c}u;\n"),
            traits,
        );
        let stage = |entry, groups, bindings| {
            Ok(Dispatch {
                shader: "gemm_registers.wgsl",
                source: source.clone(),
                entry,
                constants: {
                    let mut constants = self.half_constants();
                    constants.extend((entry == "main").then_some(("LANES", lanes as f64)));
                    constants
                },
                workgroups: fold(self.kernel, groups, traits)?,
                bindings,
                params: self.words(splits),
            })
        };
        let scratch = write(Slot::Scratch);
        let dispatches = vec![
            stage("pack", packed.div_ceil(64), vec![read(self.a), scratch])?,
            stage("main", (threads * splits).div_ceil(lanes), vec![read(self.a), scratch, read(self.b)])?,
            self.reduce(splits, &sums, traits)?,
        ];
        Ok(Stages { dispatches, scratch_len: 4 * packed + self.sums_len(splits, &sums) })
    }

    fn half_constants(&self) -> Vec<(&'static str, f64)> {
        half_constants(self.half[0], self.half[1])
    }

    /// Adds the partial sums of the splits and applies the epilogue.
    fn reduce(&self, splits: usize, sums: &Sums, traits: &GpuTraits) -> Result<Dispatch, KernelError> {
        let quads = self.slices * self.rows.div_ceil(4) * self.cols;
        Ok(Dispatch {
            shader: "gemm_reduce.wgsl",
            source: self.source("gemm_reduce.wgsl", 3, "", traits),
            entry: "main",
            constants: vec![
                ("START", sums.start as f64),
                ("QUADS", sums.quads as f64),
                ("COLS", sums.cols as f64),
            ],
            workgroups: fold(self.kernel, quads.div_ceil(64), traits)?,
            bindings: bindings(vec![read(Slot::Scratch), write(Slot::Output(0))], self.epilogue),
            params: self.words(splits),
        })
    }

    /// Elements of scratch for the partial sums.
    fn sums_len(&self, splits: usize, sums: &Sums) -> usize {
        splits * self.slices * sums.quads * 4 * sums.cols
    }

    /// Chunks of the inner index: as many as bring `units` of parallel work up to `busy`, while each keeps
    /// [`SHORTEST_CHUNK`] and the partial sums stay within half of one binding.
    fn splits(&self, units: usize, busy: usize, sums: &Sums, traits: &GpuTraits) -> usize {
        let fitting = traits.max_binding_bytes as usize / 2 / (4 * self.sums_len(1, sums));
        (busy / units).min(self.inner / SHORTEST_CHUNK).min(fitting).max(1)
    }

    /// The words of `Params`.
    pub(crate) fn words(&self, splits: usize) -> Vec<u32> {
        let sizes = [self.rows, self.cols, self.inner, self.slices, splits];
        let mut words: Vec<u32> = sizes.iter().map(|&size| size as u32).collect();
        words.extend(&self.params);
        words.resize(words.len().next_multiple_of(4), 0);
        words
    }

    fn source(&self, file: &str, first_operand: usize, tile: &str, traits: &GpuTraits) -> Cow<'static, str> {
        let text = splice(&with_epilogue(file, self.epilogue, first_operand, traits), "tile", tile);
        match self.operands.and_then(|maps| section(traits.shaders.text(maps), "operands")) {
            Some(operands) => splice(&text, "operands", operands).into(),
            None => text.into(),
        }
    }
}

/// Partial sums in scratch, from vec4 `start` on: `[split, slice, quad of rows, col]` of vec4.
struct Sums {
    start: usize,
    quads: usize,
    cols: usize,
}

fn quads_per_thread(rows: usize, most: usize) -> usize {
    rows.div_ceil(4).next_power_of_two().min(most)
}

fn cols_per_thread(cols: usize, most: usize) -> usize {
    cols.next_power_of_two().min(most)
}

/// The constants by which the shaders know of operands in halves; f32 is their default.
pub(crate) fn half_constants(a: bool, b: bool) -> Vec<(&'static str, f64)> {
    [("HALF_A", a), ("HALF_B", b)]
        .into_iter()
        .filter(|(_, half)| *half)
        .map(|(name, _)| (name, 1.0))
        .collect()
}

pub(crate) fn read(slot: Slot) -> Bind {
    Bind { slot, access: Access::Read }
}

pub(crate) fn write(slot: Slot) -> Bind {
    Bind { slot, access: Access::ReadWrite }
}

/// `main`, then the epilogue's operands.
pub(crate) fn bindings(mut main: Vec<Bind>, epilogue: &Epilogue) -> Vec<Bind> {
    main.extend((0..epilogue.operands.len()).map(|i| read(Slot::Input(i + 2))));
    main
}

/// A shader file with its `//#epilogue` section replaced by the expression; operand `i` at binding `first + i`.
pub(crate) fn with_epilogue(file: &str, epilogue: &Epilogue, first: usize, traits: &GpuTraits) -> String {
    let shader = traits.shaders.text(file);
    if epilogue.expr.code.is_empty() {
        return shader.to_owned();
    }
    let mut text = String::new();
    for i in 0..epilogue.operands.len() {
        text += &format!("@group(0) @binding({}) var<storage, read> operand{i}: array<f32>;\n", first + i);
    }
    let body = epilogue.expr.wgsl(|operand| match operand.checked_sub(1) {
        None => "acc".to_owned(),
        Some(i) => match epilogue.operands[i] {
            Spread::Full => format!("operand{i}[index]"),
            Spread::Channel => format!("operand{i}[channel]"),
            Spread::Scalar => format!("operand{i}[0]"),
        },
    });
    let last = epilogue.expr.code.len() - 1;
    text += &format!(
        "fn epilogue(acc: f32, channel: u32, index: u32) -> f32 {{\n{body}    return r{last};\n}}\n"
    );
    format!("{}\n{}", traits.shaders.text("expr.wgsl"), splice(shader, "epilogue", &text))
}

/// `count` workgroups in one dimension, or folded into two where one does not hold them; the shaders number
/// workgroups by `x + y · size of x` and leave where that is beyond their work.
pub(crate) fn fold(kernel: &'static str, count: usize, traits: &GpuTraits) -> Result<[u32; 3], KernelError> {
    let limit = u64::from(traits.max_workgroups);
    let count = count as u64;
    let y = count.div_ceil(limit);
    if y > limit || count.saturating_mul(64) > u64::from(u32::MAX) {
        return Err(KernelError::Limit { kernel, needed: count, limit: limit * limit, unit: "workgroups" });
    }
    Ok([count.div_ceil(y) as u32, y as u32, 1])
}

/// Checks that every buffer fits one binding.
pub(crate) fn check_bindings(
    kernel: &'static str,
    lens: impl IntoIterator<Item = usize>,
    traits: &GpuTraits,
) -> Result<(), KernelError> {
    for len in lens {
        let needed = 4 * len as u64;
        if needed > traits.max_binding_bytes {
            let limit = traits.max_binding_bytes;
            return Err(KernelError::Limit { kernel, needed, limit, unit: "bytes in one binding" });
        }
    }
    Ok(())
}
