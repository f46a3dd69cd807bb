//! Which entries of a split take part, in constant memory.

use std::sync::Arc;

use crate::DataError;
use crate::groups::Groups;
use crate::rng::Permutation;

/// Domain of the hold-out permutation, so that no other use of the seed repeats it.
const HOLDOUT: u64 = 0x686f_6c64;

/// Domain of the same for groups.
const GROUPS: u64 = 0x6772_6f75_7073;

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

    /// As [`Indices::holdout`], by whole groups of images, of which there must be two.
    pub(crate) fn holdout_groups(
        groups: &Groups,
        per_image: usize,
        fraction: f64,
        seed: u64,
    ) -> Result<(Self, Self), DataError> {
        let images = groups.of.len();
        let (all, usual) = Indices::holdout(images, per_image, fraction, seed)?;
        if usual.is_empty() {
            return Ok((all, usual));
        }
        if groups.len() < 2 {
            let reason = format!(
                "all {images} training images are of one group, and groups are held out whole; give more groups, or \
                 use 0"
            );
            return Err(DataError::option("val-fraction", fraction, reason));
        }
        let wanted = usual.len() / per_image;
        let (sizes, order) = (groups.sizes(), Permutation::new(groups.len() as u64, &[seed, GROUPS]));
        let (mut is_held, mut held) = (vec![false; groups.len()], 0);
        for place in 0..groups.len() - 1 {
            if held >= wanted {
                break;
            }
            let group = order.get(place as u64) as usize;
            (is_held[group], held) = (true, held + sizes[group]);
        }
        let order = Permutation::new(images as u64, &[seed, HOLDOUT]);
        let in_order = (0..images).map(|place| order.get(place as u64) as usize);
        let (held, kept): (Vec<_>, Vec<_>) = in_order.partition(|&image| is_held[groups.of[image] as usize]);
        let [kept, held] = [kept, held].map(|entries| Indices { per_image, ..Indices::list(entries) });
        Ok((kept, held))
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

    proptest! {
        #[test]
        fn no_group_is_on_both_sides(
            names in proptest::collection::vec(0u32..12, 2..200), per in 1usize..4, fraction in 0.01..0.99, seed: u64
        ) {
            let groups = Groups::of_names(names.iter().map(|name| Ok(name.to_string()))).unwrap();
            let found = Indices::holdout_groups(&groups, per, fraction, seed);
            if groups.len() < 2 {
                prop_assert!(found.unwrap_err().to_string().contains("one group"));
                return Ok(());
            }
            let (train, val) = found.unwrap();
            let mut all: Vec<_> = train.iter().chain(val.iter()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..names.len() * per).collect::<Vec<_>>());
            let of = |indices: &Indices| indices.iter().map(|i| names[i / per]).collect::<std::collections::BTreeSet<_>>();
            prop_assert!(of(&train).is_disjoint(&of(&val)), "a group is on both sides");
            prop_assert!(!train.is_empty() && !val.is_empty());
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
