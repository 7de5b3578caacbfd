//! Every reason for which a caller is turned away: its code, its HTTP status, and the sentence in English and German.
//!
//! Owns: the table of codes that docs/PROTOCOL.md promises. Each sentence ends with what to do next.
//! Never: says why *we* failed (`error`), or whether something exists that the caller may not see.

use axum::http::StatusCode;
use lotse_protocol::error::ApiError;

/// The languages people are answered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    #[default]
    En,
    De,
}

impl Language {
    /// From "de", "de-AT,en;q=0.8" and the like. German only where it is asked for first.
    pub fn of(text: &str) -> Self {
        if text.trim_start().to_ascii_lowercase().starts_with("de") { Self::De } else { Self::En }
    }
}

macro_rules! codes {
    ($($name:ident $status:literal $code:literal $en:literal $de:literal;)*) => {
        /// Why a caller is turned away.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($name),* }

        impl Code {
            /// All of them, for tests and documentation.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// HTTP status, stable code, English, German.
            fn row(self) -> (u16, &'static str, &'static str, &'static str) {
                match self { $(Code::$name => ($status, $code, $en, $de)),* }
            }
        }
    };
}

codes! {
    Malformed 400 "malformed"
        "This message cannot be read: {}. Send it as docs/PROTOCOL.md describes."
        "Diese Nachricht ist nicht lesbar: {}. Bitte so senden, wie docs/PROTOCOL.md es beschreibt.";
    HelloFirst 400 "hello_first"
        "The first message on a live socket is `hello`. Send it, then the rest."
        "Die erste Nachricht auf einer Live-Verbindung ist `hello`. Bitte zuerst senden.";
    TooLarge 413 "too_large"
        "This is larger than the limit of {} bytes. Send it in smaller parts, or upload it as an item."
        "Das ist größer als die Grenze von {} Bytes. Bitte in kleineren Teilen senden oder als Datei hochladen.";
    NotLoggedIn 401 "not_logged_in"
        "Nobody is logged in here. Log in and try again."
        "Hier ist niemand angemeldet. Bitte anmelden und noch einmal versuchen.";
    WrongLogin 401 "wrong_login"
        "User and password do not match. Check both; your administrator can set a new password."
        "Benutzer und Passwort passen nicht zusammen. Bitte beides prüfen; ein neues Passwort vergibt die Administration.";
    TooManyTries 429 "too_many_tries"
        "Too many failed tries. Wait {} seconds, then try again."
        "Zu viele Fehlversuche. Bitte {} Sekunden warten und dann noch einmal versuchen.";
    WrongOrigin 403 "wrong_origin"
        "This request comes from another site. Open the page under this server's own address and try again."
        "Diese Anfrage kommt von einer anderen Seite. Bitte die Seite unter der Adresse dieses Servers öffnen.";
    WrongHost 421 "wrong_host"
        "This server is not known under that name. Use its address, or have `http.public_url` set."
        "Dieser Server ist unter diesem Namen nicht bekannt. Bitte seine Adresse verwenden oder `http.public_url` setzen.";
    StaleToken 401 "stale_token"
        "This device token is unknown or older than 15 minutes. Ask for a challenge and fetch a new one."
        "Dieses Gerätetoken ist unbekannt oder älter als 15 Minuten. Bitte eine Aufgabe holen und ein neues beziehen.";
    BadPairing 403 "bad_pairing_code"
        "This pairing code is wrong, used or too old. Ask your administrator for a new one."
        "Dieser Kopplungscode ist falsch, verbraucht oder zu alt. Einen neuen gibt die Administration aus.";
    Forbidden 403 "forbidden"
        "Your role does not allow this here. Ask somebody who takes part in the case."
        "Diese Rolle darf das hier nicht. Bitte jemanden fragen, der am Fall beteiligt ist.";
    NoSuchCase 404 "no_such_case"
        "There is no such case, or it is not yours to see. Choose one from the list."
        "Diesen Fall gibt es nicht, oder er ist nicht sichtbar. Bitte einen aus der Liste wählen.";
    NoSuchItem 404 "no_such_item"
        "This item is not stored here. Check its digest, or upload it first."
        "Dieses Element liegt hier nicht. Bitte den Digest prüfen oder es zuerst hochladen.";
    NoSuchPath 404 "no_such_path"
        "There is nothing under this address. docs/PROTOCOL.md lists the requests."
        "Unter dieser Adresse gibt es nichts. docs/PROTOCOL.md nennt die Anfragen.";
    NoSuchRegister 400 "no_such_register"
        "This customer, site or asset is not in the register. Use an id from /api/v1/registers."
        "Dieser Kunde, Standort oder diese Anlage steht nicht im Verzeichnis. Bitte eine Kennung aus /api/v1/registers verwenden.";
    DigestMismatch 409 "digest_mismatch"
        "The bytes do not have the digest they were announced with. Send them again."
        "Die Bytes haben nicht den angekündigten Digest. Bitte noch einmal senden.";
    NotOpen 409 "case_not_open"
        "This case is not open on this connection. Send `open_case` first."
        "Dieser Fall ist auf dieser Verbindung nicht geöffnet. Bitte zuerst `open_case` senden.";
    IdReused 409 "id_reused"
        "This event id was used for other content. Give the event a new id."
        "Diese Ereigniskennung wurde schon für anderen Inhalt verwendet. Bitte eine neue vergeben.";
    StaleDeviceSeq 409 "stale_device_seq"
        "This device number was already used. Sign again with a number above {}."
        "Diese Gerätenummer ist schon verbraucht. Bitte mit einer Nummer über {} neu unterschreiben.";
    UnknownAuthor 409 "unknown_author"
        "Author and device are not bound to this case. Commit `joined` first, with this device's own key."
        "Autor und Gerät sind nicht an diesen Fall gebunden. Bitte zuerst `joined` mit dem Schlüssel dieses Geräts senden.";
    BadSignature 403 "bad_signature"
        "The signature does not fit the author bytes. Sign exactly the bytes that are sent, with the case key."
        "Die Unterschrift passt nicht zu den Autorbytes. Bitte genau die gesendeten Bytes mit dem Fallschlüssel unterschreiben.";
    MissingItem 409 "missing_item"
        "The item {} is neither in this message nor stored here. Upload it, then send the event again."
        "Das Element {} ist weder in dieser Nachricht noch hier gespeichert. Bitte hochladen und das Ereignis erneut senden.";
    MissingKey 400 "missing_key"
        "There is no key for the item {}. Send one key for every digest the event names."
        "Für das Element {} fehlt der Schlüssel. Bitte je genanntem Digest einen Schlüssel senden.";
    WrongKey 400 "wrong_key"
        "The key sent for the item {} is another item's. Send the key it was sealed with."
        "Der Schlüssel für das Element {} gehört zu einem anderen. Bitte den senden, mit dem es versiegelt wurde.";
    CoarseTime 400 "coarse_time"
        "The clear time of a receipt is a whole minute. Put the exact time into its payload."
        "Die offene Zeit einer Quittung ist eine volle Minute. Die genaue Zeit gehört in ihren Inhalt.";
    SessionOpen 409 "session_open"
        "This case already has an open session. Join that one."
        "In diesem Fall läuft schon eine Sitzung. Bitte dieser beitreten.";
    NoSuchSession 409 "no_such_session"
        "This session is unknown in this case. Take the session id from the log."
        "Diese Sitzung ist in diesem Fall unbekannt. Bitte die Kennung aus dem Protokoll nehmen.";
    SessionEnded 409 "session_ended"
        "This session is over. Call again to start a new one."
        "Diese Sitzung ist beendet. Ein neuer Anruf beginnt eine neue.";
    NotPresent 409 "not_present"
        "You are not present in this session. Enter it first with `session.joined`."
        "Du bist in dieser Sitzung nicht anwesend. Bitte zuerst mit `session.joined` beitreten.";
    NotRecording 409 "not_recording"
        "Not everybody present agreed to a recording, so no picture is kept. Send it with `relay` instead."
        "Nicht alle Anwesenden haben einer Aufzeichnung zugestimmt, daher wird kein Bild behalten. Bitte mit `relay` senden.";
    BadFingerprint 403 "bad_fingerprint"
        "The answer's DTLS fingerprint is not signed by this device. Sign it as `fingerprint_text` says."
        "Der DTLS-Fingerabdruck der Antwort ist nicht von diesem Gerät unterschrieben. Bitte wie `fingerprint_text` unterschreiben.";
    MediaRefused 409 "media_refused"
        "The media connection was refused: {}. Send `rtc_join` again."
        "Die Medienverbindung wurde abgelehnt: {}. Bitte noch einmal `rtc_join` senden.";
    ArchiveDown 503 "archive_down"
        "The archivist does not answer. Start lotse-archivist, or check `archive.url`, then try again."
        "Der Archivar antwortet nicht. Bitte lotse-archivist starten oder `archive.url` prüfen und noch einmal versuchen.";
    BadGatewayToken 401 "bad_gateway_token"
        "This token is unknown, has ended or was revoked. Ask your administrator for a new one (lotse-server admin issue-token)."
        "Dieses Token ist unbekannt, abgelaufen oder widerrufen. Ein neues vergibt die Administration (lotse-server admin issue-token).";
    OtherWay 403 "other_way"
        "This address is for a gateway's token of the other kind. Publish at /whip, watch at /whep, each with its own token."
        "Diese Adresse ist für ein Gateway-Token der anderen Art. Senden an /whip, zusehen an /whep, jeweils mit eigenem Token.";
    NoOpenSession 409 "no_open_session"
        "Nobody is calling in this case. Wait until the technician calls, then send the offer again."
        "In diesem Fall läuft kein Anruf. Bitte warten, bis die Technikerin anruft, und das Angebot dann erneut senden.";
    BadOffer 400 "bad_offer"
        "The SDP offer cannot be read: {} See docs/PROTOCOL.md."
        "Das SDP-Angebot ist nicht lesbar: {} Näheres in docs/PROTOCOL.md.";
    OfferRefused 406 "offer_refused"
        "The SDP offer cannot be taken: {} See docs/PROTOCOL.md."
        "Das SDP-Angebot kann nicht angenommen werden: {} Näheres in docs/PROTOCOL.md.";
    NotSdp 415 "not_sdp"
        "This address takes an SDP offer. Send it with Content-Type: application/sdp."
        "Diese Adresse nimmt ein SDP-Angebot. Bitte mit Content-Type: application/sdp senden.";
    NoSuchResource 404 "no_such_resource"
        "This connection has ended already, or never was. Nothing more is to be done."
        "Diese Verbindung ist schon beendet oder gab es nie. Es ist nichts weiter zu tun.";
    NoTrickle 501 "no_trickle"
        "Candidates are not taken one by one and ICE is not restarted here. Go on with the answer you have, or begin anew with POST."
        "Kandidaten werden hier nicht einzeln angenommen, ICE wird nicht neu gestartet. Bitte mit der Antwort weitermachen oder mit POST neu beginnen.";
    WrongMethod 405 "wrong_method"
        "This address does not know this method. POST an offer, DELETE what came of it."
        "Diese Adresse kennt diese Methode nicht. Bitte ein Angebot mit POST senden, mit DELETE beenden.";
    Storage 503 "storage"
        "The server could not store it and nothing was kept. Try again in a moment; if it stays, ask your administrator to free space on its disk."
        "Der Server konnte es nicht speichern, nichts wurde behalten. Bitte gleich noch einmal versuchen; bleibt es so, muss die Administration auf seiner Platte Platz schaffen.";
    ServerStops 503 "server_stops"
        "The server is stopping, to be restarted or updated. Nothing is lost; the page connects again by itself."
        "Der Server hält an, für einen Neustart oder ein Update. Nichts geht verloren; die Seite verbindet sich von selbst wieder.";
    TooManyOpen 429 "too_many_open"
        "More than {} cases cannot be open on one connection. Close one, then open this one."
        "Mehr als {} Fälle können auf einer Verbindung nicht offen sein. Bitte einen schließen, dann diesen öffnen.";
    Busy 503 "busy"
        "The server has more to do than it can hold. Try again in a few seconds."
        "Der Server hat gerade zu viel zu tun. Bitte in ein paar Sekunden noch einmal versuchen.";
    Broken 500 "broken"
        "Something broke on our side. Try again; give the support id to your administrator if it stays."
        "Bei uns ist etwas schiefgegangen. Bitte noch einmal versuchen; bleibt es so, hilft die Administration mit der Kennung.";
}

