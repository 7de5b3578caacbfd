//! The information shown before the first picture or voice: who sees, who keeps, what for, how long, your right.
//!
//! Owns: the words, so that what is logged is what was shown. Never: an answer.

use lotse_payload::consent::NoticeShown;
use lotse_protocol::id::Pseudonym;

use crate::config::Language;

/// Changes with every change of the words below.
pub const TEXT_VERSION: &str = "recording-3";

/// Who the notice names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub watchers: Vec<(Pseudonym, String)>,
    pub archivist: Option<(Pseudonym, String)>,
}

/// One line: what about, the answer, a remark.
pub type Row = (&'static str, String, &'static str);

impl Notice {
    pub fn heading(language: Language) -> &'static str {
        language.t("Gespräch aufnehmen?", "Record this call?")
    }

    /// The first page.
    pub fn rows(&self, l: Language) -> Vec<Row> {
        let watchers: Vec<&str> = self.watchers.iter().map(|w| w.1.as_str()).collect();
        let store = match &self.archivist {
            Some((_, name)) => (
                l.t("Speichert", "Stores"),
                name.clone(),
                l.t("für Ihren Betrieb, als Archivar", "for your company, as archivist"),
            ),
            None => (
                l.t("Speichert", "Stores"),
                l.t("niemand", "nobody").to_owned(),
                l.t("kein Archivar verbunden", "no archivist is connected"),
            ),
        };
        vec![
            (l.t("Sieht zu", "Watches"), watchers.join(", "), l.t("Bild und Stimme", "picture and voice")),
            store,
            (
                l.t("Wofür", "What for"),
                l.t("Nachweis für Service und Garantie", "Proof for service and warranty").into(),
                "",
            ),
            (
                l.t("Wie lange", "How long"),
                // No period is set anywhere yet; a date here would be made up.
                l.t("kein Ende festgelegt", "no end has been set").into(),
                l.t("die Frist bestimmt Ihr Betrieb", "your company decides the period"),
            ),
            (
                l.t("Ihr Recht", "Your right"),
                l.t("AUFNAHME STOPPEN", "STOP RECORDING").into(),
                l.t("jederzeit, wirkt in 2 Sekunden", "any time, works within 2 s"),
            ),
        ]
    }

    /// The remark beside the answers.
    pub fn remark(l: Language) -> &'static str {
        l.t("Auch ohne Aufnahme wird Ihnen genauso geholfen.", "You get the same help without a recording.")
    }

    /// The second page.
    pub fn more(&self, l: Language) -> Vec<&'static str> {
        // What is recorded is told only where something can be.
        let recorded = if self.archivist.is_some() {
            l.t(
                "Aufgenommen werden Bild, alle Stimmen und die Markierungen. Alles liegt verschlüsselt im Fall.",
                "Picture, all voices and the marks are recorded. All of it lies encrypted in the case.",
            )
        } else {
            l.t("Ohne Archivar kann nicht aufgenommen werden.", "Nothing can be recorded without an archivist.")
        };
        vec![
            recorded,
            l.t(
                "Jeder Blick in die Aufnahme wird mit Person, Zeit und Grund vermerkt. Sie können das einsehen.",
                "Every look at the recording is noted with person, time and reason. You may see this.",
            ),
            l.t(
                "Sie können Auskunft, Berichtigung und Löschung verlangen. Fragen Sie Ihren Betrieb.",
                "You may ask for access, correction and erasure. Ask your company.",
            ),
        ]
    }

    /// What is logged: the very words.
    pub fn payload(&self, language: Language) -> NoticeShown {
        let rows = self.rows(language).into_iter().map(|(about, what, small)| {
            if small.is_empty() { format!("{about}: {what}") } else { format!("{about}: {what} ({small})") }
        });
        let text: Vec<String> = [Self::heading(language).to_owned()]
            .into_iter()
            .chain(rows)
            .chain([Self::remark(language).to_owned()])
            .chain(self.more(language).into_iter().map(str::to_owned))
            .collect();
        NoticeShown {
            language: language.code().into(),
            text_version: TEXT_VERSION.into(),
            text: text.join("\n"),
            watchers: self.watchers.iter().map(|w| w.0).collect(),
            archivist: self.archivist.as_ref().map(|a| a.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logged_words_name_everybody_and_the_right() {
        let who = Pseudonym(uuid::Uuid::now_v7());
        let notice =
            Notice { watchers: vec![(who, "Anton Weber".into())], archivist: Some((who, "Archiv Linz".into())) };
        for (language, right) in [(Language::De, "AUFNAHME STOPPEN"), (Language::En, "STOP RECORDING")] {
            let text = notice.payload(language).text;
            for part in ["Anton Weber", "Archiv Linz", right] {
                assert!(text.contains(part), "{text}");
            }
        }
    }
}
