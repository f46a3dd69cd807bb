//! Counter-based random numbers: Philox 4×32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
//! 3", 2011).

mod cpu;

use crate::error::{KernelError, shape_error};
use crate::family::{Family, Size, Values};
use crate::ladder::{Ladder, variant};
use crate::launch::{Cost, Dispatch, GpuPlan, GpuTraits, Slot};
use crate::layout;
use crate::plan::{begin, fold, read, write};

const LADDERS: [Ladder; 1] = [Ladder {
    name: "random",
    computes: "Philox uniform and normal numbers",
    variants: &[
        variant("naive", "1 number a thread", "never: the reference"),
        variant("blocks", "4 numbers, one Philox block, a thread", "always"),
    ],
}];

/// How the numbers are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// [0, 1): the top 24 bits of each word times 2⁻²⁴; the same bits on every device.
    Uniform,
    /// N(0, 1) by Box–Muller on pairs of words.
    Normal,
}

/// Fills an output of `len`. Inputs: `key [2]` (bit patterns of two u32 words) and `step [1]` (a whole number
/// held as f32, the replay count). Element i uses word i mod 4 of the block with counter (i / 4, stream,
/// step, 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Random {
    /// How they are distributed.
    pub distribution: Distribution,
    /// Number of elements.
    pub len: usize,
    /// Distinguishes the random nodes of one program.
    pub stream: u32,
}

/// One block of Philox 4×32-10: ten rounds of two 32×32→64 multiplications over a bumped key.
#[inline]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]).wrapping_mul(0xD251_1F53);
        let b = u64::from(counter[2]).wrapping_mul(0xCD9E_8D57);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = next_key(key);
    }
    counter
}

/// The key of the following round.
fn next_key(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)]
}

impl Family for Random {
    fn name(&self) -> &'static str {
        match self.distribution {
            Distribution::Uniform => "random_uniform",
            Distribution::Normal => "random_normal",
        }
    }

    fn check(&self) -> Result<(), KernelError> {
        layout::checked_numel(self.name(), &[self.len])?;
        // The block number is one 32-bit counter word.
        match u32::try_from(self.len / 4) {
            Ok(_) => Ok(()),
            Err(_) => Err(shape_error(self.name(), format!("{} elements exceed 2^34", self.len))),
        }
    }

    fn input_lens(&self) -> Vec<usize> {
        vec![2, 1]
    }

    fn output_lens(&self) -> Vec<usize> {
        vec![self.len]
    }

    fn cost(&self) -> Cost {
        Cost { flops: 0, bytes_read: 12, bytes_written: layout::bytes(&self.output_lens()) }
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        let variant = begin(self, traits, variant, || "blocks")?;
        let (entry, per_group) = if variant == "blocks" { ("main", 256) } else { ("naive", 64) };
        let normal = u32::from(self.distribution == Distribution::Normal);
        let dispatch = Dispatch {
            shader: "random.wgsl",
            source: traits.shaders.text("random.wgsl").to_owned().into(),
            entry,
            constants: Vec::new(),
            workgroups: fold(self.name(), self.len.div_ceil(per_group), traits)?,
            bindings: vec![read(Slot::Input(0)), read(Slot::Input(1)), write(Slot::Output(0))],
            params: vec![self.len as u32, self.stream, normal, 0],
        };
        Ok(GpuPlan { variant, dispatches: vec![dispatch], scratch_lens: Vec::new() })
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], _scratch: &mut [f32]) {
        let key = [inputs[0][0].to_bits(), inputs[0][1].to_bits()];
        cpu::run(self, key, inputs[1][0] as u32, outputs[0]);
    }

    fn line(&self) -> String {
        format!("→ {}", self.len)
    }

    fn ladders() -> &'static [Ladder] {
        &LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &LADDERS[0]
    }

    fn oracle(&self, inputs: &[&[f32]], _before: &[&[f32]]) -> Vec<Vec<f64>> {
        let (key, step) = (inputs[0], inputs[1][0]);
        let unit = |word: u32| f64::from(word >> 8) / f64::from(1 << 24);
        let number = |i: usize| {
            let counter = [(i / 4) as u32, self.stream, step as u32, 0];
            let words = philox(counter, [key[0].to_bits(), key[1].to_bits()]);
            match self.distribution {
                Distribution::Uniform => unit(words[i % 4]),
                Distribution::Normal => {
                    // Box–Muller on words (0, 1) and (2, 3): the even element takes the cosine, the odd the
                    // sine.
                    let pair = i % 4 / 2 * 2;
                    let radius = (-2.0 * (unit(words[pair]) + 1.0 / f64::from(1 << 24)).ln()).sqrt();
                    let angle = std::f64::consts::TAU * unit(words[pair + 1]);
                    radius * if i.is_multiple_of(2) { angle.cos() } else { angle.sin() }
                }
            }
        };
        vec![(0..self.len).map(number).collect()]
    }

    fn sample(_ladder: &str, _variant: &str, size: Size) -> Self {
        let len = if size == Size::Typical { 64 * 64 * 32 * 32 } else { 1001 };
        Self { distribution: Distribution::Normal, len, stream: 0 }
    }

    fn values(&self, buffer: Slot) -> Values {
        // A step is a whole number.
        if buffer == Slot::Input(1) { Values::Fixed(3.0) } else { Values::Tame }
    }
}
