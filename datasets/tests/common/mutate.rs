//! Changes to files that break formats: the same numbers give the same changes.

/// Numbers that formats stumble over.
const NUMBERS: [u64; 12] =
    [0, 1, 7, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 31, u64::MAX, u64::MAX / 2];
/// Words that parsers of text stumble over.
const WORDS: [&str; 14] = [
    "99999999999999999999",
    "4294967296",
    "1e309",
    "-1",
    "nan",
    "inf",
    "",
    "\"",
    ",,,,",
    "\n\n",
    "\u{feff}",
    "[[[[[[[[",
    "\\u0000",
    "2014-02-30 25:61:61",
];

/// A stream of numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, or 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// One of `seeds` with one to four changes.
pub(crate) fn mutant(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(4) {
        change(random, &mut bytes, seeds);
    }
    bytes.truncate(1 << 16);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let length = bytes.len();
    // Half of the places are near the start, where headers are.
    let at = if random.below(2) == 0 { random.below(length.min(64)) } else { random.below(length) };
    let end = (at + 1 + random.below(64)).min(length);
    match random.below(9) {
        0 if length > 0 => bytes[at] ^= 1 << random.below(8),
        1 if length > 0 => bytes[at] = random.next() as u8,
        2 => {
            let (number, width) = (NUMBERS[random.below(NUMBERS.len())], [1, 2, 4, 8][random.below(4)]);
            let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
            let word = if random.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
            for (byte, &new) in bytes.iter_mut().skip(at).zip(word) {
                *byte = new;
            }
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at.min(end)..end)),
        5 => {
            let part = bytes[at.min(end)..end].repeat(1 + random.below(64));
            bytes.splice(end..end, part);
        }
        6 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        7 => {
            // A number of a text becomes a word.
            let start = bytes.iter().skip(at).position(u8::is_ascii_digit).map_or(at, |n| at + n).min(length);
            let digits = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
            bytes.splice(start..start + digits, WORDS[random.below(WORDS.len())].bytes());
        }
        _ => {
            let noise: Vec<u8> = (0..random.below(16)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, noise);
        }
    }
}
