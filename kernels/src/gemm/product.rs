//! The matrix-product shaders with their operands found by strides or, for convolutions, by the maps of
//! `conv.wgsl`.

use crate::epilogue::{Epilogue, bindings, with_epilogue};
use crate::error::KernelError;
use crate::launch::{Dispatch, GpuTraits, Slot};
use crate::plan::{fold, half_constants, read, write};
use crate::sections::{section, splice};
use std::borrow::Cow;

use super::tile_f16::{self, Scaled};

/// Fewest inner values in a chunk of split-K: below, moving partial sums costs more than idle units.
const SHORTEST_CHUNK: usize = 128;
/// Workgroups that keep a hardware adapter busy: about two for each compute unit of a large one.
const BUSY_WORKGROUPS: usize = 128;
/// Threads that spread evenly over the cores of a software adapter, eight lanes to each vector.
const BUSY_SOFTWARE_THREADS: usize = 512;
/// The same in subgroups.
const BUSY_SUBGROUPS: usize = 64;
/// Lines in a block of packed operands (`gemm_packed.wgsl`).
const BLOCK: usize = 64;
/// Tiles along the columns from which on packing A costs less than finding its values anew for each: one
/// packed value takes about as long to find and to store as 24 more to find.
const PACK_FROM: usize = 24;
/// Fewest inner values to pack: a product of shorter sums gains less than two more shaders take to compile.
const PACK_INNER: usize = 128;

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
    /// Rows, columns and slices by which the variant and its splits are chosen: those of a nominal batch
    /// where one side is a batch, since variants add in different orders and what is made of an image must
    /// not depend on the others.
    pub(crate) nominal: [usize; 3],
    /// The words of `Params` after rows, cols, inner, slices and splits.
    pub(crate) params: Vec<u32>,
    /// Left operand.
    pub(crate) a: Slot,
    /// Right operand.
    pub(crate) b: Slot,
    /// Which of them are stored in halves.
    pub(crate) half: [bool; 2],
    /// Both operands lie in the form of `gemm_packed.wgsl`, and the sums are left in scratch buffer 0, for
    /// stages that the caller adds: Winograd's.
    pub(crate) packed: bool,
    /// Which numbers of the operands share a scale, where they are rounded to halves.
    pub(crate) halves: Option<[Scaled; 2]>,
    /// Fused tail.
    pub(crate) epilogue: &'a Epilogue,
}

/// Dispatches with the scratch elements they need.
#[derive(Debug)]
pub(crate) struct Stages {
    /// Dispatches in order.
    pub(crate) dispatches: Vec<Dispatch>,
    /// Elements of the scratch buffers.
    pub(crate) scratch_lens: Vec<usize>,
    /// Where the sums are, if they are in scratch.
    pub(crate) sums: Sums,
}

impl Stages {
    /// Whether each scratch buffer fits one binding.
    pub(crate) fn fit(&self, traits: &GpuTraits) -> bool {
        self.scratch_lens.iter().all(|&len| 4 * len as u64 <= traits.max_binding_bytes)
    }
}

/// Variants that every product has.
pub(crate) const VARIANTS: [&str; 4] = ["tile64", "tile32", "registers", "subgroups"];

