//! A model that is served: its worker, which scores in batches, and how it is loaded anew.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use ganomede::detect::{DetectError, Detector, Located, Prepared, Verdict};
use ganomede::device::DeviceError;
use ganomede::models::scorer::ScoreError;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};

use crate::metrics::{Counted, Metrics, OfModel};
use crate::refusal::Refusal;
use crate::{Load, Options, Shared, Source};

/// What tells a file from what it was.
pub(crate) type Stamp = Option<(u64, SystemTime)>;

/// A model that is served.
pub(crate) struct Model {
    pub(crate) source: Source,
    detector: RwLock<Arc<Detector>>,
    stamp: Mutex<Stamp>,
    /// Whether its device works.
    healthy: Arc<AtomicBool>,
    jobs: Sender<Job>,
    /// Samples that are on their way to the worker.
    arriving: Arc<AtomicUsize>,
    /// Samples that may still come.
    places: Arc<Semaphore>,
}

/// A sample for the worker.
struct Job {
    detector: Arc<Detector>,
    sample: Prepared,
    locate: bool,
    since: Instant,
    reply: oneshot::Sender<Result<Done, Refusal>>,
}

/// What became of a sample.
pub(crate) struct Done {
    pub(crate) detector: Arc<Detector>,
    pub(crate) sample: Prepared,
    pub(crate) verdict: Verdict,
    /// Where an image of tiles is anomalous; of others [`Detector::locate_prepared`] says it.
    pub(crate) located: Option<Located>,
    pub(crate) decoding: Duration,
    pub(crate) waiting: Duration,
    pub(crate) scoring: Duration,
    /// Samples that were scored side by side.
    pub(crate) batch: usize,
}

/// Counts a sample as arriving until it has.
struct Arriving(Arc<AtomicUsize>);

impl Arriving {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Model {
    /// Starts its worker, which ends with the model; the stamp is of the file before the detector was loaded.
    pub(crate) fn new(
        source: Source,
        stamp: Stamp,
        detector: Detector,
        options: &Options,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let label = OfModel { model: source.name.clone() };
        let (jobs, taken) = channel();
        let arriving = Arc::new(AtomicUsize::new(0));
        let healthy = Arc::new(AtomicBool::new(true));
        metrics.ready.get_or_create(&label).set(1);
        let worker = Worker {
            jobs: taken,
            arriving: Arc::clone(&arriving),
            healthy: Arc::clone(&healthy),
            max_batch: options.max_batch,
            max_wait: options.max_wait,
            images: metrics.images.get_or_create(&label).clone(),
            anomalies: metrics.anomalies.get_or_create(&label).clone(),
            batches: metrics.batches.get_or_create(&label).clone(),
            waiting: metrics.waiting.get_or_create(&label).clone(),
            scoring: metrics.scoring.get_or_create(&label).clone(),
        };
        std::thread::Builder::new().name(format!("score {}", source.name)).spawn(move || worker.work())?;
        Ok(Self {
            stamp: Mutex::new(stamp),
            source,
            detector: RwLock::new(Arc::new(detector)),
            healthy,
            jobs,
            arriving,
            places: Arc::new(Semaphore::new(options.queue)),
        })
    }

    pub(crate) fn detector(&self) -> Arc<Detector> {
        Arc::clone(&self.detector.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.healthy.load(Ordering::SeqCst)
    }

    fn label(&self) -> OfModel {
        OfModel { model: self.source.name.clone() }
    }

    /// Decodes a sample on a thread of its own and has it scored; of an image of tiles `locate` also asks
    /// where it is anomalous.
    pub(crate) async fn score(
        &self,
        shared: &Shared,
        prepare: impl FnOnce(&Detector) -> Result<Prepared, Refusal> + Send + 'static,
        locate: bool,
    ) -> Result<Done, Refusal> {
        let metrics = &shared.metrics;
        if !self.is_ready() {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the device of model '{}' was lost and is being opened again", self.source.name),
            ));
        }
        let Ok(_place) = self.places.try_acquire() else {
            metrics.refused.get_or_create(&self.label()).inc();
            return Err(Refusal::busy(&format!("{} images wait already", shared.options.queue)));
        };
        let _queued = Counted::new(&metrics.queued.get_or_create(&self.label()));
        let arriving = Arriving::new(&self.arriving);
        let detector = self.detector();
        let ended = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
        let preparing = {
            let detector = Arc::clone(&detector);
            move || {
                let begun = Instant::now();
                Ok((prepare(&detector)?, begun.elapsed()))
            }
        };
        let (sample, decoding) = shared.aside(preparing).await?;
        metrics.decoding.get_or_create(&self.label()).observe(decoding.as_secs_f64());
        let (reply, answer) = oneshot::channel();
        let job = Job { detector, sample, locate, since: Instant::now(), reply };
        self.jobs.send(job).map_err(|_| ended())?;
        drop(arriving);
        let done = answer.await.map_err(|_| ended())??;
        Ok(Done { decoding, ..done })
    }

    /// Loads the file anew where it changed, or where the device was lost. What cannot be loaded is told, and
    /// the old model stays.
    pub(crate) fn refresh(&self, load: &dyn Load, shared: &Shared) {
        let now = stamp(&self.source.path);
        let changed = {
            let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
            // A file that is gone for a moment, or for good, leaves the model as it is.
            let changed = now.is_some() && now != *stamp;
            if changed {
                *stamp = now;
            }
            changed
        };
        let gauge = || shared.metrics.ready.get_or_create(&self.label()).set(i64::from(self.is_ready()));
        gauge();
        if !changed && self.is_ready() {
            return;
        }
        let name = &self.source.name;
        match load(&self.source.path) {
            Ok(detector) => {
                *self.detector.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(detector);
                self.healthy.store(true, Ordering::SeqCst);
                gauge();
                shared.metrics.reloads.get_or_create(&self.label()).inc();
                (shared.log)(&json!({"event": "reloaded", "model": name}));
            }
            Err(error) => {
                let error = error.to_string();
                (shared.log)(&json!({"event": "reload failed", "model": name, "error": error}));
            }
        }
    }
}

