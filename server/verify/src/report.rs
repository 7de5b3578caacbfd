//! What a check found, for people and for machines.
//!
//! Owns: the layout of the report. Elsewhere: the sentences (`trouble`), the finding (`check`).

use std::fmt::Write as _;

use lotse_protocol::id::{CaseId, Digest};
use serde::Serialize;
use serde_json::{Value, json};

use crate::trouble::Trouble;

/// The language of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    En,
    De,
}

/// How far the proof reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything agrees, and the server is the one asked for.
    Authentic,
    /// Everything agrees with itself; whose server it was, nobody said.
    Consistent,
    /// Something was changed, cut or added.
    Changed,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file of the bundle; empty for the bundle as a whole.
    pub file: String,
    pub event: Option<EventNote>,
    pub trouble: Trouble,
}

/// An event as a report names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventNote {
    pub seq: u64,
    /// Empty where it cannot be read.
    pub kind: String,
    pub captured_at_ms: i64,
}

/// Everything a check found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub case: Option<CaseId>,
    pub number: String,
    pub events: u64,
    /// Captured times of the first and the last event, ms.
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
    /// Items compared with the log, and their bytes in clear.
    pub items: u64,
    pub item_bytes: u64,
    /// Items the log names and the bundle does not hold.
    pub absent: Vec<Digest>,
    /// Gaps that the archivist declared, and their lengths together; each picture and voice counts by itself.
    pub gaps: u64,
    pub missing_us: u64,
    pub server: Option<Digest>,
    pub archivist: Option<Digest>,
    /// Was a fingerprint given, and is it the server's?
    pub server_known: bool,
    /// Given heads that agree.
    pub heads: u64,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn verdict(&self) -> Verdict {
        if !self.findings.is_empty() {
            Verdict::Changed
        } else if self.server_known {
            Verdict::Authentic
        } else {
            Verdict::Consistent
        }
    }

    pub fn to_json(&self, language: Language) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|f| {
                json!({
                    "code": f.trouble.code(), "file": f.file, "event": f.event,
                    "message": f.trouble.sentence(language),
                })
            })
            .collect();
        json!({
            "verdict": self.verdict(), "case": self.case, "number": self.number, "events": self.events,
            "from": self.from_ms.map(utc), "to": self.to_ms.map(utc), "items": self.items,
            "item_bytes": self.item_bytes, "absent": self.absent, "gaps": self.gaps, "missing_us": self.missing_us, "server": self.server,
            "archivist": self.archivist, "heads": self.heads, "findings": findings,
        })
    }

    pub fn to_text(&self, language: Language) -> String {
        let say = |en: &'static str, de: &'static str| if language == Language::De { de } else { en };
        let mut out = String::new();
        let verdict = match self.verdict() {
            Verdict::Authentic => say(
                "AUTHENTIC: every byte agrees with the log, and the log is the named server's.",
                "ECHT: jedes Byte stimmt mit dem Protokoll überein, und es ist das des genannten Servers.",
            ),
            Verdict::Consistent => say(
                "CONSISTENT: every byte agrees with the log. Give --org-key, the fingerprint that your server prints when it starts, to check whose log it is.",
                "IN SICH STIMMIG: jedes Byte stimmt mit dem Protokoll überein. Wessen Protokoll es ist, prüft --org-key mit dem Fingerabdruck, den Ihr Server beim Start ausgibt.",
            ),
            Verdict::Changed => say(
                "NOT AS IT SHOULD BE: what is wrong stands below.",
                "NICHT, WIE ES SEIN SOLL: was nicht stimmt, steht unten.",
            ),
        };
        let _ = writeln!(out, "{verdict}\n");
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<12} {value}");
        };
        if let Some(case) = self.case {
            line(say("Case", "Fall"), format!("{} ({case})", self.number));
        }
        if let (Some(from), Some(to)) = (self.from_ms, self.to_ms) {
            line(say("Events", "Ereignisse"), format!("{}, {} … {}", self.events, utc(from), utc(to)));
        }
        line(
            say("Items", "Inhalte"),
            format!("{}, {} {}", self.items, self.item_bytes, say("bytes in clear", "Byte im Klartext")),
        );
        if !self.absent.is_empty() {
            line(say("Absent", "Fehlend"), format!("{}", self.absent.len()));
        }
        if self.gaps > 0 {
            let seconds = self.missing_us as f64 / 1e6;
            let words = say(
                "s of single pictures or voices are declared missing",
                "s einzelner Bilder oder Stimmen fehlen laut Protokoll",
            );
            line(say("Gaps", "Lücken"), format!("{}, {seconds:.1} {words}", self.gaps));
        }
        if let Some(server) = self.server {
            line("Server", server.to_string());
        }
        if let Some(archivist) = self.archivist {
            line(say("Archivist", "Archivar"), archivist.to_string());
        }
        if self.heads > 0 {
            line(say("Heads", "Stände"), format!("{} {}", self.heads, say("agree", "stimmen überein")));
        }
        for finding in &self.findings {
            let file =
                if finding.file.is_empty() { say("the whole bundle", "das ganze Bündel") } else { &finding.file };
            let _ = write!(out, "\n  ✗ {file}");
            if let Some(event) = &finding.event {
                let kind = if event.kind.is_empty() { String::new() } else { format!(" {}", event.kind) };
                let at =
                    if event.captured_at_ms > 0 { format!(", {}", utc(event.captured_at_ms)) } else { String::new() };
                let _ = write!(out, " ({} {}{kind}{at})", say("event", "Ereignis"), event.seq);
            }
            let _ = write!(out, "\n    {}\n", finding.trouble.sentence(language));
        }
        out
    }
}

/// UTC as people and machines read it, to the millisecond.
pub fn utc(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(t) => format!("{t:.3}"),
        Err(_) => format!("{ms} ms"),
    }
}
