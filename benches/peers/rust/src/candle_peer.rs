//! The networks and steps of `../dcgan_torch.py` in candle, on the CPU.

use crate::Error;
use crate::work::{Conv, Peer, Sizes, Step};
use candle_core::{DType, Device, Result as Computed, Tensor, Var};
use candle_nn::loss::binary_cross_entropy_with_logit;
use candle_nn::ops::leaky_relu;
use candle_nn::{
    AdamW, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig, Linear,
    Module, ModuleT, Optimizer, ParamsAdamW, VarBuilder, VarMap,
};
use std::collections::HashMap;

/// Version of the candle crates in Cargo.toml.
const VERSION: &str = "0.11.1";

/// candle on the CPU.
pub struct Candle;

fn norm(channels: usize, vb: VarBuilder<'_>) -> Computed<BatchNorm> {
    candle_nn::batch_norm(channels, BatchNormConfig::default(), vb)
}

fn down(from: usize, to: usize, bias: bool, vb: VarBuilder<'_>) -> Computed<Conv2d> {
    let config = Conv2dConfig { padding: 1, stride: 2, ..Default::default() };
    let make = if bias { candle_nn::conv2d } else { candle_nn::conv2d_no_bias };
    make(from, to, 4, config, vb)
}

fn up(from: usize, to: usize, bias: bool, vb: VarBuilder<'_>) -> Computed<ConvTranspose2d> {
    let config = ConvTranspose2dConfig { padding: 1, stride: 2, ..Default::default() };
    let make = if bias { candle_nn::conv_transpose2d } else { candle_nn::conv_transpose2d_no_bias };
    make(from, to, 4, config, vb)
}

fn uniform(shape: &[usize]) -> Computed<Tensor> {
    Tensor::rand(-1f32, 1f32, shape, &Device::Cpu)
}

struct Generator {
    top: usize,
    project: Linear,
    project_norm: BatchNorm,
    up: Vec<(ConvTranspose2d, BatchNorm)>,
    output: ConvTranspose2d,
}

impl Generator {
    fn new(sizes: &Sizes, vb: VarBuilder<'_>) -> Computed<Self> {
        let levels = sizes.levels();
        let top = sizes.channels_at(levels - 1);
        let layer = |level: usize| {
            let (from, to) = (sizes.channels_at(level), sizes.channels_at(level - 1));
            let vb = vb.pp(level);
            Ok((up(from, to, false, vb.pp("conv"))?, norm(to, vb.pp("norm"))?))
        };
        Ok(Self {
            top,
            project: candle_nn::linear_no_bias(sizes.latent, 16 * top, vb.pp("project"))?,
            project_norm: norm(top, vb.pp("project_norm"))?,
            up: (1..levels).rev().map(layer).collect::<Computed<_>>()?,
            output: up(sizes.width, sizes.channels, true, vb.pp("output"))?,
        })
    }

    fn forward(&self, z: &Tensor, train: bool) -> Computed<Tensor> {
        let h = self.project.forward(z)?.reshape((z.dim(0)?, self.top, 4, 4))?;
        let mut h = self.project_norm.forward_t(&h, train)?.relu()?;
        for (up, norm) in &self.up {
            h = norm.forward_t(&up.forward(&h)?, train)?.relu()?;
        }
        self.output.forward(&h)?.tanh()
    }
}

struct Discriminator {
    first: Conv2d,
    down: Vec<(Conv2d, BatchNorm)>,
    output: Linear,
}

impl Discriminator {
    fn new(sizes: &Sizes, vb: VarBuilder<'_>) -> Computed<Self> {
        let levels = sizes.levels();
        let layer = |level: usize| {
            let (from, to) = (sizes.channels_at(level - 1), sizes.channels_at(level));
            let vb = vb.pp(level);
            Ok((down(from, to, false, vb.pp("conv"))?, norm(to, vb.pp("norm"))?))
        };
        Ok(Self {
            first: down(sizes.channels, sizes.width, true, vb.pp("first"))?,
            down: (1..levels).map(layer).collect::<Computed<_>>()?,
            output: candle_nn::linear(16 * sizes.channels_at(levels - 1), 1, vb.pp("output"))?,
        })
    }

    fn features(&self, x: &Tensor, train: bool) -> Computed<Tensor> {
        let mut h = leaky_relu(&self.first.forward(x)?, 0.2)?;
        for (down, norm) in &self.down {
            h = leaky_relu(&norm.forward_t(&down.forward(&h)?, train)?, 0.2)?;
        }
        Ok(h)
    }

    fn forward(&self, x: &Tensor, train: bool) -> Computed<Tensor> {
        self.output.forward(&self.features(x, train)?.flatten_from(1)?)
    }
}