/// What should never be.
pub(crate) fn fault() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the server; see its log")
}

/// Of a file as it is now: taken before it is read, so that one which changes meanwhile is read again.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.len(), meta.modified().ok()?))
}

/// Scores the samples of a model, as many side by side as are there.
struct Worker {
    jobs: Receiver<Job>,
    arriving: Arc<AtomicUsize>,
    healthy: Arc<AtomicBool>,
    max_batch: usize,
    max_wait: Duration,
    images: Counter,
    anomalies: Counter,
    batches: Histogram,
    waiting: Histogram,
    scoring: Histogram,
}

impl Worker {
    fn work(self) {
        // Samples of the last batch, and what it took: who waited for their answers may well ask again at
        // once, and an eighth of that time is worth waiting for them.
        let (mut last, mut took) = (1, Duration::ZERO);
        while let Ok(first) = self.jobs.recv() {
            let mut jobs = vec![first];
            let until = Instant::now() + self.max_wait;
            while jobs.len() < self.max_batch {
                // Nobody waits for samples that are neither on their way nor to be expected.
                let left = until.saturating_duration_since(Instant::now());
                let wait = match self.arriving.load(Ordering::SeqCst) {
                    0 if jobs.len() >= last => Duration::ZERO,
                    0 => left.saturating_sub(self.max_wait.saturating_sub(took / 8)),
                    _ => left,
                };
                match self.jobs.recv_timeout(wait) {
                    Ok(job) => jobs.push(job),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            last = jobs.len();
            let begun = Instant::now();
            // Who gave up needs no answer.
            jobs.retain(|job| !job.reply.is_closed());
            while let Some(job) = jobs.first() {
                let detector = Arc::clone(&job.detector);
                let (now, later) = jobs.into_iter().partition(|job| Arc::ptr_eq(&job.detector, &detector));
                self.score(&detector, now);
                jobs = later;
            }
            took = begun.elapsed();
        }
    }

    /// Scores samples of one detector.
    fn score(&self, detector: &Detector, jobs: Vec<Job>) {
        let begun = Instant::now();
        let samples: Vec<&Prepared> = jobs.iter().map(|job| &job.sample).collect();
        let verdicts: Result<Vec<Verdict>, Refusal> = match detector.is_tiled() {
            true => Ok(vec![]),
            false => self.caught(|| detector.score_prepared(&samples)),
        };
        let scoring = begun.elapsed();
        let batch = jobs.len();
        let verdicts = match verdicts {
            // One sample's fault is not the others'.
            Err(refusal) if batch > 1 && refusal.status != StatusCode::SERVICE_UNAVAILABLE => {
                jobs.into_iter().for_each(|job| self.score(detector, vec![job]));
                return;
            }
            verdicts => verdicts,
        };
        self.batches.observe(batch as f64);
        for (i, job) in jobs.into_iter().enumerate() {
            let done = match &verdicts {
                Ok(_) if detector.is_tiled() => self.tiles(detector, &job),
                Ok(all) => all.get(i).cloned().map(|verdict| (verdict, None)).ok_or_else(fault),
                Err(refusal) => Err(refusal.clone()),
            };
            let waiting = begun.duration_since(job.since);
            let scoring = if detector.is_tiled() { begun.elapsed() } else { scoring };
            self.waiting.observe(waiting.as_secs_f64());
            self.scoring.observe(scoring.as_secs_f64());
            self.images.inc();
            let Job { detector, sample, reply, .. } = job;
            let done = done.map(|(verdict, located)| {
                if verdict.anomalous == Some(true) {
                    self.anomalies.inc();
                }
                Done { detector, sample, verdict, located, decoding: Duration::ZERO, waiting, scoring, batch }
            });
            // Who went away needs no answer.
            let _ = reply.send(done);
        }
    }

    /// An image of tiles, which are a batch by themselves.
    fn tiles(&self, detector: &Detector, job: &Job) -> Result<(Verdict, Option<Located>), Refusal> {
        if job.locate {
            let located = self.caught(|| detector.locate_prepared(&job.sample, None))?;
            return Ok((located.verdict.clone(), Some(located)));
        }
        let verdicts = self.caught(|| detector.score_prepared(&[&job.sample]))?;
        verdicts.into_iter().next().map(|verdict| (verdict, None)).ok_or_else(fault)
    }

    /// What a detector does; where its device fails, the model is loaded anew.
    fn caught<T>(&self, work: impl FnMut() -> Result<T, DetectError>) -> Result<T, Refusal> {
        match catch_unwind(AssertUnwindSafe(|| until_heard(work))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if error.is_machine_fault() {
                    self.healthy.store(false, Ordering::SeqCst);
                }
                Err(Refusal::of(&error))
            }
            Err(_) => {
                self.healthy.store(false, Ordering::SeqCst);
                Err(fault())
            }
        }
    }
}

/// Does it again where it was interrupted: a process that is asked to stop finishes what it took, and says so
/// a moment later by lowering the flag.
fn until_heard<T>(mut work: impl FnMut() -> Result<T, DetectError>) -> Result<T, DetectError> {
    let mut tries = 0;
    loop {
        match work() {
            Err(DetectError::Score(ScoreError::Device(DeviceError::Interrupted(_)))) if tries < 50 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}
