//! Figures for Prometheus: a listener of its own that answers `GET /metrics` in the text format.
//!
//! Owns: the recorder behind the `metrics` macros, the listener, and what every program tells about itself.
//! Never: a label that names a person, a device or a case (a test reads every label). Without an address nothing is recorded.
//! Elsewhere: what the programs count (each beside its subject), what it means (docs/OPERATIONS.md).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::Error;

/// Seconds; for what waits on a disk: from a fast SSD to a disk in trouble.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Seconds; for what may take as long as a fragment lasts.
const LAG_SECONDS: [f64; 8] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Histograms that belong to the second row end so.
const LAG: &str = "_lag_seconds";
/// Between two tidyings of what histograms gather while nobody asks.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Called before each answer: writes down what is only looked at, not counted.
pub type Look = Arc<dyn Fn() + Send + Sync>;

/// Starts to count; nothing is counted before. `None`: the address is empty and nothing ever will be.
pub fn start(listen: &str) -> Result<Option<Figures>, Error> {
    let Some(address) = address(listen)? else { return Ok(None) };
    let build = |e: &dyn std::fmt::Display| Error::new(format!("metrics cannot be counted: {e}"), "Report this.");
    let recorder = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix(LAG.into()), &LAG_SECONDS))
        .map_err(|e| build(&e))?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|e| build(&e))?;
    Ok(Some(Figures { address, handle }))
}

/// An address on this machine; empty: none. Figures travel without TLS and without a password.
pub fn address(listen: &str) -> Result<Option<SocketAddr>, Error> {
    if listen.is_empty() {
        return Ok(None);
    }
    let remedy = "Write an address on this machine such as 127.0.0.1:9464, or leave it empty for none.";
    let address: SocketAddr = listen
        .parse()
        .map_err(|_| Error::new(format!("metrics.listen = {listen}: is not an address with a port"), remedy))?;
    if !address.ip().is_loopback() {
        return Err(Error::new(format!("metrics.listen = {listen}: others could read this without TLS"), remedy));
    }
    Ok(Some(address))
}

/// What is counted, and where it will be told.
pub struct Figures {
    address: SocketAddr,
    handle: PrometheusHandle,
}

struct Service {
    handle: PrometheusHandle,
    look: Look,
}

impl Figures {
    /// Listens, and answers until the program ends. Returns the address.
    pub async fn serve(self, program: &'static str, version: &'static str, look: Look) -> Result<SocketAddr, Error> {
        let listener = TcpListener::bind(self.address).await.map_err(|e| {
            Error::new(
                format!("metrics.listen = {}: cannot listen: {e}", self.address),
                "Choose a free port in metrics.listen (LOTSE_METRICS_LISTEN), or leave it empty.",
            )
        })?;
        let address = listener.local_addr().map_err(|e| Error::new(e, "Report this."))?;
        describe_process();
        gauge!("lotse_build_info", "program" => program, "version" => version).set(1.0);
        let tidied = self.handle.clone();
        tokio::spawn(async move {
            let mut every = tokio::time::interval(TIDY_EVERY);
            loop {
                every.tick().await;
                tidied.run_upkeep();
            }
        });
        let service = Arc::new(Service { handle: self.handle, look });
        let routes = Router::new().route("/metrics", get(tell)).with_state(service);
        tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, routes).await {
                tracing::error!("no more metrics: {e}");
            }
        });
        Ok(address)
    }
}

async fn tell(State(service): State<Arc<Service>>) -> impl IntoResponse {
    process();
    (service.look)();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], service.handle.render())
}

fn describe_process() {
    describe_gauge!("lotse_build_info", "Which program in which version this is; always 1.");
    describe_counter!("process_cpu_seconds_total", "Time on a processor, user and system.");
    describe_gauge!("process_resident_memory_bytes", "Memory the program holds.");
    describe_gauge!("process_open_fds", "Open files and sockets.");
    describe_counter!("lotse_log_lines_total", "Lines of the log by level, with those that were only counted.");
    for level in ["error", "warn", "info"] {
        counter!("lotse_log_lines_total", "level" => level).increment(0);
    }
    describe_gauge!("lotse_data_free_bytes", "Free space on the disk of the data folder.");
    describe_gauge!("lotse_data_disk_bytes", "Size of the disk of the data folder.");
}

/// By proc(5) and getrusage(2); what cannot be read is left out.
fn process() {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for the answer.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } == 0 {
        // SAFETY: the call succeeded, so all fields were written.
        let usage = unsafe { usage.assume_init() };
        let seconds = |t: libc::timeval| t.tv_sec as u64;
        // The exporter counts in whole numbers.
        counter!("process_cpu_seconds_total").absolute(seconds(usage.ru_utime) + seconds(usage.ru_stime));
    }
    // SAFETY: sysconf only reads.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64;
    if let Some(pages) =
        std::fs::read_to_string("/proc/self/statm").ok().and_then(|s| s.split(' ').nth(1)?.parse::<f64>().ok())
    {
        gauge!("process_resident_memory_bytes").set(pages * page);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(entries.count() as f64);
    }
}

/// Free and whole space of the disk that the data folder lies on.
pub fn disk(folder: &std::path::Path) {
    if let Ok(space) = crate::disk::space(folder) {
        gauge!("lotse_data_free_bytes").set(space.free as f64);
        gauge!("lotse_data_disk_bytes").set(space.total as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_taken() {
        assert_eq!(address("").unwrap(), None);
        assert_eq!(address("[::1]:0").unwrap(), Some("[::1]:0".parse().unwrap()));
        for (wrong, word) in [("0.0.0.0:9464", "TLS"), ("here", "not an address"), ("127.0.0.1", "not an address")] {
            let said = address(wrong).unwrap_err().to_string();
            assert!(said.contains(word) && said.contains("127.0.0.1:9464"), "{said}");
        }
    }
}
