//! Writes the small part of WebM that fragments need (Matroska, RFC 9559; Opus mapping as RFC 7845 describes).
//!
//! Owns: the byte layout of initialisation part, cluster head and blocks. Never: knows a file, a clock or a seal.
//! A fragment is EBML header, Segment of unknown size, Info, Tracks (the initialisation part) and one Cluster of unknown
//! size, so it can grow while it is written and needs no second look. Elsewhere: H.264 (`mp4`), chunks (`fragment`).

/// The highest distance of a block from its cluster, ms: 16 bits signed.
pub const MAX_BLOCK_OFFSET_MS: u64 = 32_000;

const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Initialisation part of a VP8 track. Its colours are BT.601 (RFC 6386, 9.2), which browsers show live; unsaid, their players
/// take BT.709 for a picture of this size.
pub fn video_init(width: u16, height: u16) -> Vec<u8> {
    let mut colour = Vec::new();
    // Matrix, range (16 to 235), transfer, primaries.
    for (id, value) in [([0x55, 0xb1], 6), ([0x55, 0xb9], 1), ([0x55, 0xba], 6), ([0x55, 0xbb], 6)] {
        uint(&mut colour, &id, value);
    }
    let mut video = Vec::new();
    uint(&mut video, &[0xb0], width.into());
    uint(&mut video, &[0xba], height.into());
    element(&mut video, &[0x55, 0xb0], &colour);
    let mut track = track_head(1, "V_VP8");
    element(&mut track, &[0xe0], &video);
    init(&track)
}

/// Initialisation part of an Opus track. No pre-skip: the first packet's time is exact, and a fragment that follows
/// another one must not lose its first samples.
pub fn voice_init() -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    // Version 1, two channels (a mono stream decodes as two equal ones), pre-skip 0, 48 kHz, gain 0, mapping 0.
    head.extend_from_slice(&[1, 2, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 0]);
    let mut audio = Vec::new();
    element(&mut audio, &[0xb5], &48_000f64.to_be_bytes());
    uint(&mut audio, &[0x9f], 2);
    let mut track = track_head(2, "A_OPUS");
    element(&mut track, &[0x63, 0xa2], &head);
    uint(&mut track, &[0x56, 0xaa], 0);
    // 80 ms, as RFC 7845 asks.
    uint(&mut track, &[0x56, 0xbb], 80_000_000);
    element(&mut track, &[0xe1], &audio);
    init(&track)
}

/// Opens the cluster; block times are relative to `start_ms`.
pub fn cluster(out: &mut Vec<u8>, start_ms: u64) {
    out.extend_from_slice(&[0x1f, 0x43, 0xb6, 0x75]);
    out.extend_from_slice(&UNKNOWN_SIZE);
    uint(out, &[0xe7], start_ms);
}

/// A frame with its duration, so that a player need not wait for the next one to know where it ends.
pub fn block(out: &mut Vec<u8>, offset_ms: u64, duration_ms: u64, key: bool, data: &[u8]) {
    let offset = offset_ms.min(MAX_BLOCK_OFFSET_MS) as i16;
    let mut block = Vec::with_capacity(data.len() + 4);
    block.push(0x81);
    block.extend_from_slice(&offset.to_be_bytes());
    block.push(0);
    block.extend_from_slice(data);
    let mut group = Vec::with_capacity(block.len() + 24);
    element(&mut group, &[0xa1], &block);
    uint(&mut group, &[0x9b], duration_ms);
    if !key {
        // Depends on an earlier block; which one does not matter to players, only that there is one.
        element(&mut group, &[0xfb], &[0xff]);
    }
    element(out, &[0xa0], &group);
}

/// A voice packet; its duration stands in the packet.
pub fn simple_block(out: &mut Vec<u8>, offset_ms: u64, data: &[u8]) {
    let offset = offset_ms.min(MAX_BLOCK_OFFSET_MS) as i16;
    out.push(0xa3);
    size(out, data.len() + 4);
    out.push(0x81);
    out.extend_from_slice(&offset.to_be_bytes());
    out.push(0x80);
    out.extend_from_slice(data);
}

fn track_head(kind: u64, codec: &str) -> Vec<u8> {
    let mut track = Vec::new();
    uint(&mut track, &[0xd7], 1);
    uint(&mut track, &[0x73, 0xc5], 1);
    uint(&mut track, &[0x9c], 0);
    element(&mut track, &[0x86], codec.as_bytes());
    uint(&mut track, &[0x83], kind);
    track
}

fn init(track: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (id, value) in [([0x42, 0x86], 1), ([0x42, 0xf7], 1), ([0x42, 0xf2], 4), ([0x42, 0xf3], 8)] {
        uint(&mut head, &id, value);
    }
    element(&mut head, &[0x42, 0x82], b"webm");
    uint(&mut head, &[0x42, 0x87], 4);
    uint(&mut head, &[0x42, 0x85], 2);

    let mut info = Vec::new();
    // Times are milliseconds.
    uint(&mut info, &[0x2a, 0xd7, 0xb1], 1_000_000);
    element(&mut info, &[0x4d, 0x80], b"lotse");
    element(&mut info, &[0x57, 0x41], b"lotse-archivist");

    let mut tracks = Vec::new();
    element(&mut tracks, &[0xae], track);

    let mut out = Vec::new();
    element(&mut out, &[0x1a, 0x45, 0xdf, 0xa3], &head);
    out.extend_from_slice(&[0x18, 0x53, 0x80, 0x67]);
    out.extend_from_slice(&UNKNOWN_SIZE);
    element(&mut out, &[0x15, 0x49, 0xa9, 0x66], &info);
    element(&mut out, &[0x16, 0x54, 0xae, 0x6b], &tracks);
    out
}

fn element(out: &mut Vec<u8>, id: &[u8], body: &[u8]) {
    out.extend_from_slice(id);
    size(out, body.len());
    out.extend_from_slice(body);
}

fn uint(out: &mut Vec<u8>, id: &[u8], value: u64) {
    let bytes = value.to_be_bytes();
    let skip = bytes.iter().take_while(|b| **b == 0).count().min(7);
    element(out, id, &bytes[skip..]);
}

/// Element sizes: 1 to 8 bytes, the number of leading zero bits tells which.
fn size(out: &mut Vec<u8>, len: usize) {
    let len = len as u64;
    // A size of all ones means unknown, so each width holds one value less.
    let width = (1..=8u32).find(|w| len < (1 << (7 * w)) - 1).unwrap_or(8);
    let marked = len | 1 << (7 * width);
    out.extend_from_slice(&marked.to_be_bytes()[8 - width as usize..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_shortest_form_and_never_the_unknown_one() {
        let sized = |n| {
            let mut out = Vec::new();
            size(&mut out, n);
            out
        };
        assert_eq!(sized(0), [0x80]);
        assert_eq!(sized(126), [0xfe]);
        assert_eq!(sized(127), [0x40, 0x7f]);
        assert_eq!(sized(16_383), [0x20, 0x3f, 0xff]);
    }
}
