//! Trained detectors, and their training.

use ganomede::Detector;
use ganomede::datasets::{Channels, SignalOptions, TableOptions};
use ganomede::detect::{DetectError, Query, QueryData, Verdict, other_precision, rate_of};
use ganomede::models::scorer::ScoreConfig;
use ganomede::models::{Form, SYSTEMS, Size};
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray2};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::data::{Pixels, Source, form, rows};
use crate::watch::{Calling, watched};
use crate::{Place, device, raised};

/// Samples that are scored before anybody is told of it.
const BATCH: usize = 64;

/// A trained detector on a device.
#[pyclass(frozen, module = "ganomede._ganomede")]
pub(crate) struct Model(Detector);

#[pymethods]
impl Model {
    /// Reads a model file.
    #[staticmethod]
    #[pyo3(signature = (path, place, rate=None))]
    fn load(py: Python<'_>, path: std::path::PathBuf, place: Place, rate: Option<f64>) -> PyResult<Self> {
        let device = device(&place)?;
        watched(py, || with_rate(Detector::load(path, &device)?, rate)).map(Self)
    }

    /// The same from the bytes of such a file.
    #[staticmethod]
    #[pyo3(signature = (bytes, place, rate=None))]
    fn from_bytes(py: Python<'_>, bytes: &[u8], place: Place, rate: Option<f64>) -> PyResult<Self> {
        let device = device(&place)?;
        watched(py, || with_rate(Detector::from_bytes(bytes, &device)?, rate)).map(Self)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.to_bytes().map_err(raised)?))
    }

    fn save(&self, path: std::path::PathBuf) -> PyResult<()> {
        self.0.save(path).map_err(raised)
    }

    /// The header of the model file, as JSON.
    fn header(&self) -> PyResult<String> {
        json(&self.0.model().header)
    }

    /// The threshold in use; None without held-out samples.
    fn threshold(&self) -> PyResult<Option<f64>> {
        Ok(self.0.threshold().map_err(raised)?.map(|threshold| threshold.value))
    }

    /// The share of false alarms that the threshold aims at.
    fn rate(&self) -> f64 {
        rate_of(self.0.model())
    }

    /// `image`, `series` or `table`.
    fn form(&self) -> &'static str {
        match self.0.model().header.config.form {
            Form::Image => "image",
            Form::Signal => "series",
            Form::Table => "table",
        }
    }

    /// Channels, height and width of a sample.
    fn shape(&self) -> [usize; 3] {
        let [_, channels, height, width] = self.0.model().header.config.images(1);
        [channels, height, width]
    }

    /// Names of the columns of a table's rows; empty where none are known.
    fn columns(&self) -> Vec<String> {
        self.0.model().header.data.table.as_ref().map_or(vec![], |table| table.columns.clone())
    }

    fn describe_device(&self) -> String {
        self.0.device().describe()
    }

    /// What is to be told where the threshold was chosen in another precision.
    fn other_precision(&self) -> Option<String> {
        other_precision(self.0.model(), self.0.device())
    }

    /// Judges images.
    #[pyo3(signature = (images, maps, call=None))]
    fn score_images<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Pixels<'py>>,
        maps: bool,
        call: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let images: PyResult<Vec<_>> = images.iter().map(Pixels::image).collect();
        let queries = images?.into_iter().map(Query::from).collect();
        self.judged(py, queries, maps, call)
    }

    /// Judges rows or windows, one a row of the matrix, in their own units.
    #[pyo3(signature = (samples, maps, call=None))]
    fn score_measured<'py>(
        &self,
        py: Python<'py>,
        samples: PyReadonlyArray2<'py, f64>,
        maps: bool,
        call: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let queries = rows(&samples).into_iter().map(|row| Query::Measured(row.into())).collect();
        self.judged(py, queries, maps, call)
    }

    /// Judges files, folders and sets; what `ganomede score --json` prints.
    #[pyo3(signature = (specs, call=None))]
    fn score_data(&self, py: Python<'_>, specs: Vec<String>, call: Option<Py<PyAny>>) -> PyResult<String> {
        let mut failed = None;
        let answers = watched(py, || {
            let data = QueryData { specs, ..QueryData::default() };
            self.0.answers(data, &mut Calling::new(call.as_ref(), &mut failed))
        });
        failed.map_or(Ok(()), Err)?;
        json(&answers?)
    }

    /// Every metric on labelled test data; what `ganomede eval --json` prints.
    #[pyo3(signature = (data, call=None))]
    fn evaluate(&self, py: Python<'_>, data: String, call: Option<Py<PyAny>>) -> PyResult<String> {
        let mut failed = None;
        let assessment =
            watched(py, || self.0.evaluate_watched(&data, &mut Calling::new(call.as_ref(), &mut failed)));
        failed.map_or(Ok(()), Err)?;
        json(&assessment?)
    }
}

