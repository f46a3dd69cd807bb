//! Loss history of bounded size: when a curve is full, every other point goes and its interval doubles.

use crate::models::file::{Curve, Progress};

/// Points kept for each loss.
const CAPACITY: usize = 2048;

/// Adds the losses of the step just done, those whose turn has come.
pub fn record(progress: &mut Progress, losses: &[(&'static str, f32)]) {
    for &(name, value) in losses {
        let known = progress.losses.iter().position(|curve| curve.name == name);
        let index = known.unwrap_or_else(|| {
            progress.losses.push(Curve { name: name.to_owned(), ..Curve::default() });
            progress.losses.len() - 1
        });
        add(&mut progress.losses[index], progress.steps, value);
    }
}

fn add(curve: &mut Curve, step: u64, value: f32) {
    let interval = match curve.at[..] {
        [first, second, ..] => second - first,
        _ => 1,
    };
    if curve.at.last().is_some_and(|&last| step < last + interval) {
        return;
    }
    curve.at.push(step);
    curve.values.push(value);
    if curve.at.len() >= CAPACITY {
        let mut keep = (0..).map(|i| i % 2 == 0);
        curve.at.retain(|_| keep.next().unwrap_or(false));
        let mut keep = (0..).map(|i| i % 2 == 0);
        curve.values.retain(|_| keep.next().unwrap_or(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_bounded_and_evenly_spaced() {
        let mut progress = Progress::default();
        for step in 1..=50_000 {
            progress.steps = step;
            record(&mut progress, &[("loss", step as f32)]);
        }
        let Curve { at, values, .. } = &progress.losses[0];
        assert!(at.len() < CAPACITY && at.len() >= CAPACITY / 2);
        let interval = at[1] - at[0];
        assert!(at.windows(2).all(|w| w[1] - w[0] == interval));
        assert!(at.iter().zip(values).all(|(&s, &v)| s as f32 == v));
    }

    #[test]
    fn a_loss_of_a_later_stage_has_a_curve_of_its_own() {
        let mut progress = Progress::default();
        for step in 1..=10_u64 {
            progress.steps = step;
            record(&mut progress, &[(if step < 6 { "first" } else { "second" }, step as f32)]);
        }
        assert_eq!(progress.losses[1].at, [6, 7, 8, 9, 10]);
    }
}
