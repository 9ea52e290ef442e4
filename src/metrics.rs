//! Every series that the program exports, in one reviewable place.
//!
//! Prefix `bearerd_`, base units, closed label sets (configured route, credential, reason; never host or path).
//! Every series of a closed set exists at 0 from the start, so that `increase()` sees the first event. Those of a name
//! that the configuration no longer has are dropped: whoever may patch the pod chooses names, as many as there is time for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
    core::{Collector, MetricVec, MetricVecBuilder},
};

/// The series of one sidecar. Cheap to share behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    /// Requests answered, by route, method and status code.
    pub http_requests: IntCounterVec,
    /// From the first byte of a request's head to the last of its answer.
    pub http_request_duration: HistogramVec,
    /// Requests and connections refused by us, by reason.
    pub requests_refused: IntCounterVec,
    /// Requests passed on without a credential, by reason.
    pub requests_passed: IntCounterVec,
    /// Failed attempts to connect to an upstream, by reason.
    pub upstream_connect_errors: IntCounterVec,
    /// Tokens fetched.
    pub token_refreshes: IntCounterVec,
    /// Fetches that failed, by reason.
    pub token_refresh_failures: IntCounterVec,
    /// Tokens handed out, by entry.
    pub tokens_handed_out: IntCounterVec,
    /// Token files that could not be written, by entry.
    pub token_file_failures: IntCounterVec,
    /// How long fetches took.
    pub token_refresh_duration: Histogram,
    /// When the current token ends, in seconds since 1970; absent until there is one, kept after its end.
    pub token_expiry: IntGaugeVec,
    /// Which key is in use: 1.
    pub key_info: IntGaugeVec,
    /// Key files that could not be used, by reason.
    pub key_load_failures: IntCounterVec,
    /// When a key was last taken into use, in seconds since 1970.
    pub key_load_timestamp: IntGaugeVec,
    /// Configurations taken into use.
    pub config_reloads: IntCounter,
    /// Configurations refused.
    pub config_reload_failures: IntCounter,
    /// Open client connections, by door.
    pub connections_active: IntGaugeVec,
    /// When the pod CA ends, in seconds since 1970.
    pub ca_expiry: IntGauge,
    /// Reviews answered by the webhook, by result.
    pub webhook_reviews: IntCounterVec,
    /// How long reviews took; without labels, and absent in a sidecar.
    pub webhook_review_duration: HistogramVec,
    /// When the webhook's certificate ends, in seconds since 1970; without labels, and absent until there is one.
    pub webhook_certificate_expiry: IntGaugeVec,
    panics: IntCounter,
    /// `None` until there is a configuration.
    names: Mutex<Option<Names>>,
}

/// The names in labels that the configuration chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Values of `route`.
    pub routes: BTreeSet<String>,
    /// Values of `entry`.
    pub entries: BTreeSet<String>,
    /// Values of `credential`.
    pub credentials: BTreeSet<String>,
}

