//! Scores by latent search: queries side by side, restarts, and lanes that leave when they have converged.

use super::sampler::draw_latents;
use super::{Found, How, ScoreError, Scorer, Watch};
use crate::device::{Device, DeviceError, Executable, Store};
use crate::models::search::{Search, SearchConfig};
use crate::program::Program;

/// Searches side by side and a step of them, loaded when it is first needed.
pub(super) struct Level {
    pub(super) search: Search,
    pub(super) program: Program,
    pub(super) step: Option<Executable>,
}

impl Level {
    pub(super) fn step(&mut self, device: &Device, store: &Store) -> Result<&mut Executable, DeviceError> {
        Ok(match self.step.take() {
            Some(step) => self.step.insert(step),
            None => self.step.insert(device.load(&self.program, store)?),
        })
    }
}

/// Which lanes of a batch still search, and where.
struct Going {
    level: usize,
    /// The lane of the first level that each lane of this level continues; lanes beyond stand still.
    lanes: Vec<usize>,
}

impl Scorer {
    /// Start of the search of one image: a function of the seed, the restart and the image's own pixels, so
    /// that a score depends neither on the batch nor on the order of the images.
    fn start(&self, image: &[f32], restart: usize) -> Vec<f32> {
        let words = image.iter().map(|v| v.to_bits()).chain([restart as u32]);
        let stream = words.fold(0x811c_9dc5_u32, |h, w| (h ^ w).wrapping_mul(0x0100_0193));
        draw_latents(&self.sizes, self.seed, stream, self.sizes.latent)
    }

    pub(super) fn search(
        &mut self,
        images: &[f32],
        mut watch: Option<Watch<'_>>,
    ) -> Result<Vec<Found>, ScoreError> {
        let How::Search { levels, encodes, .. } = &self.how else { return Ok(vec![]) };
        let (lanes, encodes) = (levels[0].search.lanes(), *encodes);
        let len = self.image_len();
        let queries = images.len() / len;
        let SearchConfig { steps, restarts, tolerance, .. } = self.score.search;
        // Lanes beyond the queries repeat the last one: every lane is a valid search and none is counted
        // twice.
        let query_of = |lane: usize| (lane / restarts).min(queries - 1);
        let (mut x, mut z) = (Vec::with_capacity(lanes * len), vec![]);
        for lane in 0..lanes {
            let image = &images[query_of(lane) * len..][..len];
            x.extend_from_slice(image);
            if !encodes {
                z.extend(self.start(image, lane % restarts));
            }
        }
        let How::Search { prepare, .. } = &mut self.how else { return Ok(vec![]) };
        prepare.write("x", &x)?;
        if !encodes {
            prepare.write("z", &z)?;
        }
        prepare.run(1)?;
        let mut done = 0;
        let mut going = Going { level: 0, lanes: (0..lanes).collect() };
        while done < steps {
            if let Some(watch) = &mut watch
                && watch.stages.contains(&done)
            {
                self.settle(&going)?;
                (watch.see)(done, &self.collect(queries)?);
            }
            let stages = watch.as_ref().map_or(&[][..], |w| w.stages);
            let next = stages.iter().copied().filter(|&s| s > done).min().unwrap_or(steps);
            // With early stop the host looks at the progress from time to time, and converged searches leave
            // the batch.
            let chunk = if tolerance > 0.0 { 25 } else { usize::MAX };
            let count = chunk.min(next.min(steps) - done);
            let How::Search { levels, .. } = &mut self.how else { return Ok(vec![]) };
            let step = levels[going.level].step(&self.device, &self.store)?;
            step.run(count)?;
            let active = if tolerance > 0.0 { step.scalar("active")?.round() as usize } else { lanes };
            done += count;
            self.lane_steps += (count * levels[going.level].search.lanes()) as u64;
            if active == 0 {
                break;
            }
            if done < steps {
                self.narrow(&mut going, active)?;
            }
        }
        self.settle(&going)?;
        let found = self.collect(queries)?;
        if let Some(watch) = &mut watch {
            (watch.see)(done, &found);
        }
        Ok(found)
    }

    /// Goes on with as few lanes as hold the searches that have not converged.
    fn narrow(&mut self, going: &mut Going, active: usize) -> Result<(), ScoreError> {
        let How::Search { levels, .. } = &self.how else { return Ok(()) };
        let fits = levels.iter().rposition(|level| level.search.lanes() >= active).unwrap_or(0);
        if fits <= going.level {
            return Ok(());
        }
        self.settle(going)?;
        let (from, to) = (&levels[going.level].search, &levels[fits].search);
        let active = self.store.read(from.active())?;
        let kept: Vec<usize> = (0..active.len()).filter(|&lane| active[lane] > 0.5).collect();
        from.hand_over(to, &kept, &self.store)?;
        *going = Going { level: fits, lanes: kept.into_iter().map(|lane| going.lanes[lane]).collect() };
        Ok(())
    }

    /// Puts the latents of the searches that go on back among those of all.
    fn settle(&self, going: &Going) -> Result<(), ScoreError> {
        let How::Search { levels, .. } = &self.how else { return Ok(()) };
        if going.level == 0 {
            return Ok(());
        }
        let (all, latent) = (levels[0].search.z(), self.sizes.latent);
        let (mut z, moved) = (self.store.read(all)?, self.store.read(levels[going.level].search.z())?);
        for (&lane, moved) in going.lanes.iter().zip(moved.chunks(latent)) {
            z[lane * latent..][..latent].copy_from_slice(moved);
        }
        Ok(self.store.write(all, &z)?)
    }

    /// Reads the best restart of every query.
    fn collect(&mut self, queries: usize) -> Result<Vec<Found>, ScoreError> {
        let (len, map_len, latent) = (self.sizes.sample_len(), self.sizes.map_len(), self.sizes.latent);
        let restarts = self.score.search.restarts;
        let How::Search { finish, .. } = &mut self.how else { return Ok(vec![]) };
        finish.run(1)?;
        let read = |name| finish.read(name);
        let (loss, score) = (read("loss")?, read("score")?);
        let (residual, discrimination) = (read("residual")?, read("discrimination")?);
        let (images, maps, z) = (read("reconstruction")?, read("map")?, read("z")?);
        let best = |query: usize| {
            let lanes = query * restarts..(query + 1) * restarts;
            lanes.min_by(|&a, &b| loss[a].total_cmp(&loss[b])).unwrap_or(query)
        };
        Ok((0..queries)
            .map(best)
            .map(|lane| Found {
                score: f64::from(score[lane]),
                parts: vec![("residual", residual[lane]), ("discrimination", discrimination[lane])],
                z: z[lane * latent..][..latent].to_vec(),
                reconstruction: Some(images[lane * len..][..len].to_vec()),
                map: Some(maps[lane * map_len..][..map_len].to_vec()),
            })
            .collect())
    }
}
