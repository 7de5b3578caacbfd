//! Reads a foreign client's offer (WHIP, WHEP), and refuses in words what could only half work (RFC 9725, 4.4.3).
//!
//! Owns: nothing; plain functions. Never: panics, whatever the text; takes an address from it, because the server answers checks
//! and makes none. Elsewhere: the leg that follows (`leg::gateway`), answers to our own offers (`answer`).

use lotse_protocol::signal::Codec;

use crate::{SfuError, answer};

/// One media line that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) mid: String,
    pub(crate) video: bool,
    /// Those of ours it names, in its order.
    pub(crate) codecs: Vec<Codec>,
    /// The stream it sends on; 0 for a client that only watches.
    pub(crate) ssrc: u32,
}

/// An offer that can be answered whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    /// One picture, one voice, or one of each, in the order offered.
    pub(crate) lines: Vec<Line>,
    /// The offer without its candidates.
    pub(crate) sdp: String,
}

/// Could this offer be answered? The words of the error say what to change.
pub fn check(sdp: &str, publishes: bool) -> Result<(), SfuError> {
    read(sdp, publishes).map(drop)
}

pub(crate) fn read(sdp: &str, publishes: bool) -> Result<Offered, SfuError> {
    let bad = |why: &str| SfuError::BadOffer { why: why.into() };
    if sdp.len() > answer::MAX_SDP {
        return Err(bad("it is too long. Offer one picture and one voice."));
    }
    if !sdp.starts_with("v=0") {
        return Err(bad("it does not begin with v=0. Send the offer of your WebRTC library, unchanged."));
    }
    for needed in ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:"] {
        if !sdp.lines().any(|line| line.starts_with(needed)) {
            return Err(SfuError::BadOffer {
                why: format!("{needed} is missing. Send the offer of your WebRTC library, unchanged."),
            });
        }
    }
    let refused = |why: &str| SfuError::OfferRefused { why: why.into() };
    if sdp.lines().any(|line| line.trim() == "a=setup:passive") {
        return Err(refused("it wants to be the passive side. Offer setup:actpass or setup:active."));
    }
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in sdp.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            sections.push((media, Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line.trim_end());
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    for (media, attributes) in &sections {
        let line = section(media, attributes, publishes)?;
        if lines.iter().any(|other| other.video == line.video) {
            return Err(refused("it has two lines of a kind. Offer at most one picture and one voice."));
        }
        if lines.iter().any(|other| other.mid == line.mid) {
            return Err(bad("two of its lines have the same a=mid."));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(refused("it has no media line. Offer a picture, a voice, or one of each."));
    }
    let bundle = sdp.lines().find_map(|line| line.strip_prefix("a=group:BUNDLE "));
    let bundled = |mid: &str| bundle.is_some_and(|mids| mids.split_whitespace().any(|named| named == mid));
    if lines.len() > 1 && !lines.iter().all(|line| bundled(&line.mid)) {
        return Err(refused("its lines are not bundled. Offer them in one BUNDLE group (max-bundle)."));
    }
    let first = bundle.and_then(|mids| mids.split_whitespace().next());
    let tagged = lines.iter().position(|line| Some(line.mid.as_str()) == first).unwrap_or(0);
    Ok(Offered { sdp: settled(sdp, tagged), lines })
}

/// The offer as the core takes it. The client's checks tell where it is, whatever it wrote; and of a bundle the names of the tagged line
/// count (RFC 9143, 7.3.1), while some clients give each line its own, or port 0 until it is accepted.
fn settled(sdp: &str, tagged: usize) -> String {
    let mut sections = 0usize;
    let mut out = String::with_capacity(sdp.len());
    for line in sdp.lines().map(str::trim_end) {
        sections += usize::from(line.starts_with("m="));
        let names = ["a=ice-ufrag:", "a=ice-pwd:"].iter().any(|name| line.starts_with(name));
        let other = names && sections > 0 && sections != tagged + 1;
        if other || line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        }
        match line.strip_prefix("m=").and_then(|media| media.split_once(" 0 ")) {
            Some((kind, rest)) if !kind.contains(' ') => out.extend(["m=", kind, " 9 ", rest]),
            _ => out.push_str(line),
        }
        out.push_str("\r\n");
    }
    out
}