impl Product<'_> {
    /// The variant for an adapter.
    ///
    /// Software adapters take register tiles where the scratch fits a binding, shared by subgroups where
    /// those have a fixed size and have work for half of their lanes at least; so do products of at most four
    /// rows. On hardware 64 × 64 tiles reuse each loaded value most, but 32 × 32 tiles waste less where a
    /// side is short and give four times the workgroups where, split-K included, the grid would leave the
    /// adapter idle. Products in halves take the same tiles of halves, whatever the adapter; those of at most
    /// four rows or columns stay in f32.
    pub(crate) fn choose(&self, traits: &GpuTraits) -> &'static str {
        let fits = |stages: Stages| stages.fit(traits);
        let [rows, cols, _] = self.nominal;
        let groups = self.rows.div_ceil(64) * self.cols.div_ceil(64) * self.slices;
        let subgroups = traits.software && rows >= 4 && cols >= 4;
        let small = self.rows.min(self.cols) <= 32
            || groups * (self.inner / SHORTEST_CHUNK).max(1) < BUSY_WORKGROUPS / 2;
        if rows.min(cols) > 4 && self.multiplies_halves(traits) {
            tile_f16::VARIANTS[usize::from(small)]
        } else if subgroups && self.subgroups(traits).is_ok_and(fits) {
            "subgroups"
        } else if (traits.software || rows <= 4) && self.registers(traits).is_ok_and(fits) {
            "registers"
        } else if small {
            "tile32"
        } else {
            "tile64"
        }
    }

    /// The dispatches of one of [`VARIANTS`] or [`tile_f16::VARIANTS`].
    pub(crate) fn stages(&self, variant: &str, traits: &GpuTraits) -> Result<Stages, KernelError> {
        match variant {
            "tile64" => self.tile(8, "gemm_tile.wgsl", traits),
            "tile32" => self.tile(4, "gemm_tile.wgsl", traits),
            "tile64_f16" => self.tile_f16(8, traits),
            "tile32_f16" => self.tile_f16(4, traits),
            "subgroups" => self.subgroups(traits),
            _ => self.registers(traits),
        }
    }

    /// Whether the operands are rounded to halves, and the adapter multiplies such.
    fn multiplies_halves(&self, traits: &GpuTraits) -> bool {
        self.halves.is_some() && traits.f16
    }

    /// Shared-memory tiles of `8 r` by `8 r` halves, after the scales of both operands.
    fn tile_f16(&self, r: usize, traits: &GpuTraits) -> Result<Stages, KernelError> {
        let (Some(operands), true) = (self.halves, traits.f16) else {
            let variant = tile_f16::VARIANTS[usize::from(r == 4)];
            let what = "arithmetic in halves (SHADER_F16)";
            return Err(KernelError::Missing { kernel: self.kernel, variant, what });
        };
        let mut stages = self.tile(r, "gemm_tile_f16.wgsl", traits)?;
        let at = Slot::Scratch(stages.scratch_lens.len());
        stages.scratch_lens.push(tile_f16::scales_len(operands));
        let scales = tile_f16::scales(self.kernel, operands, [self.a, self.b], self.half, at, traits)?;
        // Before the operands of the epilogue.
        stages.dispatches[0].bindings.insert(3, read(at));
        stages.dispatches[0].constants.extend(tile_f16::constants(operands));
        stages.dispatches.insert(0, scales);
        Ok(stages)
    }

    /// Shared-memory tiles of `8 r` by `8 r`, by one of two shaders.
    fn tile(&self, r: usize, shader: &'static str, traits: &GpuTraits) -> Result<Stages, KernelError> {
        let groups = self.rows.div_ceil(8 * r) * self.cols.div_ceil(8 * r) * self.slices;
        let sums = Sums { start: 0, quads: self.rows.div_ceil(4), cols: self.cols, splits: 1 };
        // Both sizes of tiles add in the same order if they are split alike.
        let [rows, cols, slices] = self.nominal;
        let sums = self.split(rows.div_ceil(64) * cols.div_ceil(64) * slices, BUSY_WORKGROUPS, sums, traits);
        let splits = sums.splits;
        let in_scratch = splits > 1 || self.packed;
        let target = if in_scratch { Slot::Scratch(0) } else { Slot::Output(0) };
        let operands = if shader == "gemm_tile.wgsl" { 4 } else { 5 };
        let mut dispatches = vec![Dispatch {
            shader,
            source: self.source(shader, Some(operands), &format!("const R: u32 = {r}u;\n"), traits),
            entry: "main",
            constants: self.half_constants(),
            workgroups: fold(self.kernel, groups * splits, traits)?,
            bindings: bindings(vec![read(self.a), read(self.b), write(target)], self.epilogue),
            params: self.words(splits),
        }];
        dispatches.extend(self.reduce(splits > 1, &sums, traits)?);
        let scratch_lens = if in_scratch { vec![self.sums_len(&sums)] } else { Vec::new() };
        Ok(Stages { dispatches, scratch_lens, sums })
    }

    /// Register tiles of `4 u` rows by `c` columns, with A packed first and the epilogue last.
    fn registers(&self, traits: &GpuTraits) -> Result<Stages, KernelError> {
        let (u, c, lanes, busy) = if traits.software {
            (
                quads_per_thread(self.nominal[0], 4),
                cols_per_thread(self.nominal[1], 8),
                8,
                BUSY_SOFTWARE_THREADS,
            )
        } else {
            (
                quads_per_thread(self.nominal[0], 2),
                cols_per_thread(self.nominal[1], 4),
                64,
                BUSY_WORKGROUPS * 64,
            )
        };
        let (row_tiles, col_tiles) = (self.rows.div_ceil(4 * u), self.cols.div_ceil(c));
        let packed = self.slices * self.inner * row_tiles * u;
        let threads = row_tiles * col_tiles * self.slices;
        let sums = Sums { start: packed, quads: row_tiles * u, cols: col_tiles * c, splits: 1 };
        let [rows, cols, slices] = self.nominal;
        let sums = self.split(rows.div_ceil(4 * u) * cols.div_ceil(c) * slices, busy, sums, traits);
        let splits = sums.splits;
        let source = self.source(
            "gemm_registers.wgsl",
            None,
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
        let scratch = write(Slot::Scratch(0));
        let mut dispatches = vec![
            stage("pack", packed.div_ceil(64), vec![read(self.a), scratch])?,
            stage("main", (threads * splits).div_ceil(lanes), vec![read(self.a), scratch, read(self.b)])?,
        ];
        dispatches.extend(self.reduce(true, &sums, traits)?);
        Ok(Stages { dispatches, scratch_lens: vec![4 * packed + self.sums_len(&sums)], sums })
    }

    fn half_constants(&self) -> Vec<(&'static str, f64)> {
        half_constants(self.half[0], self.half[1])
    }

    /// Register tiles whose A the lanes of a subgroup share, with A packed first where many columns use it,
    /// and the epilogue last.
    fn subgroups(&self, traits: &GpuTraits) -> Result<Stages, KernelError> {
        let lanes = traits.subgroup.map_or(0, |lanes| lanes as usize);
        if !matches!(lanes, 4 | 8 | 16 | 32) {
            let what = "subgroup operations with subgroups of always 4, 8, 16 or 32 lanes";
            return Err(KernelError::Missing { kernel: self.kernel, variant: "subgroups", what });
        }
        // Where columns are found value by value, more of them share a row's load for less than their code
        // takes to compile, which counts most where sums are short.
        let most = match self.packed {
            true => 8,
            false if self.inner < PACK_INNER => 2,
            false => 4,
        };
        let (q, c) = (
            lanes_per_side(self.nominal[0], lanes, 32 / lanes),
            lanes_per_side(self.nominal[1], lanes, most),
        );
        let (row_tiles, col_tiles) = (self.rows.div_ceil(q * lanes), self.cols.div_ceil(c * lanes));
        let groups = row_tiles * col_tiles * self.slices;
        let sums =
            Sums { start: 0, quads: row_tiles * q * lanes / 4, cols: col_tiles * c * lanes, splits: 1 };
        let [rows, cols, slices] = self.nominal;
        let units = rows.div_ceil(q * lanes) * cols.div_ceil(c * lanes) * slices;
        let sums = self.split(units, BUSY_SUBGROUPS, sums, traits);
        let pack_a = !self.packed && col_tiles >= PACK_FROM && self.inner >= PACK_INNER;
        let packed_len = packed_len(self.slices, self.rows, self.inner);
        let tile = format!("const LANES: u32 = {lanes}u;\nconst Q: u32 = {q}u;\nconst C: u32 = {c}u;\n");
        let mut text = self.source("gemm_subgroups.wgsl", None, &tile, traits).into_owned();
        let packed = traits.shaders.text("gemm_packed.wgsl");
        for (operand, used) in [("a", pack_a || self.packed), ("b", self.packed)] {
            if let Some(load) = section(packed, operand).filter(|_| used) {
                text = splice(&text, operand, load);
            }
        }
        let mut dispatches = Vec::new();
        if pack_a {
            dispatches.push(Dispatch {
                shader: "gemm_packed.wgsl",
                source: self.source("gemm_packed.wgsl", None, "", traits),
                entry: "pack",
                constants: half_constants(self.half[0], false),
                workgroups: fold(
                    self.kernel,
                    (self.slices * self.rows * self.inner.div_ceil(4)).div_ceil(64),
                    traits,
                )?,
                bindings: vec![read(self.a), write(Slot::Scratch(1))],
                params: self.words(sums.splits),
            });
        }
        let a = if pack_a { Slot::Scratch(1) } else { self.a };
        dispatches.push(Dispatch {
            shader: "gemm_subgroups.wgsl",
            source: text.into(),
            entry: "main",
            constants: half_constants(self.half[0] && !pack_a, self.half[1]),
            workgroups: fold(self.kernel, groups * sums.splits, traits)?,
            bindings: vec![read(a), read(self.b), write(Slot::Scratch(0))],
            params: self.words(sums.splits),
        });
        dispatches.extend(self.reduce(true, &sums, traits)?);
        let mut scratch_lens = vec![self.sums_len(&sums)];
        scratch_lens.extend(pack_a.then_some(packed_len));
        Ok(Stages { dispatches, scratch_lens, sums })
    }

    /// Adds the partial sums of the splits and applies the epilogue, where there are sums and the caller does
    /// not.
    fn reduce(&self, needed: bool, sums: &Sums, traits: &GpuTraits) -> Result<Option<Dispatch>, KernelError> {
        if !needed || self.packed {
            return Ok(None);
        }
        let quads = self.slices * self.rows.div_ceil(4) * self.cols;
        Ok(Some(Dispatch {
            shader: "gemm_reduce.wgsl",
            source: self.source("gemm_reduce.wgsl", Some(3), "", traits),
            entry: "main",
            constants: vec![
                ("START", sums.start as f64),
                ("QUADS", sums.quads as f64),
                ("COLS", sums.cols as f64),
            ],
            workgroups: fold(self.kernel, quads.div_ceil(64), traits)?,
            bindings: bindings(vec![read(Slot::Scratch(0)), write(Slot::Output(0))], self.epilogue),
            params: self.words(sums.splits),
        }))
    }

    /// Elements of scratch for the partial sums.
    fn sums_len(&self, sums: &Sums) -> usize {
        sums.splits * self.slices * sums.quads * 4 * sums.cols
    }

    /// Chunks of the inner index: as many as bring `units` of parallel work, of a nominal batch, up to
    /// `busy`, while each keeps [`SHORTEST_CHUNK`] and the partial sums stay within half of one binding.
    fn split(&self, units: usize, busy: usize, sums: Sums, traits: &GpuTraits) -> Sums {
        let fitting = traits.max_binding_bytes as usize / 2 / (4 * self.sums_len(&sums));
        Sums { splits: (busy / units).min(self.inner / SHORTEST_CHUNK).min(fitting).max(1), ..sums }
    }

    /// The words of `Params`.
    pub(crate) fn words(&self, splits: usize) -> Vec<u32> {
        let sizes = [self.rows, self.cols, self.inner, self.slices, splits];
        let mut words: Vec<u32> = sizes.iter().map(|&size| size as u32).collect();
        words.extend(&self.params);
        words.resize(words.len().next_multiple_of(4), 0);
        words
    }

    /// A shader file with this product's operands; its epilogue's operands from binding `epilogue` on, where
    /// the file has one.
    fn source(
        &self,
        file: &str,
        epilogue: Option<usize>,
        tile: &str,
        traits: &GpuTraits,
    ) -> Cow<'static, str> {
        let text = match epilogue {
            Some(first) => with_epilogue(file, self.epilogue, first, traits),
            None => traits.shaders.text(file).to_owned(),
        };
        let text = splice(&text, "tile", tile);
        match self.operands.and_then(|maps| section(traits.shaders.text(maps), "operands")) {
            Some(operands) => splice(&text, "operands", operands).into(),
            None => text.into(),
        }
    }
}

/// Partial sums in scratch buffer 0, from vec4 `start` on: `[split, slice, quad of rows, col]` of vec4.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) start: usize,
    pub(crate) quads: usize,
    pub(crate) cols: usize,
    pub(crate) splits: usize,
}

impl Sums {
    /// No sums.
    pub(crate) const NONE: Self = Self { start: 0, quads: 0, cols: 0, splits: 1 };
}

/// Elements of `lines` packed as by `gemm_packed.wgsl`.
pub(crate) fn packed_len(slices: usize, lines: usize, inner: usize) -> usize {
    slices * lines.next_multiple_of(BLOCK) * inner.next_multiple_of(4)
}

/// Lines that each of `lanes` takes of a side: a power of two up to `most`.
fn lanes_per_side(lines: usize, lanes: usize, most: usize) -> usize {
    lines.div_ceil(lanes).next_power_of_two().min(most)
}

fn quads_per_thread(rows: usize, most: usize) -> usize {
    rows.div_ceil(4).next_power_of_two().min(most)
}

fn cols_per_thread(cols: usize, most: usize) -> usize {
    cols.next_power_of_two().min(most)
}
