//! Detectors behind HTTP: the Open Inference Protocol (KServe's v2), image files by `POST /score`, metrics
//! for Prometheus, and a page for people.
//!
//! Requests are decoded side by side and scored in batches by one worker a model; an answer has the bits that
//! the image has alone. What a server takes is bounded before it takes it: connections, bytes of bodies,
//! images waiting, time. A model whose file changes is loaded beside the old one and then takes its place;
//! who waits for the old one gets its answer.
//!
//! ```no_run
//! use ganomede::detect::Detector;
//! use ganomede::device::Device;
//! use ganomede_server::{Options, Server, Source};
//!
//! let load = |path: &std::path::Path| Detector::load(path, &Device::Cpu);
//! let sources = vec![Source { name: "parts".into(), path: "parts.safetensors".into() }];
//! let server = Server::bind(sources, load, Options::default(), |event| eprintln!("{event}"))?;
//! println!("listening on {}", server.address());
//! server.run(|| false)?;
//! # Ok::<(), ganomede_server::ServeError>(())
//! ```

mod guard;
mod http;
mod metrics;
mod model;
mod refusal;
mod routes;
mod score;
mod tensors;
mod v2;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ganomede::detect::{DetectError, Detector};
use serde_json::{Value, json};

use metrics::Metrics;
use model::Model;
use refusal::Refusal;

/// A model file and the name that requests call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name in addresses: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// What a server listens on, and the most that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What requests must carry as `Authorization: Bearer …`; without one only loopback is listened on.
    pub token: Option<String>,
    /// Whether other machines may come without a token.
    pub without_token: bool,
    /// Images scored side by side.
    pub max_batch: usize,
    /// How long a batch waits for images that are being decoded.
    pub max_wait: Duration,
    /// Images of a model that wait or are scored; more are refused with status 429.
    pub queue: usize,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Bytes that all bodies at hand may take once they are read; four times what they have as they are sent.
    pub max_bodies: usize,
    /// Connections; more wait to be accepted.
    pub connections: usize,
    /// Time from a request's head to its answer; then status 408. An answer of which nothing is read for as
    /// long is given up.
    pub timeout: Duration,
    /// Time that requests at hand have when the server stops.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            token: None,
            without_token: false,
            max_batch: 64,
            max_wait: Duration::from_millis(5),
            queue: 256,
            max_body: 64 << 20,
            max_bodies: 512 << 20,
            connections: 512,
            timeout: Duration::from_secs(60),
            grace: Duration::from_secs(30),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Settings that go against each other, or are out of range.
    #[error("{0}")]
    Options(String),
    /// A model that cannot be served.
    #[error(transparent)]
    Model(#[from] DetectError),
    /// An address that cannot be listened on, or threads that do not start.
    #[error("cannot listen on {address}: {source}; choose another address with a free port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

impl ServeError {
    /// True where the machine is at fault, false where the request is.
    pub fn is_machine_fault(&self) -> bool {
        match self {
            Self::Options(_) => false,
            Self::Model(error) => error.is_machine_fault(),
            Self::Listen { .. } => true,
        }
    }
}

/// Loads a model file as a detector on a device; called again when the file changes or the device is lost.
pub trait Load: Fn(&Path) -> Result<Detector, DetectError> + Send + Sync + 'static {}

impl<F: Fn(&Path) -> Result<Detector, DetectError> + Send + Sync + 'static> Load for F {}

/// Takes what happens: a JSON object with `event` and what belongs to it.
pub trait Log: Fn(&Value) + Send + Sync + 'static {}

impl<F: Fn(&Value) + Send + Sync + 'static> Log for F {}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) models: BTreeMap<String, Arc<Model>>,
    pub(crate) options: Options,
    pub(crate) metrics: Metrics,
    pub(crate) log: Box<dyn Log>,
    /// Kibibytes of bodies that may still be taken.
    pub(crate) bodies: Arc<tokio::sync::Semaphore>,
    /// Decoding, one a core.
    pub(crate) decoders: Arc<tokio::sync::Semaphore>,
}

