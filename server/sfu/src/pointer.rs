//! Relays the pointer and the pen in motion between the people of a room.
//!
//! Owns: the envelope `{"from":…,"data":…}`. Never: reads what is inside, waits, or repeats.
//! Elsewhere: the data channel itself (the WebRTC core), what a message means (the clients).

use bytes::BytesMut;
use lotse_protocol::{id::Pseudonym, signal::MAX_POINTER_BYTES};
use serde::de::IgnoredAny;

/// Bytes that may wait in a receiver's channel; above this messages are dropped: a late pointer is a wrong pointer.
pub(crate) const MAX_WAITING: usize = 16 * 1024;
/// Messages a second a sender may relay: a 60 Hz pen and some air.
pub(crate) const PER_SECOND: f64 = 120.0;

/// The message as the others get it, or `None` when it is too long or not one JSON value (which could forge `from`).
pub(crate) fn wrap(from: Pseudonym, data: &[u8]) -> Option<BytesMut> {
    if data.len() > MAX_POINTER_BYTES || serde_json::from_slice::<IgnoredAny>(data).is_err() {
        return None;
    }
    let head = format!("{{\"from\":\"{from}\",\"data\":");
    let mut message = BytesMut::with_capacity(head.len() + data.len() + 1);
    message.extend_from_slice(head.as_bytes());
    message.extend_from_slice(data);
    message.extend_from_slice(b"}");
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_wrapped_as_it_came_and_cannot_forge_its_sender() {
        let from = Pseudonym(uuid::Uuid::from_u128(5));
        let wrapped = wrap(from, br#"{"t":"off"}"#).expect("one value");
        let text = std::str::from_utf8(&wrapped).expect("text");
        assert_eq!(text, format!(r#"{{"from":"{from}","data":{{"t":"off"}}}}"#));
        assert!(wrap(from, br#"1,"from":"somebody else""#).is_none());
        assert!(wrap(from, b"").is_none());
        assert!(wrap(from, b"\xff\xfe").is_none());
        assert!(wrap(from, &[b'1'; MAX_POINTER_BYTES + 1]).is_none());
        assert!(wrap(from, &[b'1'; MAX_POINTER_BYTES]).is_some());
    }
}
