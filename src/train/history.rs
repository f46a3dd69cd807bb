//! Loss history of bounded size: when it is full, every other point goes and the interval doubles.

use crate::models::file::Progress;

/// Points kept for each loss.
const CAPACITY: usize = 2048;

/// Adds the losses of the step just done, if its turn has come.
pub fn record(progress: &mut Progress, losses: &[(&'static str, f32)]) {
    let interval = match progress.at[..] {
        [first, second, ..] => second - first,
        _ => 1,
    };
    if progress.at.last().is_some_and(|&last| progress.steps < last + interval) {
        return;
    }
    progress.at.push(progress.steps);
    for &(name, value) in losses {
        match progress.losses.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => progress.losses.push((name.to_owned(), vec![value])),
        }
    }
    if progress.at.len() >= CAPACITY {
        let mut keep = (0..).map(|i| i % 2 == 0);
        progress.at.retain(|_| keep.next().unwrap_or(false));
        for (_, values) in &mut progress.losses {
            let mut keep = (0..).map(|i| i % 2 == 0);
            values.retain(|_| keep.next().unwrap_or(false));
        }
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
        assert!(progress.at.len() < CAPACITY && progress.at.len() >= CAPACITY / 2);
        let interval = progress.at[1] - progress.at[0];
        assert!(progress.at.windows(2).all(|w| w[1] - w[0] == interval));
        assert!(progress.at.iter().zip(&progress.losses[0].1).all(|(&s, &v)| s as f32 == v));
    }
}
