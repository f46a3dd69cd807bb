//! Scores that every system has which reconstructs, beside its published ones: how far x and x̂ lie apart, by
//! their pixels, their structure, or what a network of the system sees in them.
//!
//! | score | of x and x̂ | map |
//! |---|---|---|
//! | `residual` | mean ∣x − x̂∣ | ∣x − x̂∣, mean over channels |
//! | `ssim` | mean of 1 − SSIM(x, x̂), windows of 11 (Wang et al. 2004, equation 13) | the same at each pixel, mean over channels |
//! | `features` | mean ∣f(x) − f(x̂)∣ | as `residual` |
//!
//! f are the features of the system's default score: the discriminator's or critic's of a GAN that looks at
//! them, else the code of the encoder. A name that a system has itself is its own score.

use super::system::{Info, Named, Scored, System, residual_map};
use super::{Config, ConfigError, Form};
use crate::nn::ssim;
use crate::tape::{States, Tape, Tensor};

/// The scores.
pub const COMMON: [Named; 3] = [
    Named { name: "residual", about: "mean |x − x̂|" },
    Named { name: "ssim", about: "mean of 1 − SSIM(x, x̂), windows of 11" },
    Named { name: "features", about: "mean |f(x) − f(x̂)|, f of the discriminator or the encoder" },
];

/// Side of SSIM's windows.
const WINDOW: usize = 11;

/// Whether a score of a system is one of these, and not its own.
pub fn is_common(info: &Info, name: &str) -> bool {
    !info.scores.iter().any(|own| own.name == name) && COMMON.iter().any(|common| common.name == name)
}

/// The score of each sample, `[n]`, and the map, of what has places.
pub(super) type Apart<'t> = (Tensor<'t>, Option<Tensor<'t>>);

/// One of these scores; `features` are f(x) and f(x̂).
///
/// # Errors
/// [`ConfigError`] where the system has no such features, or samples no windows.
pub(super) fn apart<'t>(
    name: &str,
    config: &Config,
    x: Tensor<'t>,
    made: Tensor<'t>,
    features: Option<[Tensor<'t>; 2]>,
) -> Result<Apart<'t>, ConfigError> {
    let has_places = config.form != Form::Table;
    let refused = |why: &str| Err(ConfigError::new("score", name, why));
    match name {
        "ssim" if !has_places => refused("another for tables, which have no windows"),
        "ssim" => {
            let errors = 1.0 - ssim(x, made, config.kernel(WINDOW));
            let s = errors.shape();
            Ok((errors.mean_per_sample(), Some(errors.mean(&[1]).reshape(&[s[0], s[2], s[3]]))))
        }
        _ => {
            let map = has_places.then(|| residual_map(x, made));
            let apart = match (name, features) {
                ("features", None) => return refused("another: no network of this system tells x from x̂"),
                ("features", Some([of_x, of_made])) => of_x - of_made,
                _ => x - made,
            };
            Ok((apart.abs().mean_per_sample(), map))
        }
    }
}

/// One of these scores by one pass of the system's default score.
///
/// # Errors
/// [`ConfigError`] where the system reconstructs nothing, and as [`apart`].
pub(super) fn scored<'t>(
    tape: &'t Tape,
    system: &dyn System,
    x: Tensor<'t>,
    name: &str,
) -> Result<Scored<'t>, ConfigError> {
    let own = system.score(tape, x, "");
    let Some(made) = own.reconstruction else {
        return Err(ConfigError::new("score", name, "one of its own: this system reconstructs nothing"));
    };
    let of_made = system.score(tape, made, "").features.filter(|_| system.tells_reconstructions());
    let features = own.features.zip(of_made).map(|(x, made)| [x, made]);
    let (score, map) = apart(name, system.config(), x, made, features)?;
    Ok(Scored { score, parts: vec![], reconstruction: Some(made), map, features: own.features })
}

/// Those of these scores that a system has, with the first form of samples that it takes.
pub fn of(info: &Info) -> Vec<Named> {
    let missing = |common: &Named| !info.scores.iter().any(|own| own.name == common.name);
    for form in [Form::Image, Form::Signal, Form::Table] {
        let config = Config { latent: info.defaults_for(form).latent, ..Config::default() }.of(form);
        let Ok(options) = super::Options::new(info.options, []) else { continue };
        let Ok(system) = info.build(&mut States::new(), &config, &options) else { continue };
        let has = |common: &Named| {
            let tape = Tape::new();
            let x = tape.input("x", &config.images(1));
            system.is_searched(common.name) || scored(&tape, system.as_ref(), x, common.name).is_ok()
        };
        return COMMON.iter().filter(|common| missing(common) && has(common)).copied().collect();
    }
    vec![]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::find;

    #[test]
    fn what_reconstructs_has_them_and_what_does_not_has_none() {
        let names = |system: &str| of(find(system).unwrap()).iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names("ae"), ["residual", "ssim", "features"]);
        assert_eq!(names("anogan"), ["residual", "ssim", "features"]);
        // Its own `residual` is mean squared.
        assert_eq!(names("f-anogan"), ["ssim", "features"]);
        // A projection is its own projection.
        assert_eq!(names("pca"), ["residual", "ssim"]);
        // Its network sees pairs of x and x̂; a segmentation alone reconstructs nothing.
        assert_eq!(names("draem"), ["residual", "ssim"]);
        assert!(names("nsa").is_empty());
        assert!(names("deep-svdd").is_empty());
    }
}
