//! Every system detects: after a short training on images of a built-in set, all normal, it ranks the
//! anomalous test images above the normal ones, by a bound that five seeds keep (`tests/common/detection.rs`
//! has the numbers). The same network without training does not reach it, nor does the trained one with the
//! truths in another order.

#[path = "common/detection.rs"]
mod cases;

use cases::{CASES, Found, run};
use ganomede::models::SYSTEMS;

/// What a bound leaves to other processors and to changes of what is rounded.
const MARGIN: f64 = 0.03;

#[test]
fn every_system_has_a_bound_that_five_seeds_keep_with_a_margin() {
    let names = CASES.iter().map(|case| case.system);
    assert!(names.eq(SYSTEMS.iter().map(|info| info.name)), "the systems, in their order");
    for case in CASES {
        let least = case.trained.into_iter().fold(1.0, f64::min);
        assert!(least >= case.bound + MARGIN, "{}: {least} beside the bound {}", case.system, case.bound);
        assert!(case.untrained[0] <= case.bound - MARGIN, "{}: nothing is learned", case.system);
    }
}

fn detects(system: &str) {
    let case = CASES.iter().find(|case| case.system == system).expect("a case");
    let Found { untrained, trained, permuted } = run(case, 0);
    let bound = case.bound;
    assert!(trained >= bound, "{system}: AUROC {trained:.3}, less than {bound}");
    assert!(untrained < bound, "{system}: AUROC {untrained:.3} without any training");
    assert!(permuted < bound, "{system}: AUROC {permuted:.3} with truths that say nothing");
}

/// A test for each system, so that the one that fails has its name.
macro_rules! each {
    ($($name:ident => $system:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            detects($system);
        })*

        #[test]
        fn every_system_is_tested() {
            assert!([$($system),*].into_iter().eq(SYSTEMS.iter().map(|info| info.name)));
        }
    };
}

each! {
    anogan_detects => "anogan",
    f_anogan_detects => "f-anogan",
    ganomaly_detects => "ganomaly",
    skip_ganomaly_detects => "skip-ganomaly",
    egbad_detects => "egbad",
    memae_detects => "memae",
    adae_detects => "adae",
    dagan_detects => "dagan",
    beatgan_detects => "beatgan",
    ae_detects => "ae",
    vae_detects => "vae",
    acae_detects => "acae",
    deep_svdd_detects => "deep-svdd",
    pca_detects => "pca",
    gmm_detects => "gmm",
    feature_gaussian_detects => "feature-gaussian",
    knn_detects => "knn",
    nsa_detects => "nsa",
    draem_detects => "draem",
}
