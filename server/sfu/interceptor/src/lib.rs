//! What the WebRTC core lacks: interceptors for ends that read reports, receive pictures or repair them, and an estimate of a path for those that send them.
//!
//! Owns: nothing lasting. Never: decides who gets a packet.
//! Elsewhere: retransmission buffers, loss reports and transport feedback are the core's own interceptors.

mod estimate;
mod repair_gate;
mod rtcp_tap;
mod rtx_decap;

use rtc::interceptor::Slot;

pub use estimate::{Estimator, Limits, Path, PathNow};
pub use repair_gate::RepairGate;
pub use rtcp_tap::RtcpTap;
pub use rtx_decap::RtxDecap;

/// Where `RepairGate` belongs: closer to the wire than the NACK responder at 4,000.
pub const REPAIR_GATE_SLOT: Slot = Slot::Custom(3_500);
/// Where `RtxDecap` belongs: closer to the wire than the NACK generator at 7,000.
pub const RTX_DECAP_SLOT: Slot = Slot::Custom(6_500);
/// Where `RtcpTap` belongs: behind all that reads RTCP.
pub const RTCP_TAP_SLOT: Slot = Slot::Custom(14_000);