impl Model {
    /// Scores, percentiles, p-values, verdicts, and maps where they are wanted and there are any.
    fn judged<'py>(
        &self,
        py: Python<'py>,
        queries: Vec<Query<'static>>,
        maps: bool,
        call: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut failed = None;
        let verdicts = watched(py, || {
            let mut observer = Calling::new(call.as_ref(), &mut failed);
            judge(&self.0, queries, maps, &mut observer)
        });
        failed.map_or(Ok(()), Err)?;
        let verdicts = verdicts?;
        let column = |value: fn(&Verdict) -> Option<f64>| {
            PyArray1::from_vec(py, verdicts.iter().map(|v| value(v).unwrap_or(f64::NAN)).collect())
        };
        let judged = PyDict::new(py);
        judged.set_item("scores", column(|v| Some(v.score)))?;
        judged.set_item("percentiles", column(|v| v.percentile))?;
        judged.set_item("p_values", column(|v| v.p_value))?;
        let anomalous = verdicts.iter().map(|v| v.anomalous.map_or(-1, i64::from)).collect();
        judged.set_item("anomalous", PyArray1::from_vec(py, anomalous))?;
        let found: Vec<&Vec<f32>> = verdicts.iter().filter_map(|v| v.map.as_ref()).collect();
        if maps && !found.is_empty() && found.len() == verdicts.len() {
            let [_, height, width] = self.shape();
            let flat = PyArray1::from_vec(py, found.into_iter().flatten().copied().collect());
            judged.set_item("maps", flat.reshape([verdicts.len(), height, width])?)?;
        }
        Ok(judged)
    }
}

fn judge(
    detector: &Detector,
    queries: Vec<Query<'static>>,
    maps: bool,
    observer: &mut Calling<'_>,
) -> Result<Vec<Verdict>, DetectError> {
    use ganomede::detect::{Observer, Progress};
    let total = queries.len();
    let mut verdicts = Vec::with_capacity(total);
    let mut queries = queries.into_iter();
    while verdicts.len() < total {
        if !observer.goes_on() {
            return Err(DetectError::Stopped);
        }
        let judged = detector.score_many(queries.by_ref().take(BATCH))?;
        verdicts.extend(judged.into_iter().map(|verdict| Verdict {
            map: verdict.map.filter(|_| maps),
            reconstruction: None,
            ..verdict
        }));
        observer.progress(&Progress {
            task: "scoring",
            unit: "samples",
            first: 0,
            done: verdicts.len() as u64,
            total: Some(total as u64),
            stage: None,
            losses: &[],
            ended: verdicts.len() == total,
        });
    }
    Ok(verdicts)
}

fn with_rate(detector: Detector, rate: Option<f64>) -> Result<Detector, DetectError> {
    match rate {
        Some(rate) => detector.with_false_alarm_rate(rate),
        None => Ok(detector),
    }
}

fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// How a detector is trained; what is None is as the system recommends.
#[derive(FromPyObject)]
pub(crate) struct HowTrained {
    #[pyo3(item)]
    size: String,
    #[pyo3(item)]
    channels: usize,
    #[pyo3(item)]
    width: usize,
    #[pyo3(item)]
    latent: Option<usize>,
    #[pyo3(item)]
    epochs: Option<u64>,
    #[pyo3(item)]
    steps: Option<u64>,
    #[pyo3(item)]
    minutes: Option<f64>,
    #[pyo3(item)]
    batch: Option<usize>,
    #[pyo3(item)]
    lr: Option<f32>,
    #[pyo3(item)]
    score: String,
    #[pyo3(item)]
    options: Vec<(String, String)>,
    #[pyo3(item)]
    augment: String,
    #[pyo3(item)]
    textures: Option<std::path::PathBuf>,
    #[pyo3(item)]
    standardise: bool,
    #[pyo3(item)]
    hold_out: f64,
    #[pyo3(item)]
    seed: u64,
    #[pyo3(item)]
    rate: Option<f64>,
}

/// What is trained on: a path with its form, images, or measured samples with their form and columns.
#[derive(FromPyObject)]
pub(crate) enum Given<'py> {
    Path(String, String),
    Measured(String, Vec<String>, PyReadonlyArray2<'py, f64>),
    Images(Vec<Pixels<'py>>),
}

impl Given<'_> {
    fn source(self) -> PyResult<Source> {
        Ok(match self {
            Self::Path(name, path) => Source::Path(form(&name)?, path),
            Self::Measured(name, names, samples) => Source::Measured(form(&name)?, names, rows(&samples)),
            Self::Images(images) => {
                Source::Images(images.iter().map(Pixels::image).collect::<PyResult<Vec<_>>>()?)
            }
        })
    }
}

/// Trains a system and calibrates it.
#[pyfunction]
#[pyo3(signature = (system, given, how, place, call=None))]
pub(crate) fn train(
    py: Python<'_>,
    system: &str,
    given: Given<'_>,
    how: HowTrained,
    place: Place,
    call: Option<Py<PyAny>>,
) -> PyResult<Model> {
    let Some(&info) = SYSTEMS.iter().find(|info| info.name == system) else {
        let names: Vec<_> = SYSTEMS.iter().map(|info| info.name).collect();
        let text = format!("system '{system}' is unknown; use one of {}", names.join(", "));
        return Err(PyValueError::new_err(text));
    };
    let (device, source) = (device(&place)?, given.source()?);
    let size: Size = how.size.parse().map_err(|e| PyValueError::new_err(format!("size: {e}")))?;
    let channels = if how.channels == 3 { Channels::Rgb } else { Channels::Gray };
    let mut failed = None;
    let trained = watched(py, || {
        let form = source.form();
        let mut training = Detector::train(info).size(size).channels(channels).seed(how.seed);
        training = training.hold_out(how.hold_out).standardise(how.standardise);
        if form != Form::Table {
            training = training.width(how.width);
        }
        if !how.augment.is_empty() {
            training = training.augment(how.augment);
        }
        training = match source {
            Source::Path(Form::Image, path) => training.images(path),
            Source::Path(Form::Signal, path) => training.series(path, SignalOptions::default()),
            Source::Path(Form::Table, path) => training.table(path, TableOptions::default()),
            own => training.samples(own.samples(size, channels, how.hold_out, how.seed)?),
        };
        if let Some(folder) = &how.textures {
            training = training.textures(folder);
        }
        for (name, value) in &how.options {
            training = training.option(name, value);
        }
        if !how.score.is_empty() {
            training = training.score(ScoreConfig { score: how.score, ..ScoreConfig::default() });
        }
        training = how.latent.into_iter().fold(training, |t, latent| t.latent(latent));
        training = how.epochs.into_iter().fold(training, |t, epochs| t.epochs(epochs));
        training = how.steps.into_iter().fold(training, |t, steps| t.steps(steps));
        training = how.minutes.into_iter().fold(training, |t, minutes| t.minutes(minutes));
        training = how.batch.into_iter().fold(training, |t, batch| t.batch(batch));
        training = how.lr.into_iter().fold(training, |t, lr| t.lr(lr));
        let training = training.observer(Calling::new(call.as_ref(), &mut failed));
        with_rate(training.run(&device)?, how.rate)
    });
    failed.map_or(Ok(()), Err)?;
    Ok(Model(trained?))
}
