//! The archivist's figures for Prometheus: what they are called, and what each says.
//!
//! Owns: names and descriptions of all of them; docs/OPERATIONS.md lists them, and a test holds both against what is exported.
//! Never: a label that names a person, a device or a case. Elsewhere: the listener (`lotse_operations`).

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use lotse_operations::metrics::Figures;
use lotse_payload::recording::{GapPayload, GapWhy, SegmentPayload};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{archivist::Trouble, error::Result};

/// Answers under the address of the settings, if there is one.
pub async fn serve(figures: Option<Figures>, data: PathBuf, trouble: Trouble) -> Result<Option<SocketAddr>> {
    let Some(figures) = figures else { return Ok(None) };
    describe();
    let look = Arc::new(move || {
        let refuses = !trouble.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        gauge!("lotse_archivist_disk_trouble").set(f64::from(u8::from(refuses)));
        lotse_operations::metrics::disk(&data);
    });
    Ok(Some(figures.serve("lotse-archivist", env!("CARGO_PKG_VERSION"), look).await?))
}

fn describe() {
    describe_counter!("lotse_archivist_fragments_total", "Recorded fragments.");
    describe_counter!("lotse_archivist_fragment_bytes_total", "Sealed bytes of recorded fragments.");
    describe_histogram!(
        "lotse_archivist_fragment_lag_seconds",
        "From a fragment's last media to its being handed to the log."
    );
    describe_counter!("lotse_archivist_gaps_total", "Declared gaps, by reason.");
    describe_counter!("lotse_archivist_dropped_packets_total", "Packets not recorded because the disk was too slow.");
    describe_gauge!("lotse_archivist_recordings", "Sessions this archivist takes part in.");
    describe_gauge!("lotse_archivist_events_waiting", "Events that the server has not acknowledged.");
    describe_gauge!("lotse_archivist_linked", "1 while there is a link to the server.");
    describe_gauge!("lotse_archivist_disk_trouble", "1 while the disk refuses and nothing is recorded.");
    // What has not happened yet is 0, not absent: an alert on an increase needs the first one too.
    let plain = [
        "lotse_archivist_fragments_total",
        "lotse_archivist_fragment_bytes_total",
        "lotse_archivist_dropped_packets_total",
    ];
    for name in plain {
        counter!(name).increment(0);
    }
    for why in [GapWhy::LinkLost, GapWhy::ArchivistDown, GapWhy::PacketsLost, GapWhy::Disk] {
        counter!("lotse_archivist_gaps_total", "why" => word(why)).increment(0);
    }
}

/// A fragment is finished.
pub fn segment(payload: &SegmentPayload, now_us: i64) {
    counter!("lotse_archivist_fragments_total").increment(1);
    counter!("lotse_archivist_fragment_bytes_total").increment(payload.size);
    histogram!("lotse_archivist_fragment_lag_seconds").record((now_us - payload.end_us).max(0) as f64 / 1e6);
}

pub fn gap(gap: &GapPayload) {
    counter!("lotse_archivist_gaps_total", "why" => word(gap.why)).increment(1);
}

/// How it stands now.
pub fn state(linked: bool, recordings: usize, waiting: usize) {
    gauge!("lotse_archivist_linked").set(f64::from(u8::from(linked)));
    gauge!("lotse_archivist_recordings").set(recordings as f64);
    gauge!("lotse_archivist_events_waiting").set(waiting as f64);
}

fn word(why: GapWhy) -> &'static str {
    match why {
        GapWhy::LinkLost => "link_lost",
        GapWhy::ArchivistDown => "archivist_down",
        GapWhy::PacketsLost => "packets_lost",
        GapWhy::Disk => "disk",
    }
}
