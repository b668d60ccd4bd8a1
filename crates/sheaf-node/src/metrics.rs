//! Counters, gauges and histograms, and their Prometheus text form.
//!
//! Invariant: label values come from the fixed lists below, never from a caller, so the number of
//! series is bounded; nothing here names a site, a device or a token. Counting never blocks.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that only grows, per value of one label.
#[derive(Debug)]
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    cells: Vec<(&'static str, AtomicU64)>,
}

impl Family {
    fn new(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: &[&'static str],
    ) -> Self {
        let cells = values.iter().chain(&["other"]).map(|value| (*value, AtomicU64::new(0)));
        Self { name, help, label, cells: cells.collect() }
    }

    /// Adds `count` under a label value; one that is not listed counts as `other`.
    pub(crate) fn add(&self, value: &str, count: u64) {
        let cell = self.cells.iter().find(|(name, _)| *name == value).or_else(|| self.cells.last());
        if let Some((_, cell)) = cell {
            cell.fetch_add(count, Relaxed);
        }
    }

    /// Adds one under a label value.
    pub(crate) fn one(&self, value: &str) {
        self.add(value, 1);
    }

    fn render(&self, out: &mut String) {
        head(out, self.name, self.help, "counter");
        for (value, cell) in &self.cells {
            let count = cell.load(Relaxed);
            if *value != "other" || count > 0 {
                line(out, format_args!("{}{{{}=\"{value}\"}} {count}", self.name, self.label));
            }
        }
    }
}

/// A number that only grows.
#[derive(Debug)]
pub(crate) struct Counter {
    name: &'static str,
    help: &'static str,
    cell: AtomicU64,
}

impl Counter {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, cell: AtomicU64::new(0) }
    }

    /// Adds to it.
    pub(crate) fn add(&self, count: u64) {
        self.cell.fetch_add(count, Relaxed);
    }

    fn render(&self, out: &mut String) {
        head(out, self.name, self.help, "counter");
        line(out, format_args!("{} {}", self.name, self.cell.load(Relaxed)));
    }
}

/// A number that rises and falls.
#[derive(Debug)]
pub(crate) struct Gauge {
    name: &'static str,
    help: &'static str,
    cell: AtomicI64,
}

impl Gauge {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, cell: AtomicI64::new(0) }
    }

    /// Counts one thing in until the answer is dropped.
    pub(crate) fn enter(&self) -> Inside<'_> {
        self.rise();
        Inside(self)
    }

    /// Counts one thing in; it is counted out by [`Gauge::fall`].
    pub(crate) fn rise(&self) {
        self.cell.fetch_add(1, Relaxed);
    }

    /// Counts one thing out.
    pub(crate) fn fall(&self) {
        self.cell.fetch_sub(1, Relaxed);
    }

    fn render(&self, out: &mut String) {
        head(out, self.name, self.help, "gauge");
        line(out, format_args!("{} {}", self.name, self.cell.load(Relaxed)));
    }
}

/// One thing counted by a [`Gauge`].
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Gauge);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fall();
    }
}

/// Upper bounds of the buckets: microseconds, and the same in seconds as text.
const BUCKETS: [(u64, &str); 13] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
];

