//! The texts of Ganomede's shaders: every `*.wgsl` file beside this one and in `shared/`, embedded.
//!
//! What several shaders are made of stands once, in `shared/`; a line `//#use shared/thread.wgsl` takes it
//! in.
//!
//! A shader's header gives its formula, layouts, bindings and dispatch. What launches them, and the pipeline
//! constants that choose their tiles, is the crate `ganomede-kernels`.

use std::sync::LazyLock;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// Every shader file, with its text.
        pub const FILES: &[(&str, &str)] = &[$(($name, include_str!($name))),*];
    };
}

files![
    "conv.wgsl",
    "conv_direct.wgsl",
    "conv_naive.wgsl",
    "conv_winograd.wgsl",
    "copy.wgsl",
    "expr.wgsl",
    "gemm_dot.wgsl",
    "gemm_naive.wgsl",
    "gemm_packed.wgsl",
    "gemm_reduce.wgsl",
    "gemm_registers.wgsl",
    "gemm_scales.wgsl",
    "gemm_subgroups.wgsl",
    "gemm_tile.wgsl",
    "gemm_tile_f16.wgsl",
    "moments.wgsl",
    "peak_copy.wgsl",
    "peak_fma.wgsl",
    "pointwise.wgsl",
    "pointwise_quads.wgsl",
    "pool.wgsl",
    "random.wgsl",
    "reduce.wgsl",
    "shared/a_at.wgsl",
    "shared/b_at.wgsl",
    "shared/epilogue.wgsl",
    "shared/product.wgsl",
    "shared/source_at.wgsl",
    "shared/store.wgsl",
    "shared/strides.wgsl",
    "shared/thread.wgsl",
    "sparse.wgsl",
];

/// A file of [`FILES`] as it stands, with its `//#use` lines.
pub fn file(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| *text)
}

/// The text of a file of [`FILES`], with the pieces that it uses in their places.
pub fn text(name: &str) -> Option<&'static str> {
    static TEXTS: LazyLock<Vec<String>> =
        LazyLock::new(|| FILES.iter().map(|(_, text)| joined(text, file)).collect());
    let place = FILES.iter().position(|(file, _)| *file == name)?;
    Some(&TEXTS[place])
}

/// A text with the piece that each of its `//#use` lines names in the place of the line. The header of a
/// piece, its first comment, is left out; so is a piece that `find` does not have.
pub fn joined<'a>(text: &str, find: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut whole = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.trim_end().strip_prefix("//#use ") {
            None => whole.push_str(line),
            Some(name) => {
                let piece = find(name).unwrap_or_default();
                whole.push_str(piece.split_once("\n\n").map_or(piece, |(_, body)| body));
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let names = |below: &str| -> Vec<String> {
            std::fs::read_dir(folder.join(below))
                .unwrap()
                .map(|entry| below.to_owned() + &entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".wgsl"))
                .collect()
        };
        let mut names = [names(""), names("shared/")].concat();
        names.sort();
        assert_eq!(names, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert!(FILES.iter().all(|(_, text)| text.starts_with("//")), "each begins with its header");
    }

    #[test]
    fn every_piece_is_used_and_every_use_is_a_piece() {
        let uses = |text: &'static str| text.lines().filter_map(|line| line.strip_prefix("//#use "));
        for (name, text) in FILES {
            let piece = name.starts_with("shared/");
            assert!(uses(text).all(|used| file(used).is_some_and(|_| !piece)), "{name}");
            let users = FILES.iter().filter(|(_, text)| uses(text).any(|used| used == *name)).count();
            assert!(if piece { users >= 2 } else { users == 0 }, "{users} shaders use {name}");
            assert!(!super::text(name).unwrap().contains("//#use"), "{name}");
        }
    }
}
