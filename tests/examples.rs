//! Every example runs to its end; what each claims, it asserts itself.

#[path = "../examples/anogan_folder.rs"]
mod anogan_folder;
#[path = "../examples/autoencoder.rs"]
mod autoencoder;
#[path = "../examples/custom_kernel.rs"]
mod custom_kernel;
#[path = "../examples/custom_system.rs"]
mod custom_system;
#[path = "../examples/large_image.rs"]
mod large_image;
#[path = "../examples/latent_search.rs"]
mod latent_search;
#[path = "../examples/linear_regression.rs"]
mod linear_regression;
#[path = "../examples/score_from_bytes.rs"]
mod score_from_bytes;
#[path = "../examples/tape.rs"]
mod tape;

macro_rules! run {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            $name::main().unwrap();
        })*

        #[test]
        fn none_is_left_out() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
            let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            let mut files: Vec<_> = files.collect();
            files.sort();
            assert_eq!(files, [$(concat!(stringify!($name), ".rs")),*]);
        }
    };
}

run!(
    anogan_folder,
    autoencoder,
    custom_kernel,
    custom_system,
    large_image,
    latent_search,
    linear_regression,
    score_from_bytes,
    tape
);

/// The lines of `main` in the example of a whole life: few enough to be read at a glance.
#[test]
fn a_detectors_life_takes_a_dozen_lines() {
    let text = include_str!("../examples/score_from_bytes.rs");
    let body = text.split_once("fn main()").unwrap().1;
    let lines = body.lines().skip(1).take_while(|line| *line != "}").count();
    assert!(lines <= 12, "{lines} lines");
}
