//! What can be wrong with a bundle, said in the reader's language.
//!
//! Owns: the words. Never: finds anything itself (`check`).

use lotse_protocol::{chain::ChainError, id::Digest, policy::Role};

use crate::report::Language;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The file ends early or goes on after its end.
    Length {
        expected: u64,
        found: u64,
    },
    TarHeader,
    TarPadding,
    TarEnd,
    Manifest {
        why: String,
    },
    Signature,
    /// Not the files a bundle has, or in another order.
    FileList {
        expected: String,
    },
    /// Other content than the manifest says.
    FileHash,
    LogLine {
        line: u64,
        why: String,
    },
    Chain(ChainError),
    /// The head does not prove the end of the log.
    HeadWrong {
        why: String,
    },
    HeadSignature,
    /// The log has events after what its head proves.
    Unproven {
        proven: u64,
        events: u64,
    },
    ManifestHead,
    Number,
    KeysUnreadable {
        why: String,
    },
    KeyAbsent,
    NotInLog,
    ItemChanged {
        digest: Digest,
    },
    ItemLength,
    /// The payload of `joined` does not vouch for the case key.
    Vouch,
    /// Nobody with the manifest's key joined as archivist.
    ArchivistUnknown,
    NotAllowed {
        role: Role,
    },
    OtherServer {
        found: Digest,
    },
    GivenHead {
        why: String,
    },
    /// A head somebody kept proves more or other events.
    GivenHeadDisagrees(ChainError),
}

