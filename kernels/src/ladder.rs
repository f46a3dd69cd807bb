//! The GPU variants of a family in the order in which they are taught: each rung, its number, its tile and
//! why it exists. `kernels list` prints this; the choice itself is made beside the plans.

/// The variants of a family, or of one face of it, as people ask for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// Name on the command line.
    pub name: &'static str,
    /// What it computes.
    pub computes: &'static str,
    /// Its variants, the naive reference first; numbered from 1.
    pub variants: &'static [Variant],
}

/// One rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Name in plans.
    pub name: &'static str,
    /// What one thread or workgroup computes.
    pub tile: &'static str,
    /// When it is chosen.
    pub chosen: &'static str,
}

/// A rung: its name, its tile, and when it is chosen.
pub(crate) const fn variant(name: &'static str, tile: &'static str, chosen: &'static str) -> Variant {
    Variant { name, tile, chosen }
}

impl Ladder {
    /// The variant of a number from 1 or a name; `None` where there is none.
    pub fn variant(&self, asked: &str) -> Option<&'static Variant> {
        let number = asked.parse::<usize>().ok().and_then(|number| self.variants.get(number.checked_sub(1)?));
        number.or_else(|| self.variants.iter().find(|variant| variant.name == asked))
    }

    /// `1 naive, 2 tile32, …`, for messages.
    pub fn known(&self) -> String {
        let names: Vec<String> = (1..).zip(self.variants).map(|(n, v)| format!("{n} {}", v.name)).collect();
        names.join(", ")
    }
}
