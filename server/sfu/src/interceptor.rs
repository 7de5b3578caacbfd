//! Which interceptors a leg has.
//!
//! Owns: the choice and its settings. Never: decides who gets a packet.
//! Elsewhere: the two that are ours (`lotse-interceptor`), the others (the WebRTC core). Nothing here for sending: forwarded
//! packets do not pass the core (`srtp`), repeats come from `history`, and our reports carry the publisher's clock (`subscriber`).

use std::time::Duration;

use lotse_interceptor::{RTCP_TAP_SLOT, RTX_DECAP_SLOT, RtcpTap, RtxDecap};
use rtc::interceptor::{NackGeneratorBuilder, ReceiverReportBuilder, Registry, Slot, TwccReceiverBuilder};

/// How often a missing packet is asked for again; below the frame time, so that a hole closes within one.
const NACK_INTERVAL: Duration = Duration::from_millis(20);
/// A packet asked for this often is gone.
const NACK_TRIES: u16 = 10;

/// The interceptors of a leg. Timers of the receiving side run only on legs that send us pictures or voices.
pub(crate) fn registry(publishes_video: bool, publishes: bool) -> Registry {
    let mut registry = Registry::new().with(RTCP_TAP_SLOT, RtcpTap::default());
    if publishes_video {
        registry = registry.with(RTX_DECAP_SLOT, RtxDecap::default()).with(
            Slot::NackGenerator,
            NackGeneratorBuilder::new().with_interval(NACK_INTERVAL).with_max_nacks_per_packet(NACK_TRIES).build(),
        );
    }
    if publishes {
        registry = registry
            .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
            .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build());
    }
    registry
}
