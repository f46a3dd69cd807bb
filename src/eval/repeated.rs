//! Metrics over repeated runs: mean ± standard deviation over seeds.

use super::{EvalError, Evaluation, check_finite};
use serde::Serialize;
use std::fmt;

/// One metric over several runs that differ in their seed only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeated {
    /// Mean of the values.
    pub mean: f64,
    /// Sample standard deviation, with n − 1; `None` for a single run, which says nothing about the spread.
    pub sd: Option<f64>,
    /// The value of each run, in the order of the runs.
    pub values: Vec<f64>,
}

impl Repeated {
    /// Mean and standard deviation of the values, by two passes.
    ///
    /// Errors: no value, or one that is not finite.
    pub fn new(values: Vec<f64>) -> Result<Self, EvalError> {
        check_finite("values of a repeated metric", &values)?;
        if values.is_empty() {
            return Err(EvalError::NoRun);
        }
        let n = values.len() as f64;
        let mean = values.iter().map(|v| v / n).sum::<f64>();
        let variance = || values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        Ok(Self { mean, sd: (values.len() > 1).then(|| variance().sqrt()), values })
    }

    /// Every metric of [`Evaluation::named`] over the runs, in that order; one that a run lacks is left out.
    ///
    /// Errors: no run.
    pub fn of_runs(runs: &[Evaluation]) -> Result<Vec<(&'static str, Self)>, EvalError> {
        Self::of_tables(&runs.iter().map(Evaluation::named).collect::<Vec<_>>())
    }

    /// Every metric of the first run's table over all of them, found by name; one that a run lacks is left
    /// out.
    ///
    /// Errors: no run.
    pub fn of_tables(
        runs: &[Vec<(&'static str, Option<f64>)>],
    ) -> Result<Vec<(&'static str, Self)>, EvalError> {
        let value = |run: &Vec<(&str, Option<f64>)>, name| run.iter().find(|m| m.0 == name)?.1;
        let names = runs.first().ok_or(EvalError::NoRun)?.iter().map(|m| m.0);
        let over_runs = |name| Some((name, runs.iter().map(|r| value(r, name)).collect::<Option<_>>()?));
        names.filter_map(over_runs).map(|(name, values)| Ok((name, Self::new(values)?))).collect()
    }
}

/// `0.912 ± 0.004`, or the value alone for a single run.
impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        write!(f, "{:.digits$}", self.mean)?;
        self.sd.map_or(Ok(()), |sd| write!(f, " ± {sd:.digits$}"))
    }
}
