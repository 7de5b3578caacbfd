//! What the WebRTC core lacks: two interceptors, for every end that reads reports or receives pictures, and an estimate of a path for those that send them.
//!
//! Owns: nothing lasting. Never: decides who gets a packet.
//! Elsewhere: retransmission buffers, loss reports and transport feedback are the core's own interceptors.

mod estimate;
mod rtcp_tap;
mod rtx_decap;

use rtc::interceptor::Slot;

pub use estimate::{Estimator, Limits, Path, PathNow};
pub use rtcp_tap::RtcpTap;
pub use rtx_decap::RtxDecap;

/// Where `RtxDecap` belongs: closer to the wire than the NACK generator at 7,000.
pub const RTX_DECAP_SLOT: Slot = Slot::Custom(6_500);
/// Where `RtcpTap` belongs: behind all that reads RTCP.
pub const RTCP_TAP_SLOT: Slot = Slot::Custom(14_000);
