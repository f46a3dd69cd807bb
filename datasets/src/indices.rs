//! Which entries of a split take part, in constant memory.

use std::sync::Arc;

use crate::DataError;
use crate::rng::Permutation;

/// Domain of the hold-out permutation, so that no other use of the seed repeats it.
const HOLDOUT: u64 = 0x686f_6c64;

/// Domain of the sub-sampling permutation.
const SHUFFLED: u64 = 0x7375_6273;

/// An ordered choice of entries: all of them, one side of a hold-out, or a list.
#[derive(Clone, Debug)]
pub struct Indices {
    /// Images chosen: positions `start..start + images`, through the permutation or list if there is one.
    order: Order,
    start: usize,
    images: usize,
    per_image: usize,
}

#[derive(Clone, Debug)]
enum Order {
    Natural,
    Permuted(Permutation),
    Listed(Arc<[usize]>),
}

impl Indices {
    /// Entries 0..n.
    pub fn all(n: usize) -> Self {
        Indices { order: Order::Natural, start: 0, images: n, per_image: 1 }
    }

    /// The entries given, in their order; those beyond the end of the set fail when loaded.
    pub fn list(entries: Vec<usize>) -> Self {
        let images = entries.len();
        Indices { order: Order::Listed(entries.into()), start: 0, images, per_image: 1 }
    }

    /// Entries 0..n in a random order.
    pub fn shuffled(n: usize, seed: u64) -> Self {
        let order = Order::Permuted(Permutation::new(n as u64, &[seed, SHUFFLED]));
        Indices { order, start: 0, images: n, per_image: 1 }
    }

    /// The first `n` of these, or all if there are fewer.
    pub fn take(&self, n: usize) -> Self {
        if n >= self.len() {
            self.clone()
        } else {
            Indices::list((0..n).filter_map(|i| self.get(i)).collect())
        }
    }

    pub(crate) fn holdout(
        images: usize,
        per_image: usize,
        fraction: f64,
        seed: u64,
    ) -> Result<(Self, Self), DataError> {
        if !(0.0..1.0).contains(&fraction) {
            return Err(DataError::option(
                "val-fraction",
                fraction,
                "use 0 (none) up to but not including 1",
            ));
        }
        let held = match fraction {
            0.0 => 0,
            _ if images < 2 => {
                let reason =
                    format!("there are {images} training images to hold out from; give 2 or more, or use 0");
                return Err(DataError::option("val-fraction", fraction, reason));
            }
            _ => ((images as f64 * fraction).round() as usize).clamp(1, images - 1),
        };
        let order = Order::Permuted(Permutation::new(images as u64, &[seed, HOLDOUT]));
        let train = Indices { order: order.clone(), start: held, images: images - held, per_image };
        Ok((train, Indices { order, start: 0, images: held, per_image }))
    }

    /// Number of entries chosen.
    pub fn len(&self) -> usize {
        self.images * self.per_image
    }

    /// Whether none is chosen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at `position`; None beyond the end.
    pub fn get(&self, position: usize) -> Option<usize> {
        if position >= self.len() {
            return None;
        }
        let place = self.start + position / self.per_image;
        let image = match &self.order {
            Order::Natural => place,
            Order::Permuted(permutation) => permutation.get(place as u64) as usize,
            Order::Listed(entries) => entries[place],
        };
        Some(image * self.per_image + position % self.per_image)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter_map(|position| self.get(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_holdout_is_a_partition(images in 2usize..500, per in 1usize..5, fraction in 0.0..0.99, seed: u64) {
            let (train, val) = Indices::holdout(images, per, fraction, seed).unwrap();
            let mut all: Vec<_> = train.iter().chain(val.iter()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..images * per).collect::<Vec<_>>());
            let kept: std::collections::BTreeSet<_> = train.iter().map(|i| i / per).collect();
            prop_assert!(val.iter().all(|i| !kept.contains(&(i / per))), "an image is on both sides");
            prop_assert_eq!(val.is_empty(), fraction == 0.0);
            prop_assert!(!train.is_empty());
        }
    }

    #[test]
    fn fractions_outside_the_range_are_refused() {
        for fraction in [1.0, -0.1, f64::NAN] {
            assert!(Indices::holdout(10, 1, fraction, 0).is_err());
        }
        assert!(Indices::holdout(1, 4, 0.1, 0).is_err());
    }
}
