//! Tells people where this server is and, with an own authority, how their devices come to trust it. German and English.
//!
//! Never: opens a port. Elsewhere: the authority (`lotse-trust`), serving its certificate (`front`).

use std::io::{IsTerminal as _, Write as _};

use qrcode::{QrCode, render::unicode};

use crate::{config::Config, error::Error, refusal::Language, tls};

/// Prints addresses, fingerprint, steps, and a QR code for a phone's camera.
pub fn tell(config: &Config) -> Result<(), Error> {
    let url = config.url(config.http.listen);
    let authority = tls::published(config)?;
    let text = words(&url, authority.as_ref().map(|a| a.fingerprint.as_str()), language());
    let mut out = std::io::stdout();
    write!(out, "{text}")?;
    writeln!(out, "{}", qr(&format!("{url}/field"))?)?;
    Ok(())
}

/// By `LC_ALL`, `LC_MESSAGES`, `LANG`, whichever speaks first.
pub fn language() -> Language {
    if lotse_operations::doctor::german(|name| std::env::var(name).ok()) { Language::De } else { Language::En }
}

fn words(url: &str, fingerprint: Option<&str>, language: Language) -> String {
    let Some(fingerprint) = fingerprint else {
        return match language {
            Language::De => format!("\n  Seite            {url}\n  Handy (Technik)  {url}/field\n\n"),
            Language::En => format!("\n  Page               {url}\n  Phone (technician) {url}/field\n\n"),
        };
    };
    // Two lines of 16 bytes, as phones show it.
    let (first, second) = fingerprint.split_at(fingerprint.len().min(48));
    match language {
        Language::De => format!(
            "
  Seite            {url}
  Handy (Technik)  {url}/field

  Dieser Server hat eine eigene Zertifizierungsstelle. Jedes Gerät muss ihr einmal vertrauen:
    1. {url}/ca.crt öffnen, die Warnung einmal übergehen, das Zertifikat laden.
    2. Android: Einstellungen > Sicherheit > Verschlüsselung > Zertifikat installieren > CA-Zertifikat.
       iPhone:  geladenes Profil installieren, dann Einstellungen > Allgemein > Info > Zertifikatsvertrauen.
       PC:      im Browser unter Einstellungen > Sicherheit > Zertifikate > Zertifizierungsstellen importieren.
    3. Den SHA-256-Fingerabdruck vergleichen; weicht er ab, das Zertifikat NICHT installieren:
         {first}
         {second}
  Es kann nur für die Namen dieses Servers und private Adressen bürgen.

"
        ),
        Language::En => format!(
            "
  Page               {url}
  Phone (technician) {url}/field

  This server has a certificate authority of its own. Each device must be told once to trust it:
    1. Open {url}/ca.crt, pass the warning once, download the certificate.
    2. Android: Settings > Security > Encryption > Install a certificate > CA certificate.
       iPhone:  install the downloaded profile, then Settings > General > About > Certificate Trust Settings.
       PC:      import it in the browser under Settings > Security > Certificates > Authorities.
    3. Compare the SHA-256 fingerprint; if it differs, do NOT install the certificate:
         {first}
         {second}
  It can vouch for this server's names and for private addresses only.

"
        ),
    }
}

/// Dark on light, with the quiet zone that cameras need, whatever the terminal's colours.
fn qr(text: &str) -> Result<String, Error> {
    let code = QrCode::new(text).map_err(|e| Error::Us(format!("QR code: {e}")))?;
    let picture = code
        .render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark)
        .quiet_zone(true)
        .build();
    let coloured = std::io::stdout().is_terminal();
    let line = |line: &str| if coloured { format!("  \x1b[97;40m{line}\x1b[0m\n") } else { format!("  {line}\n") };
    Ok(picture.lines().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_name_the_addresses_the_fingerprint_and_the_warning() {
        let fingerprint = ["AB"; 32].join(":");
        for language in [Language::De, Language::En] {
            let text = words("https://10.0.0.5:8443", Some(&fingerprint), language);
            for word in ["https://10.0.0.5:8443/field", "https://10.0.0.5:8443/ca.crt", "AB:AB:AB", "Android", "iPhone"]
            {
                assert!(text.contains(word), "{word} missing in: {text}");
            }
            assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        }
        // Version 3: 29 modules and 4 of quiet on each side, two rows to a line.
        assert_eq!(qr("https://10.0.0.5:8443/field").expect("a code").lines().count(), 37_usize.div_ceil(2));
    }
}
