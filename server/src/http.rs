//! Connections: at most so many, none that stays silent or does not read, all finished when the server stops.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use crate::metrics::Counted;
use crate::{Load, Shared, routes};

/// Time that a client has to send the head of a request.
const HEAD: Duration = Duration::from_secs(15);

/// Answers until `stop` says so.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    load: Arc<dyn Load>,
    stop: impl Fn() -> bool + Send + Sync + 'static,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let service = TowerToHyperService::new(routes::router(Arc::clone(&shared)));
    let connections = Arc::new(Semaphore::new(shared.options.connections));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 << 10);
    let watching = tokio::spawn(watch(Arc::clone(&shared), load));
    let stopped = async {
        while !stop() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::pin!(stopped);
    loop {
        let accepted = async {
            let permit = Arc::clone(&connections).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?, permit))
        };
        let ((stream, _), permit) = tokio::select! {
            () = &mut stopped => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // No file descriptors, say: others may be closed in a moment.
                    (shared.log)(&json!({"event": "no connection", "error": error.to_string()}));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        // Whoever asks and does not read would keep its connection for ever. Reading byte by byte does not
        // help: the system takes more only once a third of its buffer was read.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(shared.options.timeout));
        let stream = TokioIo::new(Box::pin(stream));
        let connection = graceful.watch(http.serve_connection(stream, service.clone()));
        let shared = Arc::clone(&shared);
        let counted = Counted::new(&shared.metrics.connections);
        tokio::spawn(async move {
            let _held = (counted, permit);
            // What else a client does to its connection is its own affair.
            if connection.await.is_err_and(|error| is_stalled(&error)) {
                (shared.log)(&json!({"event": "answer not read"}));
            }
        });
    }
    drop(listener);
    (shared.log)(&json!({"event": "stopping"}));
    let finished = tokio::time::timeout(shared.options.grace, graceful.shutdown()).await.is_ok();
    watching.abort();
    (shared.log)(&json!({"event": "stopped", "all_answered": finished}));
    Ok(())
}

/// Whether a connection ended because nobody read what was answered.
fn is_stalled(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// Looks every second whether a model's file changed.
async fn watch(shared: Arc<Shared>, load: Arc<dyn Load>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (shared, load) = (Arc::clone(&shared), Arc::clone(&load));
        let looked = tokio::task::spawn_blocking(move || {
            shared.models.values().for_each(|model| model.refresh(load.as_ref(), &shared));
        });
        if looked.await.is_err() {
            return;
        }
    }
}