impl Shared {
    /// Does what takes a while on a thread of its own, as many at once as there are cores.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = Arc::clone(&self.decoders).acquire_owned().await.map_err(|_| model::fault())?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            catch_unwind(AssertUnwindSafe(work))
        });
        match done.await {
            Ok(Ok(done)) => done,
            // A panic, or a runtime that is gone.
            Ok(Err(_)) | Err(_) => Err(model::fault()),
        }
    }
}

/// Detectors that listen.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    load: Arc<dyn Load>,
}

impl Server {
    /// Loads the models and takes the address; nothing is answered before [`Server::run`].
    ///
    /// # Errors
    /// [`ServeError`] for settings, models or an address that cannot be served.
    pub fn bind(
        sources: Vec<Source>,
        load: impl Load,
        options: Options,
        log: impl Log,
    ) -> Result<Self, ServeError> {
        check(&sources, &options)?;
        let address = options.listen;
        let failed = |source| ServeError::Listen { address, source };
        // The address first: loading may take long, and then be for nothing.
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let load: Arc<dyn Load> = Arc::new(load);
        let metrics = Metrics::new();
        let mut models = BTreeMap::new();
        for source in sources {
            let stamp = model::stamp(&source.path);
            let detector = load(&source.path)?;
            let name = source.name.clone();
            let model = Model::new(source, stamp, detector, &options, &metrics).map_err(failed)?;
            log(&json!({"event": "loaded", "model": name, "system": model.detector().model().header.system}));
            models.insert(name, Arc::new(model));
        }
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let shared = Shared {
            models,
            metrics,
            log: Box::new(log),
            bodies: Arc::new(tokio::sync::Semaphore::new(options.max_bodies.div_ceil(1024))),
            decoders: Arc::new(tokio::sync::Semaphore::new(cores)),
            options,
        };
        Ok(Self { shared: Arc::new(shared), listener, address, load })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` says so, then finishes what it took.
    ///
    /// # Errors
    /// [`ServeError::Listen`] where threads do not start.
    pub fn run(self, stop: impl Fn() -> bool + Send + Sync + 'static) -> Result<(), ServeError> {
        let address = self.address;
        let failed = |source| ServeError::Listen { address, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_io()
            .enable_time()
            .thread_name("http")
            .build()
            .map_err(failed)?;
        runtime.block_on(http::serve(self.shared, self.listener, self.load, stop)).map_err(failed)?;
        // A request that outlived its time may still be decoding: its thread is not waited for.
        runtime.shutdown_background();
        Ok(())
    }
}

fn check(sources: &[Source], options: &Options) -> Result<(), ServeError> {
    let refuse = |reason: String| Err(ServeError::Options(reason));
    if sources.is_empty() {
        return refuse("name at least one model to serve".to_owned());
    }
    for (i, Source { name, .. }) in sources.iter().enumerate() {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(fits) || name.starts_with('.') {
            return refuse(format!(
                "'{}' cannot stand in an address; a model's name has letters, digits, '-', '_' and '.'",
                name.escape_debug()
            ));
        }
        if sources[..i].iter().any(|other| other.name == *name) {
            return refuse(format!("two models are called '{name}'; give one another name, as NAME=FILE"));
        }
    }
    if options.token.is_none() && !options.without_token && !options.listen.ip().is_loopback() {
        return refuse(format!(
            "other machines could reach {} and nothing asks who they are; set a token, or say that none is wanted",
            options.listen
        ));
    }
    if options.token.as_ref().is_some_and(|t| t.len() < 8 || !t.bytes().all(|b| b.is_ascii_graphic())) {
        return refuse("a token has at least 8 characters, printable and without spaces".to_owned());
    }
    let counts =
        [options.max_batch, options.queue, options.max_body, options.max_bodies, options.connections];
    if counts.contains(&0)
        || options.max_body > options.max_bodies
        || options.max_bodies >> 10 > u32::MAX as usize
    {
        return refuse(
            "batch, queue, bytes and connections are at least 1, and a body is no larger than all bodies"
                .to_owned(),
        );
    }
    Ok(())
}
