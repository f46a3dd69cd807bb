//! Scores by one pass from samples to scores, reconstructions and maps.

use super::{Found, How, ScoreError, Scorer};

/// Which of its optional outputs a pass has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Has {
    pub(super) reconstruction: bool,
    pub(super) map: bool,
}

impl Scorer {
    pub(super) fn pass(&mut self, images: &[f32]) -> Result<Vec<Found>, ScoreError> {
        let (len, map_len) = (self.sizes.sample_len(), self.sizes.map_len());
        let How::Pass { program, parts, has } = &mut self.how else { return Ok(vec![]) };
        let count = images.len() / len;
        // Places beyond the samples repeat the last one, so that no value is out of the ordinary.
        let mut x = images.to_vec();
        x.extend((count..self.batch).flat_map(|_| &images[(count - 1) * len..]));
        program.write("x", &x)?;
        program.run(1)?;
        let scores = program.read("score")?;
        let values = parts.iter().map(|part| program.read(part)).collect::<Result<Vec<_>, _>>()?;
        let read = |wanted: bool, name: &str| wanted.then(|| program.read(name)).transpose();
        let reconstructions = read(has.reconstruction, "reconstruction")?;
        let maps = read(has.map, "map")?;
        let row = |all: &Option<Vec<f32>>, i: usize, len: usize| {
            all.as_ref().map(|all| all[i * len..][..len].to_vec())
        };
        Ok((0..count)
            .map(|i| Found {
                score: f64::from(scores[i]),
                parts: parts.iter().zip(&values).map(|(&part, values)| (part, values[i])).collect(),
                z: vec![],
                reconstruction: row(&reconstructions, i, len),
                map: row(&maps, i, map_len),
            })
            .collect())
    }
}