impl Trouble {
    /// A word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Trouble::Length { .. } => "length",
            Trouble::TarHeader => "tar_header",
            Trouble::TarPadding => "tar_padding",
            Trouble::TarEnd => "tar_end",
            Trouble::Manifest { .. } => "manifest",
            Trouble::Signature => "signature",
            Trouble::FileList { .. } => "file_list",
            Trouble::FileHash => "file_hash",
            Trouble::LogLine { .. } => "log_line",
            Trouble::Chain(_) => "chain",
            Trouble::HeadWrong { .. } => "head",
            Trouble::HeadSignature => "head_signature",
            Trouble::Unproven { .. } => "unproven_events",
            Trouble::ManifestHead => "manifest_head",
            Trouble::Number => "number",
            Trouble::KeysUnreadable { .. } => "keys",
            Trouble::KeyAbsent => "key_absent",
            Trouble::NotInLog => "not_in_log",
            Trouble::ItemChanged { .. } => "item_changed",
            Trouble::ItemLength => "item_length",
            Trouble::Vouch => "vouch",
            Trouble::ArchivistUnknown => "archivist_unknown",
            Trouble::NotAllowed { .. } => "not_allowed",
            Trouble::OtherServer { .. } => "other_server",
            Trouble::GivenHead { .. } => "given_head_unreadable",
            Trouble::GivenHeadDisagrees(_) => "given_head",
        }
    }

    pub fn sentence(&self, language: Language) -> String {
        match language {
            Language::En => self.english(),
            Language::De => self.german(),
        }
    }

    fn english(&self) -> String {
        match self {
            Trouble::Length { expected, found } if found < expected => {
                format!("The bundle was cut: {found} bytes instead of {expected}. Fetch it again.")
            }
            Trouble::Length { expected, found } => {
                format!("Something was added at the end: {found} bytes instead of {expected}.")
            }
            Trouble::TarHeader => "The tar header in front of this file was changed.".into(),
            Trouble::TarPadding => "The filling bytes after this file were changed.".into(),
            Trouble::TarEnd => "The end mark of the tar was changed.".into(),
            Trouble::Manifest { why } => format!("The list of files cannot be read: {why}."),
            Trouble::Signature => {
                "The archivist's signature does not match the list of files: one of the two was changed.".into()
            }
            Trouble::FileList { expected } => {
                format!("The list of files is not a bundle's: {expected} was expected here.")
            }
            Trouble::FileHash => "The content is not what the signed list says: it was changed.".into(),
            Trouble::LogLine { line, why } => format!("Line {line} is not an event: {why}."),
            Trouble::Chain(e) => chain_english(e),
            Trouble::HeadWrong { why } => format!("The signed head is wrong: {why}."),
            Trouble::HeadSignature => "The signature of the head is not by the server that opened the case.".into(),
            Trouble::Unproven { proven, events } => {
                format!("The head proves {proven} events, the log has {events}: what follows is not proven.")
            }
            Trouble::ManifestHead => "The list of files names another head than the signed one.".into(),
            Trouble::Number => "The list of files names another case number than the log.".into(),
            Trouble::KeysUnreadable { why } => format!("The item keys cannot be read: {why}."),
            Trouble::KeyAbsent => "The log names an item that the bundle says nothing about: it was left out.".into(),
            Trouble::NotInLog => "No event names this item: it was added.".into(),
            Trouble::ItemChanged { digest } => {
                format!(
                    "Sealed again it is {digest}, not what the log names: content, key or chunk lengths were changed."
                )
            }
            Trouble::ItemLength => "Its length is not the sum of its chunks.".into(),
            Trouble::Vouch => {
                "The device's signature does not vouch for the key that signs this author's events.".into()
            }
            Trouble::ArchivistUnknown => "The key that signed the bundle is not an archivist's of this case.".into(),
            Trouble::NotAllowed { role } => format!("A {} may not write this kind of event.", role_english(*role)),
            Trouble::OtherServer { found } => {
                format!("The case was kept by another server than the one you asked for: its fingerprint is {found}.")
            }
            Trouble::GivenHead { why } => format!("The head you gave cannot be used: {why}."),
            Trouble::GivenHeadDisagrees(e) => format!("The head you gave disagrees with the log. {}", chain_english(e)),
        }
    }

    fn german(&self) -> String {
        match self {
            Trouble::Length { expected, found } if found < expected => {
                format!("Das Bündel ist abgeschnitten: {found} statt {expected} Byte. Bitte neu holen.")
            }
            Trouble::Length { expected, found } => {
                format!("Am Ende wurde etwas angehängt: {found} statt {expected} Byte.")
            }
            Trouble::TarHeader => "Der Tar-Kopf vor dieser Datei wurde verändert.".into(),
            Trouble::TarPadding => "Die Füllbytes nach dieser Datei wurden verändert.".into(),
            Trouble::TarEnd => "Die Endmarke des Tar wurde verändert.".into(),
            Trouble::Manifest { why } => format!("Die Dateiliste ist nicht lesbar: {why}."),
            Trouble::Signature => {
                "Die Unterschrift des Archivars passt nicht zur Dateiliste: eines von beiden wurde verändert.".into()
            }
            Trouble::FileList { expected } => {
                format!("Die Dateiliste ist nicht die eines Bündels: hier wurde {expected} erwartet.")
            }
            Trouble::FileHash => "Der Inhalt ist nicht der der unterschriebenen Liste: er wurde verändert.".into(),
            Trouble::LogLine { line, why } => format!("Zeile {line} ist kein Ereignis: {why}."),
            Trouble::Chain(e) => chain_german(e),
            Trouble::HeadWrong { why } => format!("Der unterschriebene Stand ist falsch: {why}."),
            Trouble::HeadSignature => {
                "Der Stand ist nicht von dem Server unterschrieben, der den Fall eröffnet hat.".into()
            }
            Trouble::Unproven { proven, events } => {
                format!("Der Stand belegt {proven} Ereignisse, das Protokoll hat {events}: der Rest ist unbelegt.")
            }
            Trouble::ManifestHead => "Die Dateiliste nennt einen anderen Stand als den unterschriebenen.".into(),
            Trouble::Number => "Die Dateiliste nennt eine andere Fallnummer als das Protokoll.".into(),
            Trouble::KeysUnreadable { why } => format!("Die Schlüssel der Inhalte sind nicht lesbar: {why}."),
            Trouble::KeyAbsent => {
                "Das Protokoll nennt einen Inhalt, von dem das Bündel schweigt: er wurde weggelassen.".into()
            }
            Trouble::NotInLog => "Kein Ereignis nennt diesen Inhalt: er wurde hinzugefügt.".into(),
            Trouble::ItemChanged { digest } => format!(
                "Neu versiegelt ergibt er {digest}, nicht was das Protokoll nennt: Inhalt, Schlüssel oder Stücklängen wurden verändert."
            ),
            Trouble::ItemLength => "Seine Länge ist nicht die Summe seiner Stücke.".into(),
            Trouble::Vouch => {
                "Die Unterschrift des Geräts bürgt nicht für den Schlüssel, der hier unterschreibt.".into()
            }
            Trouble::ArchivistUnknown => "Das Bündel ist von keinem Archivar dieses Falls unterschrieben.".into(),
            Trouble::NotAllowed { role } => {
                format!("{} darf ein solches Ereignis nicht schreiben.", role_german(*role))
            }
            Trouble::OtherServer { found } => {
                format!("Der Fall lag bei einem anderen Server als dem genannten: sein Fingerabdruck ist {found}.")
            }
            Trouble::GivenHead { why } => format!("Der mitgegebene Stand ist nicht brauchbar: {why}."),
            Trouble::GivenHeadDisagrees(e) => {
                format!("Der mitgegebene Stand widerspricht dem Protokoll. {}", chain_german(e))
            }
        }
    }
}

