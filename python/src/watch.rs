//! Long work that Ctrl-C ends and that tells how far it is.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ganomede::datasets::Findings;
use ganomede::detect::{DetectError, Observer, Progress};
use ganomede_host::interrupt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::raised;

/// How often the calling thread looks for signals.
const LOOK: Duration = Duration::from_millis(50);

/// Does work on another thread, without the interpreter's lock, while this one looks for signals.
pub(crate) fn watched<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, DetectError> + Send,
) -> PyResult<T> {
    py.detach(|| {
        std::thread::scope(|scope| {
            let (done, ended) = channel();
            let worker = scope.spawn(move || {
                let result = work();
                let _ = done.send(());
                result
            });
            let mut signal = None;
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if signal.is_none()
                    && let Err(error) = Python::attach(|py| py.check_signals())
                {
                    signal = Some(error);
                    interrupt::raise();
                }
            }
            let result = worker.join();
            if let Some(error) = signal {
                interrupt::lower();
                return Err(error);
            }
            match result {
                Ok(result) => result.map_err(raised),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    })
}

/// Calls a Python function with each piece of news: `(kind, news)`, where `kind` is `progress` with a
/// dictionary, `note` or `unused` with a sentence. An exception of the function ends the work.
pub(crate) struct Calling<'a> {
    call: Option<&'a Py<PyAny>>,
    failed: &'a mut Option<PyErr>,
}

impl<'a> Calling<'a> {
    pub(crate) fn new(call: Option<&'a Py<PyAny>>, failed: &'a mut Option<PyErr>) -> Self {
        Self { call, failed }
    }

    fn tell(&mut self, kind: &str, news: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>) {
        let (Some(call), None) = (self.call, &self.failed) else { return };
        if let Err(error) = Python::attach(|py| call.call1(py, (kind, news(py)?))) {
            *self.failed = Some(error);
        }
    }

    fn sentence(&mut self, kind: &str, text: &str) {
        self.tell(kind, |py| Ok(text.into_pyobject(py)?.into_any().unbind()));
    }

    fn unused(&mut self, findings: &Findings) {
        for file in &findings.rejected {
            self.sentence("unused", &format!("{}: {}", file.path, file.reason));
        }
    }
}

impl Observer for Calling<'_> {
    fn progress(&mut self, progress: &Progress<'_>) {
        self.tell("progress", |py| {
            let news = PyDict::new(py);
            news.set_item("task", progress.task)?;
            news.set_item("unit", progress.unit)?;
            news.set_item("first", progress.first)?;
            news.set_item("done", progress.done)?;
            news.set_item("total", progress.total)?;
            news.set_item("stage", progress.stage)?;
            news.set_item(
                "losses",
                progress.losses.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
            )?;
            news.set_item("ended", progress.ended)?;
            Ok(news.into_any().unbind())
        });
    }

    fn note(&mut self, line: &str) {
        self.sentence("note", line);
    }

    fn findings(&mut self, findings: &Findings) {
        self.unused(findings);
    }

    fn goes_on(&mut self) -> bool {
        self.failed.is_none() && !interrupt::raised()
    }
}
