//! What is wrong with a server's certificate, as a person reads it.
//!
//! Owns: the sentences, German and English, each with its remedy. Finds the cause in whatever error a library wrapped it into.

use std::error::Error;

use rustls::CertificateError;

use crate::Pin;

/// Why a server was not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Not the authority this device was paired with. `None`: the server showed no authority at all.
    OtherAuthority {
        shown: Option<Pin>,
    },
    /// Nobody this machine trusts signed it.
    UnknownAuthority,
    Expired,
    NotYetValid,
    /// It is for other names than the one that was asked for.
    OtherName,
    /// The server speaks no TLS, or none that we do.
    NoTls,
    /// Anything else a TLS library objects to.
    Other(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence(false))
    }
}

impl Error for Fault {}

impl Fault {
    /// One sentence and the remedy.
    pub fn sentence(&self, german: bool) -> String {
        let (en, de) = match self {
            Self::OtherAuthority { .. } => (
                "this is not the server these keys were paired with: its certificate is from another authority. If an administrator made a new one, pair again with a new code; if not, do not go on",
                "dies ist nicht der Server, mit dem gekoppelt wurde: sein Zertifikat stammt von einer anderen Stelle. Hat die Verwaltung eine neue erstellt, mit neuem Code koppeln; sonst nicht fortfahren",
            ),
            Self::UnknownAuthority => (
                "this machine does not trust the authority of its certificate. Pair with a code that carries the server's pin, or add the authority to the system's certificates",
                "dieses Gerät vertraut der Stelle nicht, die das Zertifikat ausgestellt hat. Mit einem Code koppeln, der den Fingerabdruck des Servers enthält, oder die Stelle in die Zertifikate des Systems aufnehmen",
            ),
            Self::Expired => (
                "its certificate has run out. Check the clock of this device; if it is right, the server's certificate must be renewed",
                "das Zertifikat ist abgelaufen. Die Uhr dieses Geräts prüfen; stimmt sie, muss das Zertifikat des Servers erneuert werden",
            ),
            Self::NotYetValid => (
                "its certificate is not valid yet. Set the clock of this device",
                "das Zertifikat gilt noch nicht. Die Uhr dieses Geräts stellen",
            ),
            Self::OtherName => (
                "its certificate is for another name. Write the address as the certificate names it, or add this one to [tls] names of the server",
                "das Zertifikat gilt für einen anderen Namen. Die Adresse so schreiben, wie das Zertifikat sie nennt, oder sie beim Server in [tls] names aufnehmen",
            ),
            Self::NoTls => (
                "it does not speak TLS there. Write http:// for a server on this machine, or set up [tls] on the server",
                "dort wird kein TLS gesprochen. Für einen Server auf diesem Gerät http:// schreiben, oder beim Server [tls] einrichten",
            ),
            Self::Other(why) => {
                return if german {
                    format!("TLS kam nicht zustande: {why}. Das Protokoll des Servers ansehen")
                } else {
                    format!("TLS did not come about: {why}. Look at the server's log")
                };
            }
        };
        (if german { de } else { en }).to_owned()
    }

    /// Finds the TLS trouble inside another error; `None`: it has nothing to do with TLS.
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut at = Some(error);
        while let Some(e) = at {
            if let Some(tls) = e.downcast_ref::<rustls::Error>() {
                return Some(Self::of(tls));
            }
            // What an io::Error wraps is not its source.
            if let Some(inner) = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
                return Self::find(inner);
            }
            at = e.source();
        }
        None
    }

    pub(crate) fn of(error: &rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(why) => match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
                CertificateError::UnknownIssuer => Self::UnknownAuthority,
                CertificateError::Other(other) => {
                    other.0.downcast_ref::<Self>().cloned().unwrap_or_else(|| Self::Other(why.to_string()))
                }
                other => Self::Other(other.to_string()),
            },
            E::InvalidMessage(_) => Self::NoTls,
            other => Self::Other(other.to_string()),
        }
    }
}
