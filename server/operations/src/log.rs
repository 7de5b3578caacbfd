//! Log lines that nobody outside can flood: each kind is told at most once a second, and how often it happened in between.
//!
//! Owns: starting the log of a program, and the limit. A kind is a place in the code; lines at `debug` and `trace`, which somebody
//! asked for, are not limited. Never: loses a count: what was held back is told within a second by a thread of its own.
//! Elsewhere: what is worth a line (each module). Media trouble is counted by the worker itself and comes here once a second.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// Of one kind, once in this time.
const EVERY: Duration = Duration::from_secs(1);
/// The lines that say how often; they are never held back themselves.
const AGAIN: &str = "lotse_operations::again";
/// Kinds remembered. They are places in code, and of other people's code some hundred; above this the oldest start anew.
const KINDS: usize = 2_000;
/// A held-back line is kept up to this length, bytes.
const TEXT: usize = 1_000;

/// Starts the program's log on stderr. `filter` says what is logged at all.
pub fn start(filter: EnvFilter) {
    let limit = Limit::default();
    let teller = limit.clone();
    // Without the thread lines are still limited; only the counts of the last second are missing.
    let _ = std::thread::Builder::new().name("log".into()).spawn(move || {
        loop {
            std::thread::sleep(EVERY);
            teller.tell(Instant::now());
        }
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    tracing_subscriber::registry().with(filter).with(limit).with(lines).init();
}

/// Kinds of the `log` crate share their place in the code; their own target tells them apart.
type Kind = (Identifier, String);

struct Seen {
    told: Instant,
    more: u64,
    last: String,
    level: Level,
}

#[derive(Clone, Default)]
struct Limit(Arc<Mutex<HashMap<Kind, Seen>>>);

/// What is held back of one kind.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    level: Level,
    more: u64,
    last: String,
}

impl Limit {
    /// May this line be told now? If not, it is counted.
    fn admit(&self, kind: Kind, level: Level, text: String, now: Instant) -> bool {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS && !kinds.contains_key(&kind) {
            kinds.retain(|_, seen| seen.more > 0 || now.saturating_duration_since(seen.told) < EVERY);
        }
        match kinds.get_mut(&kind) {
            Some(seen) if seen.more > 0 || now.saturating_duration_since(seen.told) < EVERY => {
                seen.more += 1;
                seen.last = text;
                false
            }
            _ => {
                kinds.insert(kind, Seen { told: now, more: 0, last: String::new(), level });
                true
            }
        }
    }

    /// Everything held back for a second.
    fn take(&self, now: Instant) -> Vec<Held> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = kinds.values_mut().filter(|s| s.more > 0 && now.saturating_duration_since(s.told) >= EVERY);
        due.map(|seen| {
            seen.told = now;
            Held { level: seen.level, more: std::mem::take(&mut seen.more), last: std::mem::take(&mut seen.last) }
        })
        .collect()
    }

    fn tell(&self, now: Instant) {
        // The lock is free again: telling comes back to `event_enabled`.
        for Held { level, more, last } in self.take(now) {
            match level {
                Level::ERROR => tracing::error!(target: AGAIN, times = more, "{last}"),
                Level::WARN => tracing::warn!(target: AGAIN, times = more, "{last}"),
                _ => tracing::info!(target: AGAIN, times = more, "{last}"),
            }
        }
    }
}

/// A layer for all lines, not a filter of one layer: those forget nothing of an event that is refused, and take the next for it.
impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let level = *metadata.level();
        if metadata.target() == AGAIN || level > Level::INFO {
            return true;
        }
        metrics::counter!("lotse_log_lines_total", "level" => word(level)).increment(1);
        let mut text = Text::default();
        event.record(&mut text);
        self.admit((metadata.callsite(), text.target), level, text.line, Instant::now())
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        _ => "info",
    }
}

/// The words of a line, and the target that a record of the `log` crate carries as a field.
#[derive(Default)]
struct Text {
    line: String,
    target: String,
}

impl Text {
    fn add(&mut self, name: &str, value: fmt::Arguments<'_>) {
        if self.line.len() >= TEXT {
            return;
        }
        // Writing into a string cannot fail.
        let _ = match name {
            "message" => write!(self.line, "{value}"),
            _ => write!(self.line, " {name}={value}"),
        };
        if self.line.len() > TEXT {
            let end = (0..=TEXT).rev().find(|at| self.line.is_char_boundary(*at)).unwrap_or(0);
            self.line.truncate(end);
        }
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "log.target" => self.target = value.to_owned(),
            name if name.starts_with("log.") => {}
            name => self.add(name, format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !field.name().starts_with("log.") {
            self.add(field.name(), format_args!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_of_one_kind_are_one_line_and_a_count_and_hold_back_nobody_else() {
        struct Here;
        impl tracing::Callsite for Here {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("only its identity counts")
            }
        }
        static HERE: Here = Here;
        let kind = |name: &str| (Identifier(&HERE), name.to_owned());
        let (limit, start) = (Limit::default(), Instant::now());
        let told =
            (0..10_000).filter(|n| limit.admit(kind("a"), Level::WARN, format!("bad request {n}"), start)).count();
        assert_eq!(told, 1);
        assert!(limit.admit(kind("b"), Level::ERROR, "another".into(), start));
        assert_eq!(limit.take(start), [], "not before the second is over");
        let later = start + EVERY;
        assert!(!limit.admit(kind("a"), Level::WARN, "bad request".into(), later), "the count comes first");
        let held = Held { level: Level::WARN, more: 10_000, last: "bad request".into() };
        assert_eq!(limit.take(later), [held]);
        assert_eq!(limit.take(later + EVERY), []);
        assert!(limit.admit(kind("a"), Level::WARN, "new".into(), later + EVERY));
    }
}
