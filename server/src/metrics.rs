//! What a scraper sees.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfModel {
    pub(crate) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfRequest {
    pub(crate) route: String,
    pub(crate) status: u16,
}

type Durations = Family<OfModel, Histogram, fn() -> Histogram>;
type Counts = Family<OfModel, Counter>;

/// Counts one more until it is dropped, by a panic too.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counters, gauges and histograms.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<OfRequest, Counter>,
    pub(crate) images: Counts,
    pub(crate) anomalies: Counts,
    pub(crate) refused: Counts,
    pub(crate) batches: Durations,
    pub(crate) waiting: Durations,
    pub(crate) decoding: Durations,
    pub(crate) scoring: Durations,
    pub(crate) queued: Family<OfModel, Gauge>,
    pub(crate) ready: Family<OfModel, Gauge>,
    pub(crate) reloads: Counts,
    pub(crate) connections: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_5, 2.0, 16));
        let sizes: fn() -> Histogram = || Histogram::new(exponential_buckets(1.0, 2.0, 9));
        let mut all = Self {
            registry: Registry::with_prefix("ganomede"),
            requests: Family::default(),
            images: Family::default(),
            anomalies: Family::default(),
            refused: Family::default(),
            batches: Family::new_with_constructor(sizes),
            waiting: Family::new_with_constructor(seconds),
            decoding: Family::new_with_constructor(seconds),
            scoring: Family::new_with_constructor(seconds),
            queued: Family::default(),
            ready: Family::default(),
            reloads: Family::default(),
            connections: Gauge::default(),
        };
        let registry = &mut all.registry;
        registry.register("requests", "Requests by route and status", all.requests.clone());
        registry.register("images", "Samples scored", all.images.clone());
        registry.register("anomalies", "Samples called anomalous", all.anomalies.clone());
        registry.register("refused", "Samples refused since too many wait", all.refused.clone());
        registry.register("batch_size", "Samples scored side by side", all.batches.clone());
        registry.register("waiting_seconds", "Time between decoding and scoring", all.waiting.clone());
        registry.register("decoding_seconds", "Time that decoding takes", all.decoding.clone());
        registry.register("scoring_seconds", "Time that a batch takes", all.scoring.clone());
        registry.register("queued", "Samples that wait or are scored", all.queued.clone());
        registry.register("ready", "Whether the model answers", all.ready.clone());
        registry.register("reloads", "Times that the model was loaded anew", all.reloads.clone());
        registry.register("connections", "Open connections", all.connections.clone());
        all
    }

    /// In Prometheus's text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
