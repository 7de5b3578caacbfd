//! Writes the small part of fragmented MP4 that H.264 fragments need (ISO/IEC 14496-12 and -15).
//!
//! Owns: the byte layout of initialisation part (`ftyp`, `moov`) and pieces (`moof`, `mdat`). Never: knows a file or a
//! seal. One fragment is the initialisation part and as many pieces as it has chunks: each piece is whole when written.
//! Elsewhere: VP8 and Opus (`webm`).

use crate::depacketize::ParameterSets;

/// Ticks a second: RTP's own, so that no time is rounded.
pub const TIMESCALE: u32 = 90_000;

/// One frame of a piece.
pub struct Sample {
    pub duration: u32,
    pub key: bool,
    /// Units with 4-byte lengths.
    pub data: Vec<u8>,
}

/// `avc1.…` as RFC 6381 writes it.
pub fn codec_name(sets: &ParameterSets) -> Option<String> {
    let p = sets.sps.get(1..4)?;
    Some(format!("avc1.{:02x}{:02x}{:02x}", p[0], p[1], p[2]))
}

/// Initialisation part; `None` without usable parameter sets.
pub fn init(width: u16, height: u16, sets: &ParameterSets) -> Option<Vec<u8>> {
    let profile = sets.sps.get(1..4)?;
    let (sps_len, pps_len) = (u16::try_from(sets.sps.len()).ok()?, u16::try_from(sets.pps.len()).ok()?);
    if sets.pps.is_empty() {
        return None;
    }
    let mut avcc = vec![1, profile[0], profile[1], profile[2], 0xff, 0xe1];
    avcc.extend_from_slice(&sps_len.to_be_bytes());
    avcc.extend_from_slice(&sets.sps);
    avcc.push(1);
    avcc.extend_from_slice(&pps_len.to_be_bytes());
    avcc.extend_from_slice(&sets.pps);

    let mut avc1 = Vec::new();
    avc1.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    avc1.extend_from_slice(&[0; 16]);
    avc1.extend_from_slice(&width.to_be_bytes());
    avc1.extend_from_slice(&height.to_be_bytes());
    // 72 dpi twice, reserved, one frame a sample, no name, 24 bit, -1.
    avc1.extend_from_slice(&[0, 0x48, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0, 0, 1]);
    avc1.extend_from_slice(&[0; 32]);
    avc1.extend_from_slice(&[0, 0x18, 0xff, 0xff]);
    avc1.extend(boxed(b"avcC", &[&avcc]));

    let stbl = boxed(
        b"stbl",
        &[
            &full(b"stsd", 0, 0, &[&be(1), &boxed(b"avc1", &[&avc1])]),
            &full(b"stts", 0, 0, &[&be(0)]),
            &full(b"stsc", 0, 0, &[&be(0)]),
            &full(b"stsz", 0, 0, &[&be(0), &be(0)]),
            &full(b"stco", 0, 0, &[&be(0)]),
        ],
    );
    let dinf = boxed(b"dinf", &[&full(b"dref", 0, 0, &[&be(1), &full(b"url ", 0, 1, &[])])]);
    let minf = boxed(b"minf", &[&full(b"vmhd", 0, 1, &[&[0; 8]]), &dinf, &stbl]);
    let mdia = boxed(
        b"mdia",
        &[
            // Created, modified, timescale, duration, language "und".
            &full(b"mdhd", 0, 0, &[&be(0), &be(0), &be(TIMESCALE), &be(0), &[0x55, 0xc4, 0, 0]]),
            &full(b"hdlr", 0, 0, &[&be(0), b"vide", &[0; 12], b"lotse\0"]),
            &minf,
        ],
    );
    let matrix: Vec<u8> = [0x1_0000u32, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000].iter().flat_map(|v| be(*v)).collect();
    let tkhd = full(
        b"tkhd",
        0,
        3,
        &[
            &be(0),
            &be(0),
            &be(1),
            &be(0),
            &be(0),
            &[0; 16],
            &matrix,
            &be(u32::from(width) << 16),
            &be(u32::from(height) << 16),
        ],
    );
    let mvhd = full(
        b"mvhd",
        0,
        0,
        &[
            &be(0),
            &be(0),
            &be(TIMESCALE),
            &be(0),
            &be(0x1_0000),
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &matrix,
            &[0; 24],
            &be(2),
        ],
    );
    let trex = full(b"trex", 0, 0, &[&be(1), &be(1), &be(0), &be(0), &be(0)]);
    let mut out = boxed(b"ftyp", &[b"iso5", &be(512), b"iso5iso6mp41"]);
    out.extend(boxed(b"moov", &[&mvhd, &boxed(b"trak", &[&tkhd, &mdia]), &boxed(b"mvex", &[&trex])]));
    Some(out)
}

/// One piece: the samples from `start` (ticks) on. `number` rises within a fragment.
pub fn piece(number: u32, start: u64, samples: &[Sample]) -> Vec<u8> {
    let mut runs = Vec::with_capacity(samples.len() * 12);
    for s in samples {
        runs.extend(be(s.duration));
        runs.extend(be(s.data.len() as u32));
        // Depends on nothing; or on others and is no sync sample.
        runs.extend(be(if s.key { 0x0200_0000 } else { 0x0101_0000 }));
    }
    let moof = |offset: u32| {
        // Default base is the moof; duration, size and flags per sample, data offset.
        let traf = boxed(
            b"traf",
            &[
                &full(b"tfhd", 0, 0x02_0000, &[&be(1)]),
                &full(b"tfdt", 1, 0, &[&start.to_be_bytes()]),
                &full(b"trun", 0, 0x701, &[&be(samples.len() as u32), &be(offset), &runs]),
            ],
        );
        boxed(b"moof", &[&full(b"mfhd", 0, 0, &[&be(number)]), &traf])
    };
    let offset = moof(0).len() as u32 + 8;
    let mut out = moof(offset);
    let media: Vec<&[u8]> = samples.iter().map(|s| s.data.as_slice()).collect();
    out.extend(boxed(b"mdat", &media));
    out
}

fn be(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = 8 + parts.iter().map(|p| p.len()).sum::<usize>();
    let mut out = Vec::with_capacity(len);
    out.extend(be(len as u32));
    out.extend_from_slice(name);
    for p in parts {
        out.extend_from_slice(p);
    }
    out
}

fn full(name: &[u8; 4], version: u8, flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let head = be(u32::from(version) << 24 | flags);
    let mut all: Vec<&[u8]> = vec![&head];
    all.extend_from_slice(parts);
    boxed(name, &all)
}