fn section(media: &str, attributes: &[&str], publishes: bool) -> Result<Line, SfuError> {
    let refused = |why: &str| SfuError::OfferRefused { why: why.into() };
    let mut words = media.split_whitespace();
    let video = match words.next() {
        Some("video") => true,
        Some("audio") => false,
        _ => return Err(refused("only pictures and voices are taken. Leave out data channels and everything else.")),
    };
    let has = |name: &str| attributes.contains(&name);
    let mid = attributes.iter().find_map(|a| a.strip_prefix("a=mid:")).unwrap_or_default();
    if mid.is_empty() || mid.len() > 32 || words.next() == Some("0") && !has("a=bundle-only") {
        return Err(SfuError::BadOffer { why: "a media line has no a=mid of at most 32 letters, or port 0.".into() });
    }
    if !has("a=rtcp-mux") {
        return Err(refused("a line has no a=rtcp-mux. Switch RTCP multiplexing on."));
    }
    if attributes.iter().any(|a| a.starts_with("a=simulcast:") || a.starts_with("a=rid:")) {
        return Err(refused("it has simulcast layers. Offer each line in one quality."));
    }
    let wrong = if publishes { "a=recvonly" } else { "a=sendonly" };
    if has(wrong) || has("a=inactive") {
        return Err(refused(if publishes {
            "a line does not send. This address takes media: offer sendonly lines, or use a watch token."
        } else {
            "a line does not receive. This address gives media: offer recvonly lines, or use a publish token."
        }));
    }
    let codecs = codecs(attributes, words.skip(1), video);
    if codecs.is_empty() {
        return Err(refused(if video {
            "it has no picture codec of ours. Offer VP8, or H.264 with packetization-mode=1."
        } else {
            "it has no voice codec of ours. Offer Opus with 48000 Hz and two channels."
        }));
    }
    let ssrc = if publishes { answer::ssrc(attributes).unwrap_or(0) } else { 0 };
    if publishes && ssrc == 0 {
        return Err(refused("a line names no a=ssrc. Let your WebRTC library write its streams into the offer."));
    }
    Ok(Line { mid: mid.into(), video, codecs, ssrc })
}

/// Those of our codecs that a line names, in its order.
fn codecs<'a>(attributes: &[&str], payload_types: impl Iterator<Item = &'a str>, video: bool) -> Vec<Codec> {
    let of = |name: &str, payload_type: &str| {
        let all = attributes.iter().filter_map(|a| a.strip_prefix(name)).filter_map(|rest| rest.split_once(' '));
        all.filter(|(named, _)| *named == payload_type).map(|(_, value)| value.trim().to_ascii_lowercase()).next()
    };
    let mut found = Vec::new();
    for payload_type in payload_types {
        let packets = || of("a=fmtp:", payload_type).unwrap_or_default();
        let codec = match of("a=rtpmap:", payload_type).as_deref() {
            Some("vp8/90000") if video => Codec::Vp8,
            // The other mode cannot carry a picture larger than a packet.
            Some("h264/90000") if video && packets().contains("packetization-mode=1") => Codec::H264,
            Some("opus/48000/2") if !video => Codec::Opus,
            _ => continue,
        };
        if !found.contains(&codec) {
            found.push(codec);
        }
    }
    found
}

