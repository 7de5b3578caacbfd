//! The kit of the whole-product tests: it starts the real programs and plays the people around them.
//!
//! Owns: a [`World`] of server, archivist and glasses in folders and on ports of its own; people who speak the real protocol;
//! networks that lose, delay and cut, from a seed. Never: stands in for a part of Lotse.
//! Elsewhere: what is tested (`tests/*.rs`), the browser (`tests/browser`), the footage (`tests/footage`).
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod away;
pub mod call;
pub mod clip;
pub mod disk;
pub mod faults;
pub mod glasses;
pub mod live;
pub mod media;
pub mod network;
pub mod person;
pub mod program;
pub mod recorded;
pub mod world;
pub mod writes;

pub use glasses::Glasses;
pub use person::{Draft, Person, Refusal};
pub use world::World;

use std::time::Duration;

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Asks again until there is an answer; panics with `what` when there is none in time.
pub async fn eventually<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < end, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