/// Panics are counted by a hook that outlives any one sidecar.
static PANICS: AtomicU64 = AtomicU64::new(0);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When two series share a name, which the test below excludes.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let metrics = Self {
            http_requests: make.counters(
                "http_requests_total",
                "Requests answered, refused ones too; code 499 is a client that left.",
                &["route", "method", "code"],
            )?,
            http_request_duration: make.durations(
                "http_request_duration_seconds",
                "From the first byte of a request's head to the last of its answer.",
                &["route"],
            )?,
            requests_refused: make.counters(
                "requests_refused_total",
                "Requests and connections refused by bearerd itself.",
                &["reason"],
            )?,
            requests_passed: make.counters("requests_passed_total", "Passed on without a credential.", &["reason"])?,
            upstream_connect_errors: make.counters(
                "upstream_connect_errors_total",
                "Failed attempts to connect to an upstream.",
                &["reason"],
            )?,
            token_refreshes: make.counters("token_refreshes_total", "Tokens fetched.", &["credential"])?,
            token_refresh_failures: make.counters(
                "token_refresh_failures_total",
                "Token fetches that failed.",
                &["credential", "reason"],
            )?,
            tokens_handed_out: make.counters("tokens_handed_out_total", "Tokens handed out.", &["entry"])?,
            token_file_failures: make.counters(
                "token_file_write_failures_total",
                "Token files that could not be written.",
                &["entry"],
            )?,
            token_refresh_duration: make.duration("token_refresh_duration_seconds", "How long fetches took.")?,
            token_expiry: make.gauges(
                "token_expiry_timestamp_seconds",
                "When the newest token ends; stays after its end.",
                &["credential"],
            )?,
            key_info: make.gauges("key_info", "The key in use: 1.", &["credential", "key_id"])?,
            key_load_failures: make.counters(
                "key_load_failures_total",
                "Key files that could not be used.",
                &["credential", "reason"],
            )?,
            key_load_timestamp: make.gauges(
                "key_load_timestamp_seconds",
                "When a key was last taken into use.",
                &["credential"],
            )?,
            config_reloads: make.counter("config_reloads_total", "Configurations taken into use.")?,
            config_reload_failures: make.counter("config_reload_failures_total", "Configurations refused.")?,
            connections_active: make.gauges("connections_active", "Open client connections.", &["door"])?,
            ca_expiry: make.gauge("ca_expiry_timestamp_seconds", "When the pod CA ends.")?,
            webhook_reviews: make.counters("webhook_reviews_total", "Reviews answered.", &["result"])?,
            webhook_review_duration: make.durations("webhook_review_duration_seconds", "How long it took.", &[])?,
            webhook_certificate_expiry: make.gauges(
                "webhook_certificate_expiry_timestamp_seconds",
                "When the webhook's certificate ends.",
                &[],
            )?,
            panics: make.counter("panics_total", "Panics; each costs one connection or one refresh.")?,
            names: Mutex::default(),
            registry: registry.clone(),
        };
        about_the_process(&make)?;
        Ok(metrics)
    }

    /// Drops every series of a name that is not among `names`. What ends later under a gone name, such as a request that
    /// was in flight, makes its series anew, for as long as to the next page or the next change of names.
    pub fn keep_only(&self, names: Names) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Some(names);
        self.drop_gone();
    }

    fn drop_gone(&self) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Names { routes, entries, credentials }) = names.as_ref() else { return };
        keep(&self.http_requests, "route", routes);
        keep(&self.http_request_duration, "route", routes);
        for family in [&self.tokens_handed_out, &self.token_file_failures] {
            keep(family, "entry", entries);
        }
        for family in [&self.token_refreshes, &self.token_refresh_failures, &self.key_load_failures] {
            keep(family, "credential", credentials);
        }
        for family in [&self.token_expiry, &self.key_info, &self.key_load_timestamp] {
            keep(family, "credential", credentials);
        }
    }

    /// One key of a credential at a time is in use; series of others would say otherwise.
    pub fn key_in_use(&self, credential: &str, key_id: &str) {
        drop_series(&self.key_info, "credential", |name| name == credential);
        self.key_info.with_label_values(&[credential, key_id]).set(1);
    }

    /// What was refused so far, by reason, without the reasons that never occurred.
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        sums(&self.requests_refused, "reason")
    }

    /// What was passed on without a credential so far, by reason, without the reasons that never occurred.
    pub fn passed(&self) -> BTreeMap<String, u64> {
        sums(&self.requests_passed, "reason")
    }

    /// What was handed out so far, by entry.
    pub fn handed_out(&self) -> BTreeMap<String, u64> {
        sums(&self.tokens_handed_out, "entry")
    }

    /// What was answered so far, by route.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        sums(&self.http_requests, "route")
    }

    /// The page that Prometheus scrapes.
    pub fn render(&self) -> String {
        let panics = PANICS.load(Ordering::Relaxed);
        self.panics.inc_by(panics.saturating_sub(self.panics.get()));
        self.drop_gone();
        let mut page = Vec::new();
        // Writing to a Vec fails only when a family is inconsistent, which registration excludes.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut page);
        String::from_utf8(page).unwrap_or_default()
    }
}

/// Drops the series of a family whose `label` has another value than these.
fn keep<T: MetricVecBuilder>(family: &MetricVec<T>, label: &str, names: &BTreeSet<String>) {
    drop_series(family, label, |name| !names.contains(name));
}

/// Drops the series of a family for whose `label` this holds.
fn drop_series<T: MetricVecBuilder>(family: &MetricVec<T>, label: &str, is_gone: impl Fn(&str) -> bool) {
    for series in family.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
        let labels: HashMap<&str, &str> = series.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
        if labels.get(label).is_some_and(|name| is_gone(name)) {
            // Fails only where it is gone already.
            let _ = family.remove(&labels);
        }
    }
}

/// The sums of a family by one of its labels, without those that are 0.
fn sums(family: &IntCounterVec, label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for series in family.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
        let named = series.get_label().iter().find(|pair| pair.name() == label);
        let count = series.get_counter().get_value() as u64;
        if let Some(pair) = named.filter(|_| count > 0) {
            *sums.entry(pair.value().to_owned()).or_default() += count;
        }
    }
    sums
}

/// Called by the panic hook.
pub fn count_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

struct Maker<'a> {
    registry: &'a Registry,
}

fn about_the_process(make: &Maker<'_>) -> prometheus::Result<()> {
    let info = make.gauges("build_info", "The version that runs.", &["version"])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    make.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}

