//! Optimisers: each step is a few tape operations over states, fused into one launch for each parameter.

use crate::tape::{Initial, States, Tape, Tensor, Variable};

/// One state of zeros for each parameter, all of this registry.
fn moments(states: &mut States, kind: &str, parameters: &[Variable]) -> Vec<Variable> {
    let add = |p: &Variable| {
        states.owns(p);
        let name = format!("{kind}.{}", p.name());
        states.add(name, &p.shape, Initial::Constant(0.0))
    };
    parameters.iter().map(add).collect()
}

/// Whether there is one gradient for each parameter, of its shape; a broken rule if not.
fn fit(tape: &Tape, op: &'static str, parameters: &[Variable], gradients: &[Tensor<'_>]) -> bool {
    let (needed, given) = (parameters.len(), gradients.len());
    if needed != given {
        tape.fail(op, format!("{given} gradients for {needed} parameters"));
        return false;
    }
    let unlike =
        parameters.iter().zip(gradients).find(|(parameter, gradient)| parameter.shape != gradient.shape());
    if let Some((parameter, gradient)) = unlike {
        let (name, shape) = (parameter.name(), &parameter.shape);
        tape.fail(op, format!("a gradient of shape {:?} for '{name}' of shape {shape:?}", gradient.shape()));
    }
    unlike.is_none()
}

/// A step, at the rate of a tape that has one.
fn scheduled<'t>(tape: &'t Tape, step: Tensor<'t>) -> Tensor<'t> {
    match tape.rate() {
        Some(rate) if step.rank() == 0 => step * rate.reshape(&[]),
        Some(rate) => step * rate,
        None => step,
    }
}

/// Adam with bias correction (Kingma & Ba 2015, algorithm 1) and L2 weight decay as PyTorch's `Adam` has it.
#[derive(Debug, Clone)]
pub struct Adam {
    /// Step size α.
    pub lr: f32,
    /// Decay rates β₁ and β₂.
    pub betas: [f32; 2],
    /// ε, added after the root.
    pub epsilon: f32,
    /// Added to the gradient as decay · parameter.
    pub weight_decay: f32,
    name: String,
    parameters: Vec<Variable>,
    m: Vec<Variable>,
    v: Vec<Variable>,
    step: Variable,
}

impl Adam {
    /// Registers two moments for each parameter and a step count, named under `name`.
    pub fn new(states: &mut States, name: &str, parameters: Vec<Variable>, lr: f32, betas: [f32; 2]) -> Self {
        Self {
            name: name.to_owned(),
            lr,
            betas,
            epsilon: 1e-8,
            weight_decay: 0.0,
            m: moments(states, &format!("{name}.m"), &parameters),
            v: moments(states, &format!("{name}.v"), &parameters),
            step: states.add(format!("{name}.step"), &[1], Initial::Constant(0.0)),
            parameters,
        }
    }

    /// The parameters it updates.
    pub fn parameters(&self) -> &[Variable] {
        &self.parameters
    }

    /// The count of steps done, shape `[1]`.
    pub fn step(&self) -> &Variable {
        &self.step
    }

    /// Minimises a loss by one step.
    pub fn minimise<'t>(&self, tape: &'t Tape, loss: Tensor<'t>) {
        self.minimise_at(tape, loss, tape.full(self.lr, &[1]));
    }

    /// Minimises a loss by one step at a learning rate computed on the tape, shape `[1]`.
    pub fn minimise_at<'t>(&self, tape: &'t Tape, loss: Tensor<'t>, lr: Tensor<'t>) {
        let gradients = tape.grad_of_states(loss, &self.parameters);
        self.apply_at(tape, &gradients, lr);
    }

    /// Updates the parameters with given gradients, one for each, at the learning rate of the field.
    pub fn apply<'t>(&self, tape: &'t Tape, gradients: &[Tensor<'t>]) {
        self.apply_at(tape, gradients, tape.full(self.lr, &[1]));
    }

    /// Updates the parameters with given gradients, one for each, at a learning rate computed on the tape,
    /// shape `[1]`.
    pub fn apply_at<'t>(&self, tape: &'t Tape, gradients: &[Tensor<'t>], lr: Tensor<'t>) {
        let _scope = tape.scope(&self.name);
        if !fit(tape, "adam", &self.parameters, gradients) {
            return;
        }
        if lr.shape() != [1] {
            return tape.fail("adam", format!("a learning rate of shape {:?}, not [1]", lr.shape()));
        }
        let lr = scheduled(tape, lr);
        let gradients = gradients.iter().map(|&g| tape.whole(g));
        let [b1, b2] = self.betas;
        let t = tape.state(&self.step) + 1.0;
        tape.assign(&self.step, t);
        // βᵗ as e^(t·ln β); with β₁ = 0 the correction is 1.
        let correction =
            |beta: f32| if beta > 0.0 { 1.0 - (t * beta.ln()).exp() } else { tape.full(1.0, &[1]) };
        let (step_size, root) = (lr / correction(b1), 1.0 / correction(b2).sqrt());
        for (i, (parameter, g)) in self.parameters.iter().zip(gradients).enumerate() {
            let p = tape.state(parameter);
            let g = if self.weight_decay == 0.0 { g } else { g + p * self.weight_decay };
            let m = tape.state(&self.m[i]) * b1 + g * (1.0 - b1);
            let v = tape.state(&self.v[i]) * b2 + g.square() * (1.0 - b2);
            tape.assign(&self.m[i], m);
            tape.assign(&self.v[i], v);
            tape.learn(parameter, p - m * step_size / (v.sqrt() * root + self.epsilon));
        }
    }
}