/// The number of the event a chain error speaks of.
pub fn seq_of(e: &ChainError) -> u64 {
    match e {
        ChainError::Event { seq, .. }
        | ChainError::Seq { seq, .. }
        | ChainError::Prev { seq }
        | ChainError::OtherCase { seq, .. }
        | ChainError::UnknownAuthor { seq }
        | ChainError::Opening { seq }
        | ChainError::ServerOnly { seq, .. }
        | ChainError::OtherRole { seq, .. }
        | ChainError::Replayed { seq, .. }
        | ChainError::IdReused { seq, .. }
        | ChainError::Head { seq }
        | ChainError::Cut { seq, .. } => *seq,
    }
}

fn chain_english(e: &ChainError) -> String {
    let text = e.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}{}", chars.as_str(), if text.ends_with('.') { "" } else { "." })
}

fn chain_german(e: &ChainError) -> String {
    use lotse_protocol::ProtocolError::BadSignature;
    match e {
        ChainError::Event { seq, source: BadSignature } => {
            format!("Ereignis {seq}: die Unterschrift passt nicht zum Schlüssel des Verfassers: es wurde verändert.")
        }
        ChainError::Event { seq, source } => format!("Ereignis {seq} ist nicht lesbar: {source}"),
        ChainError::Seq { seq, found } => {
            format!("Ereignis {seq} trägt die Nummer {found}: eines wurde entfernt, hinzugefügt oder verschoben.")
        }
        ChainError::Prev { seq } => {
            format!("Ereignis {seq} folgt nicht auf das davor: eines von beiden wurde verändert.")
        }
        ChainError::OtherCase { seq, found } => format!("Ereignis {seq} gehört zum Fall {found}."),
        ChainError::UnknownAuthor { seq } => {
            format!("Ereignis {seq}: Verfasser und Gerät wurden nie durch `joined` verbunden.")
        }
        ChainError::Opening { seq } => {
            format!("Ereignis {seq}: ein Fall wird durch sein erstes Ereignis eröffnet und durch kein anderes.")
        }
        ChainError::ServerOnly { seq, kind } => {
            format!("Ereignis {seq}: `{kind}` schreibt nur der Server.")
        }
        ChainError::OtherRole { seq, author } => {
            format!("Ereignis {seq}: {author} trat zuvor in einer anderen Rolle bei.")
        }
        ChainError::Replayed { seq, found, last } => {
            format!("Ereignis {seq}: die Gerätenummer {found} liegt nicht über {last}: eine Wiederholung.")
        }
        ChainError::IdReused { seq, id } => {
            format!("Ereignis {seq}: die Kennung {id} gab es schon.")
        }
        ChainError::Head { seq } => {
            format!("Der Stand nennt Ereignis {seq} mit anderer Prüfsumme: das Protokoll wurde verändert.")
        }
        ChainError::Cut { seq, found } => {
            format!("Das Protokoll endet mit Ereignis {found}, der Stand belegt {seq}: es wurde gekürzt.")
        }
    }
}

fn role_english(role: Role) -> &'static str {
    match role {
        Role::Technician => "technician",
        Role::Expert => "expert",
        Role::Manager => "manager",
        Role::Administrator => "administrator",
        Role::Archivist => "archivist",
        Role::Gateway => "gateway",
        Role::Server => "server",
    }
}

fn role_german(role: Role) -> &'static str {
    match role {
        Role::Technician => "Techniker/in",
        Role::Expert => "Experte/Expertin",
        Role::Manager => "Serviceleitung",
        Role::Administrator => "Verwaltung",
        Role::Archivist => "Archivar",
        Role::Gateway => "Gateway",
        Role::Server => "Server",
    }
}
