//! How often one may fail: logins per user and per address, pairing and device tokens per address.
//!
//! Owns: counters of failures in memory. Only failures count, so an honest user never waits. Plain functions of `now`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures one user name may collect within [`WINDOW`].
pub const PER_USER: u32 = 5;
/// Failures one address may collect within [`WINDOW`]; a whole office may share it.
pub const PER_ADDRESS: u32 = 30;
/// Failures are forgotten this long after the first one.
pub const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Entries kept. When full, those whose window is over go; if none is, new failures of strangers count on their address.
const ENTRIES: usize = 20_000;

/// Whose failures are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    User(String),
    Address(IpAddr),
}

impl Who {
    fn most(&self) -> u32 {
        match self {
            Self::User(_) => PER_USER,
            Self::Address(_) => PER_ADDRESS,
        }
    }
}

/// Failures so far.
#[derive(Default)]
pub struct Limits(Mutex<HashMap<Who, (Instant, u32)>>);

impl Limits {
    /// Seconds to wait, when too many tries failed.
    pub fn wait(&self, who: &Who, now: Instant) -> Option<u64> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = entries.get(who)?;
        let passed = now.saturating_duration_since(*since);
        (*count >= who.most() && passed < WINDOW).then(|| (WINDOW - passed).as_secs() + 1)
    }

    pub fn failed(&self, who: Who, now: Instant) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES {
            entries.retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
            if entries.len() >= ENTRIES && !entries.contains_key(&who) {
                return;
            }
        }
        let entry = entries.entry(who).or_insert((now, 0));
        if now.saturating_duration_since(entry.0) >= WINDOW {
            *entry = (now, 0);
        }
        entry.1 += 1;
    }

    /// A right password clears its user.
    pub fn succeeded(&self, who: &Who) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_lock_a_user_for_five_minutes_and_nobody_else() {
        let (limits, start) = (Limits::default(), Instant::now());
        let (anton, lea) = (Who::User("anton".into()), Who::User("lea".into()));
        for _ in 0..PER_USER {
            assert_eq!(limits.wait(&anton, start), None);
            limits.failed(anton.clone(), start);
        }
        assert!(limits.wait(&anton, start).is_some_and(|s| s <= 301));
        assert_eq!(limits.wait(&lea, start), None);
        assert_eq!(limits.wait(&anton, start + WINDOW), None);
        limits.failed(anton.clone(), start + WINDOW);
        assert_eq!(limits.wait(&anton, start + WINDOW), None, "counting starts again");
    }

    #[test]
    fn success_forgets_the_failures_of_its_user() {
        let (limits, now) = (Limits::default(), Instant::now());
        let who = Who::User("anton".into());
        (0..PER_USER).for_each(|_| limits.failed(who.clone(), now));
        limits.succeeded(&who);
        assert_eq!(limits.wait(&who, now), None);
    }
}
