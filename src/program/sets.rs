//! Sets of numbers that share their parts. Equal sets are one and the same, and a union takes as long as the
//! two differ.

use std::collections::HashMap;

/// A set made by one [`Sets`]: equal to another exactly if both hold the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Set(usize);

impl Set {
    pub(super) const EMPTY: Set = Set(0);
    /// The one number that is left when all bits have been looked at.
    const LEAF: Set = Set(1);
}

/// Binary trees over the bits of the numbers; equal subtrees exist once.
pub(super) struct Sets {
    bits: u32,
    halves: Vec<[Set; 2]>,
    known: HashMap<[Set; 2], Set>,
    unions: HashMap<[Set; 2], Set>,
}

impl Sets {
    /// Sets of numbers below `end`.
    pub(super) fn new(end: usize) -> Self {
        let bits = usize::BITS - end.leading_zeros();
        let none = [Set::EMPTY; 2];
        Self { bits, halves: vec![none, none], known: HashMap::new(), unions: HashMap::new() }
    }

    /// The set with one more number.
    pub(super) fn with(&mut self, set: Set, number: usize) -> Set {
        let single = (0..self.bits).fold(Set::LEAF, |half, bit| {
            self.joined(if number >> bit & 1 == 0 { [half, Set::EMPTY] } else { [Set::EMPTY, half] })
        });
        self.union(set, single)
    }

    /// All numbers of both.
    pub(super) fn union(&mut self, a: Set, b: Set) -> Set {
        match (a, b) {
            (Set::EMPTY, set) | (set, Set::EMPTY) => return set,
            (a, b) if a == b => return a,
            _ => {}
        }
        let key = if a.0 < b.0 { [a, b] } else { [b, a] };
        if let Some(&known) = self.unions.get(&key) {
            return known;
        }
        let ([a0, a1], [b0, b1]) = (self.halves[a.0], self.halves[b.0]);
        let halves = [self.union(a0, b0), self.union(a1, b1)];
        let set = self.joined(halves);
        self.unions.insert(key, set);
        set
    }

    fn joined(&mut self, halves: [Set; 2]) -> Set {
        *self.known.entry(halves).or_insert_with(|| {
            self.halves.push(halves);
            Set(self.halves.len() - 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::{Set, Sets};

    #[test]
    fn equal_sets_are_one_however_they_were_made() {
        let mut sets = Sets::new(10);
        let mut by_content: HashMap<BTreeSet<usize>, Set> = HashMap::from([(BTreeSet::new(), Set::EMPTY)]);
        for round in 0..3 {
            let known: Vec<_> = by_content.iter().map(|(content, &set)| (content.clone(), set)).collect();
            for (i, (content, set)) in known.iter().enumerate() {
                let (other, with) = &known[(i * 7 + round) % known.len()];
                let number = (i * 3 + round) % 10;
                let grown = &(content | other) | &BTreeSet::from([number]);
                let set = sets.union(*set, *with);
                let set = sets.with(set, number);
                assert_eq!(*by_content.entry(grown).or_insert(set), set);
            }
        }
        let distinct: BTreeSet<usize> = by_content.values().map(|set| set.0).collect();
        assert_eq!(distinct.len(), by_content.len(), "different sets differ");
        assert!(by_content.len() > 5);
    }
}
