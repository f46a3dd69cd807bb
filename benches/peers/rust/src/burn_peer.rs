//! The networks and steps of `../dcgan_torch.py` in burn. Its devices are chosen at run time, so one code
//! serves them all.

use crate::Error;
use crate::work::{Conv, Peer, Sizes, Step};
use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::loss::BinaryCrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use burn::tensor::activation::{leaky_relu, relu, tanh};
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DeviceKind, Distribution};

/// Version of the burn crate in Cargo.toml.
const VERSION: &str = "0.22.1";

const INITIALISER: Initializer = Initializer::Normal { mean: 0.0, std: 0.02 };

/// burn on one device.
pub struct Burn {
    name: &'static str,
    device: Device,
}

impl Burn {
    /// The wgpu backend on the adapter that wgpu prefers: a software one where there is no other.
    pub fn wgpu() -> Self {
        Self { name: "wgpu", device: Device::wgpu(DeviceKind::DefaultDevice) }
    }

    /// The CPU backend in Rust.
    pub fn flex() -> Self {
        Self { name: "flex", device: Device::flex() }
    }

    fn noise<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Uniform(-0.5, 0.5), &self.device.clone().autodiff())
    }
}

fn down(from: usize, to: usize, bias: bool, device: &Device) -> Conv2d {
    Conv2dConfig::new([from, to], [4, 4])
        .with_stride([2, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_bias(bias)
        .with_initializer(INITIALISER)
        .init(device)
}

fn up(from: usize, to: usize, bias: bool, device: &Device) -> ConvTranspose2d {
    ConvTranspose2dConfig::new([from, to], [4, 4])
        .with_stride([2, 2])
        .with_padding([1, 1])
        .with_bias(bias)
        .with_initializer(INITIALISER)
        .init(device)
}

fn norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).init(device)
}

fn uniform<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
}

#[derive(Module, Debug)]
struct Generator {
    project: Linear,
    project_norm: BatchNorm,
    up: Vec<ConvTranspose2d>,
    norms: Vec<BatchNorm>,
    output: ConvTranspose2d,
}

impl Generator {
    fn new(sizes: &Sizes, device: &Device) -> Self {
        let levels = sizes.levels();
        let top = sizes.channels_at(levels - 1);
        let at = |level| sizes.channels_at(level);
        let project =
            LinearConfig::new(sizes.latent, 16 * top).with_bias(false).with_initializer(INITIALISER);
        Self {
            project: project.init(device),
            project_norm: norm(top, device),
            up: (1..levels).rev().map(|level| up(at(level), at(level - 1), false, device)).collect(),
            norms: (1..levels).rev().map(|level| norm(at(level - 1), device)).collect(),
            output: up(sizes.width, sizes.channels, true, device),
        }
    }

    fn forward(&self, z: Tensor<2>) -> Tensor<4> {
        let [batch, _] = z.dims();
        let [top] = self.project_norm.gamma.dims();
        let mut h = relu(self.project_norm.forward(self.project.forward(z).reshape([batch, top, 4, 4])));
        for (up, norm) in self.up.iter().zip(&self.norms) {
            h = relu(norm.forward(up.forward(h)));
        }
        tanh(self.output.forward(h))
    }
}

#[derive(Module, Debug)]
struct Discriminator {
    first: Conv2d,
    down: Vec<Conv2d>,
    norms: Vec<BatchNorm>,
    output: Linear,
}

impl Discriminator {
    fn new(sizes: &Sizes, device: &Device) -> Self {
        let levels = sizes.levels();
        let at = |level| sizes.channels_at(level);
        let output = LinearConfig::new(16 * at(levels - 1), 1).with_initializer(INITIALISER);
        Self {
            first: down(sizes.channels, sizes.width, true, device),
            down: (1..levels).map(|level| down(at(level - 1), at(level), false, device)).collect(),
            norms: (1..levels).map(|level| norm(at(level), device)).collect(),
            output: output.init(device),
        }
    }

    fn features(&self, x: Tensor<4>) -> Tensor<4> {
        let mut h = leaky_relu(self.first.forward(x), 0.2);
        for (down, norm) in self.down.iter().zip(&self.norms) {
            h = leaky_relu(norm.forward(down.forward(h)), 0.2);
        }
        h
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.output.forward(self.features(x).flatten(1, 3))
    }
}

#[derive(Module, Debug)]
struct Latent {
    z: Param<Tensor<2>>,
}

/// Adam as PyTorch has it.
fn adam(beta_1: f32) -> ModuleOptimizer {
    AdamConfig::new().with_beta_1(beta_1).with_epsilon(1e-8).init()
}