/// Adam: AdamW without decay.
fn adam(vars: Vec<Var>, lr: f64, beta1: f64) -> Computed<AdamW> {
    AdamW::new(vars, ParamsAdamW { lr, beta1, weight_decay: 0.0, ..Default::default() })
}

/// The values of a map as constants.
fn constants(map: &VarMap) -> Result<VarBuilder<'static>, Error> {
    let vars = map.data().lock().map_err(|_| "a thread panicked")?;
    let tensors: HashMap<String, Tensor> =
        vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
    Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

impl Peer for Candle {
    fn name(&self) -> String {
        format!("candle {VERSION} CPU")
    }

    fn step(&self, sizes: Sizes) -> Result<Step<'_>, Error> {
        let (g_map, d_map) = (VarMap::new(), VarMap::new());
        let g = Generator::new(&sizes, VarBuilder::from_varmap(&g_map, DType::F32, &Device::Cpu))?;
        let d = Discriminator::new(&sizes, VarBuilder::from_varmap(&d_map, DType::F32, &Device::Cpu))?;
        let (mut g_adam, mut d_adam) =
            (adam(g_map.all_vars(), 2e-4, 0.5)?, adam(d_map.all_vars(), 2e-4, 0.5)?);
        let x = uniform(&[sizes.batch, sizes.channels, sizes.size, sizes.size])?;
        let ones = Tensor::ones((sizes.batch, 1), DType::F32, &Device::Cpu)?;
        let zeros = ones.zeros_like()?;
        Ok(Box::new(move || {
            let fake = g.forward(&uniform(&[sizes.batch, sizes.latent])?, true)?;
            let real = binary_cross_entropy_with_logit(&d.forward(&x, true)?, &ones)?;
            let loss_d =
                (real + binary_cross_entropy_with_logit(&d.forward(&fake.detach(), true)?, &zeros)?)?;
            d_adam.backward_step(&loss_d)?;
            let loss_g = binary_cross_entropy_with_logit(&d.forward(&fake, true)?, &ones)?;
            g_adam.backward_step(&loss_g)?;
            Ok(loss_d.to_scalar::<f32>()? + loss_g.to_scalar::<f32>()?)
        }))
    }

    fn search(&self, sizes: Sizes) -> Result<Step<'_>, Error> {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        Generator::new(&sizes, vb.pp("g"))?;
        Discriminator::new(&sizes, vb.pp("d"))?;
        let vb = constants(&map)?;
        let (g, d) = (Generator::new(&sizes, vb.pp("g"))?, Discriminator::new(&sizes, vb.pp("d"))?);
        let x = uniform(&[sizes.batch, sizes.channels, sizes.size, sizes.size])?;
        let features = d.features(&x, false)?.detach();
        let z = Var::from_tensor(&uniform(&[sizes.batch, sizes.latent])?)?;
        let mut adam = adam(vec![z.clone()], 0.05, 0.9)?;
        Ok(Box::new(move || {
            let image = g.forward(&z, false)?;
            let difference = (&features - d.features(&image, false)?)?.abs()?.sum_all()?;
            let loss = (((&x - image)?.abs()?.sum_all()? * 0.9)? + (difference * 0.1)?)?;
            adam.backward_step(&loss)?;
            Ok(loss.to_scalar::<f32>()?)
        }))
    }

    fn conv(&self, conv: &Conv) -> Result<Step<'_>, Error> {
        let (x, w) = (Var::from_tensor(&uniform(&conv.x)?)?, Var::from_tensor(&uniform(&conv.w)?)?);
        let dy = uniform(&conv.y)?;
        let transposed = conv.transposed;
        Ok(Box::new(move || {
            let y = if transposed { x.conv_transpose2d(&w, 1, 0, 2, 1)? } else { x.conv2d(&w, 1, 2, 1, 1)? };
            (y * &dy)?.sum_all()?.backward()?;
            Ok(0.0)
        }))
    }

    fn norm(&self, shape: [usize; 4]) -> Result<Step<'_>, Error> {
        let map = VarMap::new();
        let norm = norm(shape[1], VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))?;
        let (x, dy) = (Var::from_tensor(&uniform(&shape)?)?, uniform(&shape)?);
        Ok(Box::new(move || {
            let y = leaky_relu(&norm.forward_t(&x, true)?, 0.2)?;
            (y * &dy)?.sum_all()?.backward()?;
            Ok(0.0)
        }))
    }

    fn gemm(&self, n: usize) -> Result<Step<'_>, Error> {
        let (a, b) = (uniform(&[n, n])?, uniform(&[n, n])?);
        Ok(Box::new(move || {
            a.matmul(&b)?;
            Ok(0.0)
        }))
    }
}
