//! A system of your own: networks, one training step and a score; training, calibration, files and evaluation
//! come with the rest. `cargo run --release --example custom_system`

use ganomede::detect::Detector;
use ganomede::device::Device;
use ganomede::models::system::{Defaults, Length, Losses, Named, Scored, Share, Stage};
use ganomede::models::{Config, Info, Prior, System, Training};
use ganomede::nn::{Adam, Linear, mse};
use ganomede::tape::{States, Tape, Tensor};

/// A linear autoencoder: principal components, learned by gradient steps.
struct Bottleneck {
    config: Config,
    encoder: Linear,
    decoder: Linear,
    adam: Option<Adam>,
}

static INFO: Info = Info {
    name: "bottleneck",
    title: "a linear autoencoder",
    paper: "an example",
    url: "https://example.org",
    scores: &[Named { name: "residual", about: "mean squared difference to the reconstruction" }],
    options: &[],
    defaults: Defaults {
        batch: 16,
        lr: 1e-2,
        betas: [0.9, 0.999],
        latent: 8,
        prior: Prior::Normal,
        length: Length::Steps(200),
    },
    tables: None,
    new: |states, config, _options| {
        let values = config.sample_len();
        Ok(Box::new(Bottleneck {
            config: config.clone(),
            encoder: Linear::new(states, "encoder", [values, config.latent], true),
            decoder: Linear::new(states, "decoder", [config.latent, values], true),
            adam: None,
        }))
    },
};

impl Bottleneck {
    fn rebuild<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let shape = x.shape();
        let rows = x.reshape(&[shape[0], self.config.sample_len()]);
        self.decoder.forward(tape, self.encoder.forward(tape, rows)).reshape(&shape)
    }
}

impl System for Bottleneck {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let parameters = [self.encoder.parameters(), self.decoder.parameters()].concat();
        self.adam = Some(Adam::new(states, "adam", parameters, training.lr, training.betas));
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let loss = mse(x, self.rebuild(tape, x));
        if let Some(adam) = &self.adam {
            adam.minimise(tape, loss);
        }
        vec![("residual", loss)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, _score: &str) -> Scored<'t> {
        let made = self.rebuild(tape, x);
        let errors = (x - made).square();
        let shape = x.shape();
        let map = errors.mean(&[1]).reshape(&[shape[0], shape[2], shape[3]]);
        let score = errors.mean(&[1, 2, 3]);
        Scored { score, parts: vec![], reconstruction: Some(made), map: Some(map), features: None }
    }
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = "builtin:retina:train=200,test=60";
    let detector = Detector::train(&INFO).images(data).size(16).seed(1).run(&Device::Cpu)?;
    let auroc = detector.evaluate(data)?.auroc().ok_or("both classes are there")?;
    println!("{detector:?}: AUROC {auroc:.3}");
    assert!(auroc > 0.6);
    // The file of the model is read again by the system's name.
    let again = Detector::from_bytes(&detector.to_bytes()?, &Device::Cpu)?;
    assert_eq!(again.evaluate(data)?.auroc(), Some(auroc));
    Ok(())
}
