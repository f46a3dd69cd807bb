//! Every family in the list has what `docs/adding-a-kernel.md` asks of one, and its samples run: a shader
//! that validates, a twin that agrees with the oracle, a test, and a page.

use crate::plans::{assert_all_variants_consistent, validate};
use crate::spaces::{run_cpu, views};
use ganomede_kernels::shaders::{FILES, Shaders};
use ganomede_kernels::{FAMILIES, Kernel, Ladder, Size, Variant, ladders};
use std::path::Path;

const SIZES: [Size; 2] = [Size::Typical, Size::Small];

/// Every rung with its sample of a size.
fn samples(size: Size) -> impl Iterator<Item = (&'static Ladder, &'static Variant, Kernel)> {
    let sample = move |ladder: &'static Ladder, variant: &'static Variant| {
        let kernel = Kernel::sample(ladder, variant.name, size).unwrap_or_else(|e| panic!("{e}"));
        (ladder, variant, kernel)
    };
    ladders().flat_map(move |ladder| ladder.variants.iter().map(move |variant| sample(ladder, variant)))
}

#[test]
fn every_family_has_its_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for family in FAMILIES {
        let folder = family.folder;
        let files = [
            format!("kernels/src/{folder}/mod.rs"),
            format!("kernels/tests/{folder}.rs"),
            format!("docs/kernels/{folder}.md"),
        ];
        for file in files {
            assert!(root.join(&file).is_file(), "{folder} has no {file}");
        }
        let shader = FILES.iter().any(|(name, _)| name.starts_with(folder));
        assert!(shader, "{folder} has no shader of its name");
    }
}

#[test]
fn every_shader_validates_as_it_stands() {
    for (name, _) in FILES.iter().filter(|(name, _)| !name.starts_with("shared/")) {
        validate(name, Shaders::default().text(name));
    }
}

#[test]
fn every_page_names_every_variant() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernels");
    for family in FAMILIES {
        for ladder in (family.ladders)() {
            // A face may have a page of its own.
            let page = [ladder.name, family.folder]
                .map(|name| pages.join(format!("{name}.md")))
                .into_iter()
                .find(|page| page.is_file())
                .unwrap_or_else(|| panic!("{} has no page", ladder.name));
            let text = std::fs::read_to_string(&page).unwrap();
            for (number, variant) in (1..).zip(ladder.variants) {
                let rung = format!("{number} `{}`", variant.name);
                assert!(text.contains(&rung), "{} does not tell of {rung}", page.display());
            }
        }
    }
}

#[test]
fn samples_show_their_variant() {
    for size in SIZES {
        for (ladder, variant, kernel) in samples(size) {
            kernel.check().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(kernel.ladder(), ladder, "{kernel:?}");
            assert!(kernel.variants().contains(&variant.name), "{} of {kernel:?}", variant.name);
            assert!(!kernel.line().is_empty() && kernel.cost().bytes_written > 0, "{kernel:?}");
        }
    }
    let magic = Kernel::sample(ladders().next().unwrap(), "magic", Size::Small).unwrap_err();
    assert!(magic.to_string().contains("1 naive, 2 tile32"), "{magic}");
}

#[test]
fn shaders_of_samples_declare_what_plans_bind() {
    samples(Size::Small).for_each(|(_, _, kernel)| assert_all_variants_consistent(&kernel));
}

#[test]
fn twins_of_samples_match_the_oracle() {
    for (_, _, kernel) in samples(Size::Small) {
        let (inputs, before) = kernel.sample_data(7);
        let want = kernel.oracle(&views(&inputs), &views(&before));
        let got = run_cpu(&kernel, &inputs, &before);
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            let scale = (want.iter().map(|w| w * w).sum::<f64>() / want.len() as f64).sqrt().max(1e-3);
            for (&g, &w) in got.iter().zip(want) {
                assert!((f64::from(g) - w).abs() <= 1e-5 * scale, "{g} for {w} of {kernel:?}");
            }
        }
    }
}