/// RMSProp (Hinton, lecture 6e): v ← ρ·v + (1 − ρ)·g², p ← p − α·g / (√v + ε), not centred.
#[derive(Debug, Clone)]
pub struct RmsProp {
    /// Step size α.
    pub lr: f32,
    /// Decay ρ.
    pub decay: f32,
    /// ε, outside the root as in PyTorch.
    pub epsilon: f32,
    name: String,
    parameters: Vec<Variable>,
    v: Vec<Variable>,
}

impl RmsProp {
    /// Registers one moment for each parameter.
    pub fn new(states: &mut States, name: &str, parameters: Vec<Variable>, lr: f32, decay: f32) -> Self {
        let v = moments(states, &format!("{name}.v"), &parameters);
        Self { lr, decay, epsilon: 1e-8, name: name.to_owned(), parameters, v }
    }

    /// Minimises a loss by one step.
    pub fn minimise<'t>(&self, tape: &'t Tape, loss: Tensor<'t>) {
        let gradients = tape.grad_of_states(loss, &self.parameters);
        let _scope = tape.scope(&self.name);
        for ((parameter, state), g) in self.parameters.iter().zip(&self.v).zip(gradients) {
            let g = tape.whole(g);
            let v = tape.state(state) * self.decay + g.square() * (1.0 - self.decay);
            tape.assign(state, v);
            let step = scheduled(tape, g * self.lr / (v.sqrt() + self.epsilon));
            tape.learn(parameter, tape.state(parameter) - step);
        }
    }
}

/// Stochastic gradient descent with momentum as in PyTorch: b ← μ·b + g, p ← p − α·b.
#[derive(Debug, Clone)]
pub struct Sgd {
    /// Step size α.
    pub lr: f32,
    /// Momentum μ.
    pub momentum: f32,
    name: String,
    parameters: Vec<Variable>,
    velocity: Vec<Variable>,
}

impl Sgd {
    /// Registers one velocity for each parameter.
    pub fn new(states: &mut States, name: &str, parameters: Vec<Variable>, lr: f32, momentum: f32) -> Self {
        let velocity = moments(states, &format!("{name}.velocity"), &parameters);
        Self { lr, momentum, name: name.to_owned(), parameters, velocity }
    }

    /// Minimises a loss by one step.
    pub fn minimise<'t>(&self, tape: &'t Tape, loss: Tensor<'t>) {
        let gradients = tape.grad_of_states(loss, &self.parameters);
        let _scope = tape.scope(&self.name);
        for ((parameter, state), g) in self.parameters.iter().zip(&self.velocity).zip(gradients) {
            let velocity = tape.state(state) * self.momentum + tape.whole(g);
            tape.assign(state, velocity);
            tape.learn(parameter, tape.state(parameter) - scheduled(tape, velocity * self.lr));
        }
    }
}

/// Exponential moving average of weights: e ← d·e + (1 − d)·p after each step.
#[derive(Debug, Clone)]
pub struct Ema {
    /// Decay d, 0.999 for GANs.
    pub decay: f32,
    name: String,
    parameters: Vec<Variable>,
    averages: Vec<Variable>,
}

impl Ema {
    /// Registers one average for each parameter. It starts as the parameter's kind of number (random ones are
    /// drawn anew) and takes the parameter's value at the first update.
    pub fn new(states: &mut States, name: &str, parameters: Vec<Variable>, decay: f32) -> Self {
        let averages = moments(states, name, &parameters);
        for (parameter, average) in parameters.iter().zip(&averages) {
            let initial = states.initial(parameter);
            states.set_initial(average, initial);
        }
        Self { decay, name: name.to_owned(), parameters, averages }
    }

    /// Averages of the parameters, in their order.
    pub fn averages(&self) -> &[Variable] {
        &self.averages
    }

    /// The parameters with their averages.
    pub fn pairs(&self) -> impl Iterator<Item = (&Variable, &Variable)> {
        self.parameters.iter().zip(&self.averages)
    }

    /// The averages of some of the parameters.
    #[must_use]
    pub fn of(&self, some: &[Variable]) -> Self {
        let kept = self.pairs().filter(|(parameter, _)| some.contains(parameter));
        let (parameters, averages) = kept.map(|(p, a)| (p.clone(), a.clone())).unzip();
        Self { decay: self.decay, name: self.name.clone(), parameters, averages }
    }

    /// Follows the parameters; at `step` (shape `[1]`, the updates so far) 0 the averages become the
    /// parameters.
    pub fn update<'t>(&self, tape: &'t Tape, step: Tensor<'t>) {
        let _scope = tape.scope(&self.name);
        if step.shape() != [1] {
            return tape.fail("ema", format!("a step of shape {:?}, not [1]", step.shape()));
        }
        // Early averages weigh as a plain mean would: d_t = min(d, t / (t + 1)) is 0 at the first update.
        let decay = (step / (step + 1.0)).minimum(tape.full(self.decay, &[1]));
        for (parameter, average) in self.parameters.iter().zip(&self.averages) {
            let (p, e) = (tape.state(parameter), tape.state(average));
            let decay = if p.rank() == 0 { decay.reshape(&[]) } else { decay };
            tape.assign(average, p + (e - p) * decay);
        }
    }
}
