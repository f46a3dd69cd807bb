//! Counter-based randomness: every number is a pure function of a key, so results depend neither on thread
//! count nor on the order of calls, and no crate upgrade can change them.

/// SplitMix64 finaliser (Steele, Lea and Flood 2014): a bijection of u64 that passes avalanche tests.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hash of a key of any length; the order of the words matters.
pub(crate) fn hash(key: &[u64]) -> u64 {
    key.iter().fold(mix(GOLDEN ^ key.len() as u64), |h, &word| mix(h.wrapping_add(GOLDEN) ^ mix(word)))
}

/// A stream of numbers for one key. Only +, −, ×, ÷ and √ are used, so the bits agree on every platform.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a key of any length, such as (seed, step, index).
    pub fn new(key: &[u64]) -> Self {
        Rng(hash(key))
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform in [0, 1), 24 bits.
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / (1u64 << 24) as f32)
    }

    /// Uniform in [low, high).
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..n; the bias of the multiply-shift is below n/2⁶⁴. `n` must not be 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Zero mean, unit variance, bell-shaped: four 16-bit uniforms of one draw (Irwin–Hall; |x| ≤ 2√3).
    pub fn bell(&mut self) -> f32 {
        let bits = self.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // A sum of four uniforms of [0, 1) has variance 4/12.
        (sum as f32 * (1.0 / 65536.0) - 2.0) * 1.732_050_8
    }
}

/// A seeded permutation of 0..n in constant memory: a Feistel network on the next even power of two, walked
/// until it lands inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    n: u64,
    half_bits: u32,
    keys: [u64; 6],
}

impl Permutation {
    pub(crate) fn new(n: u64, key: &[u64]) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let mut rng = Rng::new(key);
        Permutation { n, half_bits: bits.div_ceil(2).max(1), keys: std::array::from_fn(|_| rng.next_u64()) }
    }

    /// Where position `i` < n goes. At most four walks are expected, since the domain is below 4n.
    pub(crate) fn get(&self, i: u64) -> u64 {
        debug_assert!(i < self.n);
        let mask = (1u64 << self.half_bits) - 1;
        let mut x = i;
        loop {
            let (mut left, mut right) = (x >> self.half_bits, x & mask);
            for key in self.keys {
                (left, right) = (right, left ^ (mix(right ^ key) & mask));
            }
            x = left << self.half_bits | right;
            if x < self.n {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Permutation, Rng, hash};
    use proptest::prelude::{prop_assert, proptest};

    proptest! {
        #[test]
        fn permutation_is_a_bijection(n in 1u64..3000, seed: u64) {
            let permutation = Permutation::new(n, &[seed]);
            let mut seen = vec![false; n as usize];
            for i in 0..n {
                let j = permutation.get(i) as usize;
                prop_assert!(!seen[j]);
                seen[j] = true;
            }
        }

        #[test]
        fn below_stays_below(n in 1u64.., seed: u64) {
            prop_assert!(Rng::new(&[seed]).below(n) < n);
        }
    }

    #[test]
    fn the_stream_never_changes() {
        // Written down once: a changed value would silently change every seeded result.
        assert_eq!(hash(&[1, 2, 3]), 18_095_599_185_717_027_895);
        let mut rng = Rng::new(&[7]);
        assert_eq!(
            [rng.next_u64(), rng.next_u64()],
            [17_431_826_054_206_982_248, 16_371_965_718_231_460_538]
        );
        let permutation = Permutation::new(10, &[1]);
        assert_eq!((0..10).map(|i| permutation.get(i)).collect::<Vec<_>>(), [3, 1, 2, 0, 6, 7, 4, 9, 8, 5]);
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[0]), hash(&[0, 0]));
    }

    #[test]
    fn moments_are_those_of_the_named_distributions() {
        let mut rng = Rng::new(&[7]);
        let n = 40_000;
        let (mut mean, mut square, mut uniform) = (0.0f64, 0.0f64, 0.0f64);
        for _ in 0..n {
            let x = f64::from(rng.bell());
            mean += x;
            square += x * x;
            uniform += f64::from(rng.unit());
        }
        let n = f64::from(n);
        assert!((mean / n).abs() < 0.02, "mean {}", mean / n);
        assert!((square / n - 1.0).abs() < 0.03, "variance {}", square / n);
        assert!((uniform / n - 0.5).abs() < 0.01, "uniform mean {}", uniform / n);
    }
}