/// Payload types of one line of our own answer: each codec's own and its repair's.
pub(crate) fn agreed(answer: &str, mid: &str) -> Vec<(Codec, u8, Option<u8>)> {
    let named = |section: &&str| section.lines().any(|line| line.trim_end() == format!("a=mid:{mid}"));
    let Some(section) = answer.split("\nm=").skip(1).find(named) else { return Vec::new() };
    let attributes: Vec<&str> = section.lines().map(str::trim_end).collect();
    let maps = |codec: &str| {
        let all = attributes.iter().filter_map(|a| a.strip_prefix("a=rtpmap:")?.split_once(' '));
        let of = all.filter(|(_, name)| name.to_ascii_lowercase().starts_with(codec));
        of.filter_map(|(payload_type, _)| payload_type.parse::<u8>().ok()).collect::<Vec<_>>()
    };
    let repairs = |payload_type: u8| {
        let apt = |repair: &u8| attributes.contains(&format!("a=fmtp:{repair} apt={payload_type}").as_str());
        maps("rtx/").into_iter().find(apt)
    };
    let codecs = [(Codec::Vp8, "vp8/"), (Codec::H264, "h264/"), (Codec::Opus, "opus/")];
    let first = codecs.into_iter().filter_map(|(codec, name)| Some((codec, *maps(name).first()?)));
    first.map(|(codec, payload_type)| (codec, payload_type, repairs(payload_type))).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 v\r\na=fingerprint:sha-256 AA\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 96 0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
        a=rtpmap:96 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=ssrc:7 cname:x\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 120 98 97\r\na=mid:v\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:120 H264/90000\r\n\
        a=fmtp:120 packetization-mode=0\r\na=rtpmap:98 H264/90000\r\na=fmtp:98 profile-level-id=42e01f;packetization-mode=1\r\n\
        a=rtpmap:97 VP8/90000\r\na=ssrc-group:FID 8 9\r\na=ssrc:9 cname:x\r\na=end-of-candidates\r\n";

    #[test]
    fn reads_lines_codecs_and_streams_and_drops_addresses() {
        let offered = read(OFFER, true).expect("a good offer");
        let [voice, picture] = &offered.lines[..] else { panic!("two lines") };
        assert_eq!(
            (voice.mid.as_str(), voice.video, &voice.codecs[..], voice.ssrc),
            ("0", false, &[Codec::Opus][..], 7)
        );
        assert_eq!((picture.mid.as_str(), picture.video, picture.ssrc), ("v", true, 8));
        assert_eq!(picture.codecs, [Codec::H264, Codec::Vp8], "in the client's order, packetization-mode 0 left out");
        assert!(!offered.sdp.contains("candidate"));
        let apart = OFFER
            .replace("a=mid:v", "a=mid:v\r\na=ice-ufrag:other\r\na=ice-pwd:other\r\na=bundle-only")
            .replace("m=video 9", "m=video 0");
        let sdp = read(&apart, true).expect("lines with names of their own").sdp;
        assert!(sdp.contains("a=ice-ufrag:u\r\n") && !sdp.contains("other") && sdp.contains("m=video 9 "), "{sdp}");
        assert!(read(&OFFER.replace("sendonly", "recvonly"), false).is_ok());
    }

    #[test]
    fn says_what_to_change() {
        let wrong = |sdp: &str| read(sdp, true).expect_err("must be refused").to_string();
        assert!(wrong("hello").contains("v=0"));
        assert!(wrong(&OFFER.replace("a=ice-pwd:p\r\n", "")).contains("a=ice-pwd"));
        assert!(wrong(&OFFER.replace("a=group:BUNDLE 0 v", "a=group:BUNDLE 0")).contains("BUNDLE"));
        assert!(wrong(&OFFER.replace("m=audio", "m=video")).contains("no picture codec"));
        assert!(wrong(&OFFER.replace("opus/48000/2", "speex/8000")).contains("Opus"));
        assert!(wrong(&OFFER.replace("a=sendonly", "a=recvonly")).contains("watch token"));
        assert!(wrong(&OFFER.replace("a=ssrc:7", "a=x:7")).contains("a=ssrc"));
        assert!(wrong(&OFFER.replace("a=rtcp-mux", "a=x")).contains("rtcp-mux"));
        assert!(wrong(&OFFER.replace("a=setup:actpass", "a=setup:passive")).contains("passive"));
        assert!(wrong(&OFFER.replace("a=mid:v", "a=mid:v\r\na=simulcast:send h;l")).contains("simulcast"));
        assert!(wrong(&OFFER.replace("a=mid:v", "a=mid:0").replace("BUNDLE 0 v", "BUNDLE 0")).contains("same a=mid"));
        let channel = format!("{OFFER}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n");
        assert!(wrong(&channel).contains("data channels"));
        assert!(wrong(&format!("{OFFER}{}", &OFFER[OFFER.find("m=video").expect("a line")..])).contains("two lines"));
        assert!(wrong(&"v=0\r\n".repeat(200_000)).contains("too long"));
    }

    #[test]
    fn an_answer_tells_its_payload_types() {
        let answer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 97 98\r\na=mid:v\r\na=rtpmap:97 VP8/90000\r\na=rtpmap:98 rtx/90000\r\n\
            a=fmtp:98 apt=97\r\na=rtpmap:99 H264/90000\r\n";
        assert_eq!(agreed(answer, "v"), [(Codec::Vp8, 97, Some(98)), (Codec::H264, 99, None)]);
        assert_eq!(agreed(answer, "0"), []);
    }

    #[test]
    fn mutated_offers_never_panic() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(12);
        for _ in 0..5_000 {
            let mut bytes = OFFER.as_bytes().to_vec();
            for _ in 0..rng.random_range(1..20) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes.truncate(rng.random_range(0..=bytes.len()));
            let text = String::from_utf8_lossy(&bytes);
            let _ = (read(&text, true), read(&text, false), agreed(&text, "0"));
        }
    }
}
