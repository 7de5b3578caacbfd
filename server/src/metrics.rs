//! The server's figures for Prometheus: what they are called, and what is looked at rather than counted.
//!
//! Owns: names and descriptions of all of them; docs/OPERATIONS.md lists them, and a test holds both against what is exported.
//! Never: a label that names a person, a device or a case. Elsewhere: counting, beside its subject; the listener (`lotse_operations`).

use std::{net::SocketAddr, sync::Arc};

use lotse_operations::metrics::Figures;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::{app::App, error::Error, refusal::Code};

/// Answers under the address of the settings, if there is one.
pub async fn serve(figures: Option<Figures>, app: Arc<App>) -> Result<Option<SocketAddr>, Error> {
    let Some(figures) = figures else { return Ok(None) };
    describe();
    let look = Arc::new(move || look(&app));
    Ok(Some(figures.serve("lotse-server", env!("CARGO_PKG_VERSION"), look).await?))
}

fn describe() {
    describe_counter!("lotse_media_packets_total", "Datagrams of media, by direction.");
    describe_counter!("lotse_media_bytes_total", "Bytes of media, by direction.");
    describe_counter!(
        "lotse_media_dropped_packets_total",
        "in: datagrams of nobody, or not valid; out: datagrams the socket did not take."
    );
    describe_counter!("lotse_media_worker_cpu_seconds_total", "Time of a media worker's thread on a processor.");
    describe_gauge!("lotse_media_legs", "WebRTC connections.");
    describe_gauge!("lotse_sockets", "Live sockets.");
    describe_gauge!("lotse_sessions", "Open sessions.");
    describe_gauge!("lotse_calls_waiting", "Calls that nobody has taken.");
    describe_gauge!("lotse_archivists", "Connected archivists. 0: nothing is recorded.");
    describe_gauge!("lotse_log_queue_requests", "Requests that wait for the log; 1,024 fit.");
    describe_gauge!("lotse_hub_queue_messages", "Messages that wait for the hub; 1,024 fit.");
    describe_histogram!("lotse_log_commit_seconds", "From taking a batch to its being durable.");
    describe_counter!("lotse_log_events_total", "Events made durable.");
    describe_counter!(
        "lotse_log_failures_total",
        "Batches of which nothing was stored: full or failing disk, locked database."
    );
    describe_counter!(
        "lotse_refusals_total",
        "Requests and commands refused, by the code that docs/PROTOCOL.md lists."
    );
    describe_counter!("lotse_logins_refused_total", "wrong: user or password; too_many_tries: not even looked at.");
    // What has not happened yet is 0, not absent: an alert on an increase needs the first one too.
    for why in ["wrong", "too_many_tries"] {
        counter!("lotse_logins_refused_total", "why" => why).increment(0);
    }
    for code in Code::ALL {
        counter!("lotse_refusals_total", "code" => code.word()).increment(0);
    }
    for name in ["lotse_log_events_total", "lotse_log_failures_total"] {
        counter!(name).increment(0);
    }
}

fn look(app: &App) {
    let sums = app.sfu.counters();
    for (direction, packets, bytes, drops) in [
        ("in", sums.packets_in, sums.bytes_in, sums.drops_in),
        ("out", sums.packets_out, sums.bytes_out, sums.drops_out),
    ] {
        counter!("lotse_media_packets_total", "direction" => direction).absolute(packets);
        counter!("lotse_media_bytes_total", "direction" => direction).absolute(bytes);
        counter!("lotse_media_dropped_packets_total", "direction" => direction).absolute(drops);
    }
    for (n, us) in sums.cpu_us.iter().enumerate() {
        // The exporter counts in whole numbers.
        counter!("lotse_media_worker_cpu_seconds_total", "worker" => n.to_string()).absolute(us / 1_000_000);
    }
    gauge!("lotse_media_legs").set(sums.legs as f64);
    gauge!("lotse_log_queue_requests").set(app.log.waiting() as f64);
    gauge!("lotse_hub_queue_messages").set(app.hub.waiting() as f64);
    lotse_operations::metrics::disk(&app.config.data.dir);
}
