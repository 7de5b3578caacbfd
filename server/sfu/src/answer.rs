//! Reads from a client's answer what the forwarding code must know, and refuses what cannot work.
//!
//! Owns: nothing; plain functions. Never: panics, whatever the text.
//! Elsewhere: the negotiation itself (the WebRTC core).

use crate::{SfuError, engine};

/// An SDP above this is refused, bytes: 128 legs with three tracks need about half of it.
pub(crate) const MAX_SDP: usize = 512 * 1024;

/// Ids of the forwarded header extensions on one line; 0: not agreed. Same order as `engine::FORWARDED`.
pub(crate) type ExtensionIds = [u8; engine::FORWARDED.len()];

/// One media line of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) mid: String,
    pub(crate) sends: bool,
    pub(crate) receives: bool,
    pub(crate) ssrc: Option<u32>,
    pub(crate) extensions: ExtensionIds,
}

/// All lines of an answer, data channels left out. `mids` are the lines that were offered.
pub(crate) fn parse(sdp: &str, mids: &[String]) -> Result<Vec<Line>, SfuError> {
    let bad = |why: String| SfuError::BadAnswer { why };
    if sdp.len() > MAX_SDP {
        return Err(bad(format!("{} bytes are too many", sdp.len())));
    }
    if !sdp.starts_with("v=0") {
        return Err(bad("it does not begin with v=0".into()));
    }
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in sdp.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            sections.push((media, Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line);
        }
    }
    for needed in ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:"] {
        if !sdp.lines().any(|line| line.starts_with(needed)) {
            return Err(bad(format!("{needed} is missing")));
        }
    }
    let mut found = Vec::new();
    let mut lines = Vec::new();
    for (media, attributes) in &sections {
        let mid = attributes.iter().find_map(|a| a.strip_prefix("a=mid:")).unwrap_or_default().trim().to_owned();
        if !mids.contains(&mid) {
            return Err(bad(format!("line \"{mid}\" was not offered")));
        }
        found.push(mid.clone());
        if media.starts_with("application") {
            continue;
        }
        let rejected = media.split_whitespace().nth(1) == Some("0");
        let has = |name: &str| attributes.iter().any(|a| a.trim() == name);
        let both = !has("a=inactive") && !has("a=sendonly") && !has("a=recvonly");
        let line = Line {
            sends: !rejected && (both || has("a=sendonly")),
            receives: !rejected && (both || has("a=recvonly")),
            ssrc: ssrc(attributes),
            extensions: extensions(attributes),
            mid,
        };
        if line.sends && line.ssrc.is_none() {
            return Err(bad(format!("line \"{}\" sends but names no a=ssrc", line.mid)));
        }
        lines.push(line);
    }
    if found != mids {
        return Err(bad(format!("it has lines {found:?} where {mids:?} were offered")));
    }
    Ok(lines)
}

/// The primary stream: first of a FID group, else the first a=ssrc.
pub(crate) fn ssrc(attributes: &[&str]) -> Option<u32> {
    let grouped = attributes.iter().find_map(|a| a.strip_prefix("a=ssrc-group:FID "));
    let named = || attributes.iter().find_map(|a| a.strip_prefix("a=ssrc:"));
    grouped.or_else(named)?.split_whitespace().next()?.parse().ok()
}

pub(crate) fn extensions(attributes: &[&str]) -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    for attribute in attributes {
        let Some(rest) = attribute.strip_prefix("a=extmap:") else { continue };
        let mut words = rest.split_whitespace();
        let id = words.next().and_then(|w| w.split('/').next()).and_then(|w| w.parse::<u8>().ok());
        let at = words.next().and_then(|uri| engine::FORWARDED.iter().position(|known| *known == uri));
        // One-byte headers carry ids 1 to 14.
        if let (Some(id @ 1..=14), Some(at)) = (id, at) {
            ids[at] = id;
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=mid:0\r\na=sendonly\r\n\
        a=extmap:3 http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time\r\na=ssrc-group:FID 42 43\r\na=ssrc:43 cname:x\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=recvonly\r\na=extmap:2 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n";

    fn mids() -> Vec<String> {
        ["0", "1", "2"].map(String::from).to_vec()
    }

    #[test]
    fn reads_direction_stream_and_extensions() {
        let lines = parse(ANSWER, &mids()).expect("a good answer");
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].sends, lines[0].receives, lines[0].ssrc), (true, false, Some(42)));
        assert_eq!(lines[0].extensions, [3, 0, 0]);
        assert_eq!((lines[1].sends, lines[1].receives, lines[1].extensions), (false, true, [0, 2, 0]));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = |sdp: &str| parse(sdp, &mids()).expect_err("must be refused").to_string();
        assert!(wrong("hello").contains("v=0"));
        assert!(wrong(&ANSWER.replace("a=ice-pwd:p\r\n", "")).contains("a=ice-pwd"));
        assert!(wrong(&ANSWER.replace("a=mid:1", "a=mid:7")).contains("\"7\" was not offered"));
        assert!(
            wrong(&ANSWER.replace("a=ssrc-group:FID 42 43\r\na=ssrc:43 cname:x\r\n", "")).contains("names no a=ssrc")
        );
        assert!(wrong(&"v=0\r\n".repeat(200_000)).contains("too many"));
    }

    #[test]
    fn mutated_answers_never_panic() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(11);
        for _ in 0..5_000 {
            let mut bytes = ANSWER.as_bytes().to_vec();
            for _ in 0..rng.random_range(1..20) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes.truncate(rng.random_range(0..=bytes.len()));
            let _ = parse(&String::from_utf8_lossy(&bytes), &mids());
        }
    }
}