/// How long something took, in buckets.
#[derive(Debug)]
pub(crate) struct Histogram {
    name: &'static str,
    help: &'static str,
    cells: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            cells: std::array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub(crate) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.cells.iter().zip(BUCKETS).find(|(_, (bound, _))| us <= *bound);
        if let Some((cell, _)) = bucket {
            cell.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    fn render(&self, out: &mut String) {
        head(out, self.name, self.help, "histogram");
        let mut below = 0;
        for (cell, (_, bound)) in self.cells.iter().zip(BUCKETS) {
            below += cell.load(Relaxed);
            line(out, format_args!("{}_bucket{{le=\"{bound}\"}} {below}", self.name));
        }
        // A count read while somebody adds could be below the last bucket; readers reject that.
        let count = self.count.load(Relaxed).max(below);
        line(out, format_args!("{}_bucket{{le=\"+Inf\"}} {count}", self.name));
        let us = self.sum_us.load(Relaxed);
        let sum = format_args!("{}_sum {}.{:06}", self.name, us / 1_000_000, us % 1_000_000);
        line(out, sum);
        line(out, format_args!("{}_count {count}", self.name));
    }
}

/// Labels of the bounds in `limits` that callers can reach.
const LIMITS: &[&str] = &[
    "connections",
    "sockets",
    "body_bytes",
    "body_time",
    "hello_time",
    "socket_idle",
    "out_queue",
    "message_bytes",
    "sites",
];
/// Labels of failures that an operator may have to look at.
const KINDS: &[&str] = &["unavailable", "ambiguous", "corrupt", "io", "denied", "internal"];

/// Everything the node counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) commits: Family,
    pub(crate) commit_duration: Histogram,
    pub(crate) group_batches: Counter,
    pub(crate) mutations: Family,
    pub(crate) pushes: Family,
    pub(crate) pages_served: Counter,
    pub(crate) pages_duration: Histogram,
    pub(crate) commits_served: Counter,
    pub(crate) bytes: Family,
    pub(crate) http_requests: Family,
    pub(crate) ws_connections: Gauge,
    pub(crate) http_connections: Gauge,
    pub(crate) sites_active: Gauge,
    pub(crate) auth_denied: Family,
    pub(crate) limits_hit: Family,
    pub(crate) store_failures: Family,
    pub(crate) reclaim_passes: Family,
    pub(crate) reclaimed_objects: Counter,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        Self {
            commits: Family::new(
                "sheaf_commits_total",
                "Groups of mutations by how their append ended.",
                "outcome",
                &["committed", "empty", "conflict", "ambiguous", "failed"],
            ),
            commit_duration: Histogram::new(
                "sheaf_commit_duration_seconds",
                "From taking a group off the queue to its durable append, replay included.",
            ),
            group_batches: Counter::new(
                "sheaf_group_batches_total",
                "Batches that shared an append with others or had one alone.",
            ),
            mutations: Family::new(
                "sheaf_mutations_total",
                "Mutations by what was decided about them.",
                "outcome",
                &["applied", "merged", "rejected"],
            ),
            pushes: Family::new(
                "sheaf_pushes_total",
                "Batches by how they were answered.",
                "outcome",
                &["verdicts", "gap", "fork", "malformed", "failed"],
            ),
            pages_served: Counter::new("sheaf_pages_served_total", "Pages sent to devices."),
            pages_duration: Histogram::new(
                "sheaf_pages_duration_seconds",
                "From a request for pages to its answer.",
            ),
            commits_served: Counter::new("sheaf_commits_served_total", "Commits sent to devices."),
            bytes: Family::new(
                "sheaf_bytes_total",
                "Message and body bytes received and sent.",
                "dir",
                &["in", "out"],
            ),
            http_requests: Family::new(
                "sheaf_http_requests_total",
                "Requests by class of their answer.",
                "code",
                &["1xx", "2xx", "3xx", "4xx", "5xx"],
            ),
            ws_connections: Gauge::new("sheaf_ws_connections", "Open WebSockets."),
            http_connections: Gauge::new("sheaf_http_connections", "Open HTTP connections."),
            sites_active: Gauge::new("sheaf_sites_active", "Sites that are open here."),
            auth_denied: Family::new(
                "sheaf_auth_denied_total",
                "Callers turned away.",
                "reason",
                &["missing", "damaged", "unknown", "origin", "host"],
            ),
            limits_hit: Family::new(
                "sheaf_limits_hit_total",
                "Named bounds that were reached.",
                "limit",
                LIMITS,
            ),
            store_failures: Family::new(
                "sheaf_store_failures_total",
                "Failures of the store or a replica, by kind.",
                "kind",
                KINDS,
            ),
            reclaim_passes: reclaim_passes(),
            reclaimed_objects: reclaimed_objects(),
        }
    }

    /// The Prometheus text form, version 0.0.4.
    pub(crate) fn render(&self) -> String {
        let mut out = String::with_capacity(8 * 1024);
        head(&mut out, "sheaf_build_info", "The version that runs.", "gauge");
        let version = env!("CARGO_PKG_VERSION");
        line(&mut out, format_args!("sheaf_build_info{{version=\"{version}\"}} 1"));
        for family in [&self.commits, &self.mutations, &self.pushes, &self.bytes] {
            family.render(&mut out);
        }
        for family in [&self.http_requests, &self.auth_denied, &self.limits_hit] {
            family.render(&mut out);
        }
        self.store_failures.render(&mut out);
        self.reclaim_passes.render(&mut out);
        self.reclaimed_objects.render(&mut out);
        for counter in [&self.group_batches, &self.pages_served, &self.commits_served] {
            counter.render(&mut out);
        }
        for gauge in [&self.ws_connections, &self.http_connections, &self.sites_active] {
            gauge.render(&mut out);
        }
        for histogram in [&self.commit_duration, &self.pages_duration] {
            histogram.render(&mut out);
        }
        out
    }
}

fn reclaim_passes() -> Family {
    Family::new(
        "sheaf_reclaim_passes_total",
        "Passes that deleted what no kept state needs, by how they ended.",
        "outcome",
        &["done", "cut_short", "failed"],
    )
}

const fn reclaimed_objects() -> Counter {
    Counter::new("sheaf_reclaimed_objects_total", "Objects deleted from the store.")
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("BUG: writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_gauges_and_buckets_add_up() {
        let metrics = Metrics::new();
        metrics.commits.one("committed");
        metrics.commits.add("committed", 2);
        metrics.commits.one("never heard of");
        metrics.commit_duration.observe(Duration::from_micros(700));
        metrics.commit_duration.observe(Duration::from_secs(60));
        let inside = metrics.ws_connections.enter();
        let text = metrics.render();
        for expected in [
            "sheaf_commits_total{outcome=\"committed\"} 3\n",
            "sheaf_commits_total{outcome=\"other\"} 1\n",
            "sheaf_commit_duration_seconds_bucket{le=\"0.0005\"} 0\n",
            "sheaf_commit_duration_seconds_bucket{le=\"0.001\"} 1\n",
            "sheaf_commit_duration_seconds_bucket{le=\"10\"} 1\n",
            "sheaf_commit_duration_seconds_bucket{le=\"+Inf\"} 2\n",
            "sheaf_commit_duration_seconds_sum 60.000700\n",
            "sheaf_ws_connections 1\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        drop(inside);
        assert!(metrics.render().contains("sheaf_ws_connections 0\n"));
    }
}
