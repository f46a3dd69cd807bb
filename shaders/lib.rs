//! The texts of Ganomede's shaders: every `*.wgsl` file beside this one, embedded.
//!
//! A shader's header gives its formula, layouts, bindings and dispatch. What launches them, and the pipeline
//! constants that choose their tiles, is the crate `ganomede-kernels`.

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
    "gemm_subgroups.wgsl",
    "gemm_tile.wgsl",
    "moments.wgsl",
    "peak_copy.wgsl",
    "peak_fma.wgsl",
    "pointwise.wgsl",
    "pointwise_quads.wgsl",
    "pool.wgsl",
    "random.wgsl",
    "reduce.wgsl",
    "sparse.wgsl",
];

/// The text of a file of [`FILES`].
pub fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed() {
        let mut names: Vec<String> = std::fs::read_dir(env!("CARGO_MANIFEST_DIR"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".wgsl"))
            .collect();
        names.sort();
        assert_eq!(names, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert!(FILES.iter().all(|(_, text)| text.starts_with("//")), "each begins with its header");
    }
}
