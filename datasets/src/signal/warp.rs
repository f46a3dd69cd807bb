//! Time warping of windows, BeatGAN's augmentation (Zhou et al., IJCAI 2019, §3.4): some ticks are stretched,
//! as many dropped.

use std::str::FromStr;

use crate::DataError;
use crate::rng::Rng;

/// Domain of the choices, so that no other use of the seed repeats them.
const WARP: u64 = 0x7761_7270;

/// Stretches and drops a share of the ticks of every second window. Parsed from `warp:0.04`, none from an
/// empty text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Warp {
    /// Ticks that are stretched, and as many that are dropped, as a share of the window; 0 warps nothing.
    pub share: f32,
}

impl FromStr for Warp {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let share = text.trim().strip_prefix("warp:").and_then(|share| share.parse().ok());
        match share {
            Some(share) if share > 0.0 && share <= 0.25 => Ok(Self { share }),
            _ => {
                let reason = "series take `warp:SHARE` alone, with a share of the ticks above 0 and at most 0.25; the \
                              paper's is 0.044";
                Err(DataError::option("augment", text, reason))
            }
        }
    }
}

impl Warp {
    /// Warps one window, C × L values, or leaves it, as `key` has it. Both halves keep their number of ticks;
    /// what is drawn out is filled by the mean of two neighbours.
    pub fn apply(self, window: &mut [f32], channels: usize, key: &[u64]) {
        let length = window.len() / channels.max(1);
        let count = (self.share * length as f32 / 2.0).round() as usize;
        let mut rng = Rng::new(&[key, &[WARP]].concat());
        if count == 0 || length < 4 || rng.below(2) == 0 {
            return;
        }
        let half = length / 2;
        let mut copies = vec![1; length];
        // The last tick has no neighbour to be stretched towards.
        for (first, end) in [(0, half), (half, length - 1)] {
            let mut ticks: Vec<usize> = (first..end).collect();
            for place in 0..(2 * count).min(ticks.len() / 2 * 2) {
                let other = place + rng.below((ticks.len() - place) as u64) as usize;
                ticks.swap(place, other);
                copies[ticks[place]] = if place % 2 == 0 { 2 } else { 0 };
            }
        }
        for channel in window.chunks_exact_mut(length) {
            let given = channel.to_vec();
            let warped = copies.iter().enumerate().flat_map(|(tick, &copies)| {
                let between = (given[tick] + given[(tick + 1).min(length - 1)]) / 2.0;
                [given[tick], between].into_iter().take(copies)
            });
            channel.iter_mut().zip(warped).for_each(|(value, warped)| *value = warped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_stays_a_ramp_of_the_same_ends_and_channels_are_warped_alike() {
        let warp: Warp = "warp:0.1".parse().unwrap();
        let ramp = || -> Vec<f32> { (0..128).map(|i| (i % 64) as f32).collect() };
        let mut warped = 0;
        for key in 0..40 {
            let mut window = ramp();
            warp.apply(&mut window, 2, &[7, key]);
            let mut again = ramp();
            warp.apply(&mut again, 2, &[7, key]);
            assert_eq!(window, again, "a function of the key");
            assert_eq!(window[..64], window[64..], "both channels alike");
            assert!(window[..64].is_sorted() && window[63] == 63.0, "{window:?}");
            // The second half starts where it started, but for the ticks that are dropped there.
            let fractions = window[..64].iter().filter(|v| v.fract() != 0.0).count();
            if window != ramp() {
                warped += 1;
                assert_eq!(fractions, 2 * 3, "three ticks of each half are stretched by one");
            }
        }
        assert!((8..33).contains(&warped), "{warped} of 40 windows are warped");
    }

    #[test]
    fn nothing_is_warped_unless_asked_for() {
        let none: Warp = "".parse().unwrap();
        let mut window = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        none.apply(&mut window, 1, &[1]);
        assert_eq!(window, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        for wrong in ["flip", "warp", "warp:0", "warp:0.3", "warp:nan", "flip,warp:0.1"] {
            assert!(wrong.parse::<Warp>().unwrap_err().to_string().contains("warp:SHARE"), "{wrong}");
        }
    }
}