impl Maker<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        let series = IntCounterVec::new(opts(name, help), labels)?;
        self.registry.register(Box::new(series.clone()))?;
        Ok(series)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let series = IntCounter::with_opts(opts(name, help))?;
        self.registry.register(Box::new(series.clone()))?;
        Ok(series)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let series = IntGaugeVec::new(opts(name, help), labels)?;
        self.registry.register(Box::new(series.clone()))?;
        Ok(series)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let series = IntGauge::with_opts(opts(name, help))?;
        self.registry.register(Box::new(series.clone()))?;
        Ok(series)
    }

    fn durations(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        let series = HistogramVec::new(histogram(name, help), labels)?;
        self.registry.register(Box::new(series.clone()))?;
        Ok(series)
    }

    fn duration(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        let series = Histogram::with_opts(histogram(name, help))?;
        self.registry.register(Box::new(series.clone()))?;
        Ok(series)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("bearerd_{name}"), help)
}

fn histogram(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(format!("bearerd_{name}"), help).buckets(BUCKETS.to_vec())
}

/// From a call on the same host to a long upload; the few that alerts and dashboards use.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(routes: &[&str], entries: &[&str], credentials: &[&str]) -> Names {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Names { routes: set(routes), entries: set(entries), credentials: set(credentials) }
    }

    /// One event of every family that has a label whose values the configuration chooses.
    fn count(metrics: &Metrics, name: &str) {
        for (method, code) in [("GET", "200"), ("POST", "499")] {
            metrics.http_requests.with_label_values(&[name, method, code]).inc();
        }
        metrics.http_request_duration.with_label_values(&[name]).observe(1.0);
        for counter in [&metrics.tokens_handed_out, &metrics.token_file_failures, &metrics.token_refreshes] {
            counter.with_label_values(&[name]).inc();
        }
        for counter in [&metrics.token_refresh_failures, &metrics.key_load_failures] {
            counter.with_label_values(&[name, "unknown"]).inc();
        }
        for gauge in [&metrics.token_expiry, &metrics.key_load_timestamp] {
            gauge.with_label_values(&[name]).set(1);
        }
        metrics.key_info.with_label_values(&[name, "k1"]).set(1);
    }

    #[test]
    fn one_key_of_a_credential_is_in_use() {
        let metrics = Metrics::new().unwrap();
        for (credential, key_id) in [("a", "one"), ("b", "one"), ("a", "two")] {
            metrics.key_in_use(credential, key_id);
        }
        let page = metrics.render();
        let keys: Vec<&str> = page.lines().filter(|line| line.starts_with("bearerd_key_info{")).collect();
        let line =
            |credential, key_id| format!("bearerd_key_info{{credential=\"{credential}\",key_id=\"{key_id}\"}} 1");
        assert_eq!(keys, [line("a", "two"), line("b", "one")]);
    }

    #[test]
    fn a_name_that_is_gone_leaves_the_page_and_a_late_event_under_it_too() {
        let metrics = Metrics::new().unwrap();
        metrics.requests_refused.with_label_values(&["policy"]);
        let lines = |name: &str| {
            let page = metrics.render();
            let of_name = |line: &&str| line.contains(&format!("=\"{name}\""));
            (page.lines().filter(of_name).count(), page.contains("requests_refused_total{reason=\"policy\"}"))
        };
        count(&metrics, "kept");
        count(&metrics, "gone");
        let all = lines("kept");
        assert!(all.0 > 20 && lines("gone") == all, "without names nothing is dropped: {all:?}");
        metrics.keep_only(names(&["kept"], &["kept"], &["kept"]));
        assert_eq!((lines("kept"), lines("gone")), (all, (0, true)));
        count(&metrics, "gone");
        assert_eq!((lines("kept"), lines("gone")), (all, (0, true)));
        count(&metrics, "kept");
        assert_eq!(metrics.requests(), BTreeMap::from([("kept".to_owned(), 4)]), "what stays goes on counting");
        // Each label has names of its own.
        metrics.keep_only(names(&["kept"], &[], &[]));
        assert_eq!(lines("kept").0, 16, "two counters and a histogram");
        metrics.keep_only(names(&[], &["kept"], &[]));
        assert_eq!(lines("kept").0, 0);
    }

    #[test]
    fn every_series_has_a_name_of_its_own_and_the_prefix() {
        let metrics = Metrics::new().unwrap();
        metrics.requests_refused.with_label_values(&["policy"]);
        let page = metrics.render();
        assert!(page.contains("bearerd_requests_refused_total{reason=\"policy\"} 0"), "{page}");
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("bearerd_") || line.starts_with("process_"), "{line}");
        }
    }
}