impl Peer for Burn {
    fn name(&self) -> String {
        format!("burn {VERSION} {}", self.name)
    }

    fn step(&self, sizes: Sizes) -> Result<Step<'_>, Error> {
        let device = self.device.clone().autodiff();
        let mut networks = Some((Generator::new(&sizes, &device), Discriminator::new(&sizes, &device)));
        let (mut g_adam, mut d_adam) = (adam(0.5), adam(0.5));
        let x = uniform([sizes.batch, sizes.channels, sizes.size, sizes.size], &device);
        let bce = BinaryCrossEntropyLossConfig::new().with_logits(true).init(&device);
        let ones = Tensor::<2, Int>::ones([sizes.batch, 1], &device);
        let zeros = Tensor::<2, Int>::zeros([sizes.batch, 1], &device);
        Ok(Box::new(move || {
            let (mut g, mut d) = networks.take().ok_or("the last step failed")?;
            let fake = g.forward(uniform([sizes.batch, sizes.latent], &device));
            let loss_d = bce.forward(d.forward(x.clone()), ones.clone())
                + bce.forward(d.forward(fake.clone().detach()), zeros.clone());
            let gradients = GradientsParams::from_grads(loss_d.backward(), &d);
            d = d_adam.step(2e-4, d, gradients);
            let loss_g = bce.forward(d.forward(fake), ones.clone());
            let gradients = GradientsParams::from_grads(loss_g.backward(), &g);
            g = g_adam.step(2e-4, g, gradients);
            networks = Some((g, d));
            let losses = loss_d.into_scalar::<f32>() + loss_g.into_scalar::<f32>();
            self.device.sync()?;
            Ok(losses)
        }))
    }

    fn search(&self, sizes: Sizes) -> Result<Step<'_>, Error> {
        let device = self.device.clone().autodiff();
        let (g, d) = (Generator::new(&sizes, &device).freeze(), Discriminator::new(&sizes, &device).freeze());
        let x = uniform([sizes.batch, sizes.channels, sizes.size, sizes.size], &device);
        let features = d.features(x.clone()).detach();
        let mut latent =
            Some(Latent { z: Param::from_tensor(uniform([sizes.batch, sizes.latent], &device)) });
        let mut z_adam = adam(0.9);
        Ok(Box::new(move || {
            let latents = latent.take().ok_or("the last step failed")?;
            let image = g.forward(latents.z.val());
            let difference = (features.clone() - d.features(image.clone())).abs().sum();
            let loss = (x.clone() - image).abs().sum() * 0.9 + difference * 0.1;
            let gradients = GradientsParams::from_grads(loss.backward(), &latents);
            latent = Some(z_adam.step(0.05, latents, gradients));
            let loss = loss.into_scalar::<f32>();
            self.device.sync()?;
            Ok(loss)
        }))
    }

    fn conv(&self, conv: &Conv) -> Result<Step<'_>, Error> {
        let (x, w, dy) =
            (self.noise(conv.x).require_grad(), self.noise(conv.w).require_grad(), self.noise(conv.y));
        let transposed = conv.transposed;
        Ok(Box::new(move || {
            let y = if transposed {
                let options = ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1);
                conv_transpose2d(x.clone(), w.clone(), None, options)
            } else {
                conv2d(x.clone(), w.clone(), None, ConvOptions::new([2, 2], [1, 1], [1, 1], 1))
            };
            let mut gradients = (y * dy.clone()).sum().backward();
            let held = (x.grad_remove(&mut gradients), w.grad_remove(&mut gradients));
            self.device.sync()?;
            drop(held);
            Ok(0.0)
        }))
    }

    fn norm(&self, shape: [usize; 4]) -> Result<Step<'_>, Error> {
        let (x, dy) = (self.noise(shape).require_grad(), self.noise(shape));
        let norm = norm(shape[1], &self.device.clone().autodiff());
        Ok(Box::new(move || {
            let y = leaky_relu(norm.forward(x.clone()), 0.2);
            let mut gradients = (y * dy.clone()).sum().backward();
            let held = (
                x.grad_remove(&mut gradients),
                norm.gamma.val().grad_remove(&mut gradients),
                norm.beta.val().grad_remove(&mut gradients),
            );
            self.device.sync()?;
            drop(held);
            Ok(0.0)
        }))
    }

    fn gemm(&self, n: usize) -> Result<Step<'_>, Error> {
        let (a, b) = (self.noise([n, n]).inner(), self.noise([n, n]).inner());
        Ok(Box::new(move || {
            let c = a.clone().matmul(b.clone());
            self.device.sync()?;
            drop(c);
            Ok(0.0)
        }))
    }
}