impl Code {
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn word(self) -> &'static str {
        self.row().1
    }
}

/// One refusal: the code, what fills the gap in its sentence, and the number a device must go above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub detail: String,
    pub last_device_seq: Option<u64>,
}

impl Refusal {
    /// A refusal whose sentence has a gap, filled by `detail`.
    pub fn with(code: Code, detail: impl ToString) -> Self {
        Self { code, detail: detail.to_string(), last_device_seq: None }
    }

    /// The sentence in `language`.
    pub fn sentence(&self, language: Language) -> String {
        let (_, _, en, de) = self.code.row();
        let text = if language == Language::De { de } else { en };
        text.replace("{}", &self.detail)
    }

    /// What travels, with a fresh support id.
    pub fn api_error(&self, language: Language) -> ApiError {
        ApiError { code: self.code.word().into(), message: self.sentence(language), request_id: request_id() }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::with(code, "")
    }
}

/// Four hex digits that a person can read out on the telephone.
pub fn request_id() -> String {
    let mut bytes = [0u8; 2];
    // Without randomness the id is 0000; nothing depends on it being unique.
    let _ = getrandom::fill(&mut bytes);
    format!("{:02x}{:02x}", bytes[0], bytes[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_has_two_sentences_with_the_same_gap() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            let (status, word, en, de) = code.row();
            assert!(seen.insert(word), "{word} twice");
            assert!((400..600).contains(&status));
            assert!(en.ends_with('.') && de.ends_with('.'), "{word}");
            assert_eq!(en.contains("{}"), de.contains("{}"), "{word}");
            assert_ne!(en, de);
        }
    }

    #[test]
    fn the_protocol_page_names_every_code() {
        let page = include_str!("../../docs/PROTOCOL.md");
        for code in Code::ALL {
            assert!(page.contains(&format!("`{}`", code.word())), "{} is not in docs/PROTOCOL.md", code.word());
        }
    }

    #[test]
    fn german_is_for_those_who_ask_for_it_first() {
        assert_eq!(Language::of("de-AT,en;q=0.8"), Language::De);
        assert_eq!(Language::of("en,de;q=0.5"), Language::En);
        assert_eq!(Language::of(""), Language::En);
    }
}
