//! Gives recorded fragments back: sealed bytes by digest, whole or in part.
//!
//! Never: opens a fragment. Who may open it holds its key. Elsewhere: the check of grants (`grant`), routes (`http`).

use std::path::Path;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lotse_protocol::id::{CaseId, Digest};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom},
};

use crate::{fragment, journal};

/// Bytes sent at a time.
const PIECE: usize = 64 * 1024;

/// What was asked for in a `Range` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    Whole,
    /// First byte, and the one after the last.
    Part(u64, u64),
    Beyond,
}

/// One range is understood (RFC 9110, 14); several or unknown units mean the whole.
pub fn range(header: Option<&str>, size: u64) -> Range {
    let read = || {
        let (first, last) = header?.trim().strip_prefix("bytes=")?.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", tail) => {
                let tail: u64 = tail.parse().ok()?;
                Some((size.saturating_sub(tail), if tail == 0 { 0 } else { size }))
            }
            (first, "") => Some((first.parse().ok()?, size)),
            (first, last) => {
                let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
                if first > last {
                    return None;
                }
                Some((first, last.saturating_add(1).min(size)))
            }
        }
    };
    match read() {
        None => Range::Whole,
        Some((from, to)) if from < to => Range::Part(from, to),
        Some(_) => Range::Beyond,
    }
}

/// The sealed fragment. `None`: it is not here.
pub async fn media(data: &Path, case: CaseId, digest: &Digest, asked: Option<&str>) -> Option<Response> {
    let path = fragment::path(&journal::fragments_dir(data, case), digest);
    let mut file = File::open(path).await.ok()?;
    let size = file.metadata().await.ok()?.len();
    let (status, from, to) = match range(asked, size) {
        Range::Whole => (StatusCode::OK, 0, size),
        Range::Part(from, to) => (StatusCode::PARTIAL_CONTENT, from, to),
        Range::Beyond => {
            let value = format!("bytes */{size}");
            return Some((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, value)]).into_response());
        }
    };
    file.seek(SeekFrom::Start(from)).await.ok()?;
    let mut response = Response::new(stream(file, to - from));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    // Its name is its digest, so it never changes; it is private to who was granted it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{size}", to - 1))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    Some(response)
}

/// The next `len` bytes of a file, read as the receiver takes them.
pub fn stream(file: File, len: u64) -> Body {
    Body::from_stream(futures_util::stream::try_unfold((file, len), |(mut file, left)| async move {
        if left == 0 {
            return Ok::<_, std::io::Error>(None);
        }
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        file.read_exact(&mut piece).await?;
        let left = left - piece.len() as u64;
        Ok(Some((Bytes::from(piece), (file, left))))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file_or_refused_or_ignored() {
        for (header, expected) in [
            (None, Range::Whole),
            (Some("bytes=0-9"), Range::Part(0, 10)),
            (Some("bytes=90-"), Range::Part(90, 100)),
            (Some("bytes=-7"), Range::Part(93, 100)),
            (Some("bytes=-700"), Range::Part(0, 100)),
            (Some("bytes=50-999"), Range::Part(50, 100)),
            (Some("bytes=0-18446744073709551615"), Range::Part(0, 100)),
            (Some("bytes=100-"), Range::Beyond),
            (Some("bytes=-0"), Range::Beyond),
            (Some("bytes=9-3"), Range::Whole),
            (Some("bytes=0-1,5-6"), Range::Whole),
            (Some("rows=0-1"), Range::Whole),
        ] {
            assert_eq!(range(header, 100), expected, "{header:?}");
        }
    }
}
