//! The log, its items, and the bundle.

use std::io::Cursor;

use lotse_protocol::{
    chain::{Chain, SignedHead, read_head},
    envelope::{AuthorFields, Joined, Left, Opened, ServerFields, StoredEvent},
    id::{Digest, ItemKey, PublicKey},
    item,
    session::Sessions,
};
use lotse_verify::{Language, Options, check, check::GivenHead};

use crate::script::Script;

/// A log as lines of JSON, then an item and a signed head.
pub(crate) fn log(data: &[u8]) {
    let mut script = Script::new(data);
    let lines = script.bytes();
    let mut sessions = Sessions::default();
    let mut chain: Option<Chain> = None;
    for line in lines.split(|b| *b == b'\n') {
        let text = String::from_utf8_lossy(line);
        if let Ok(fields) = AuthorFields::read(&text) {
            fold(&mut sessions, &fields);
        }
        let Ok(event) = serde_json::from_str::<StoredEvent>(&text) else { continue };
        let (Ok(server), Ok(fields)) = (ServerFields::read(&event.server), AuthorFields::read(&event.author)) else {
            continue;
        };
        fold(&mut sessions, &fields);
        // What the chain accepts is what stands in the bytes.
        let chain = chain.get_or_insert_with(|| Chain::new(server.case));
        let before = chain.head().seq;
        let pushed = chain.push(&event);
        assert_eq!(chain.head().seq, before + u64::from(pushed.is_ok()));
    }
    items(script.bytes());
    if let Ok(head) = serde_json::from_slice::<SignedHead>(script.rest()) {
        assert!(read_head(&head, &PublicKey([9; 32])).is_err(), "a key nobody has signs nothing");
    }
}

fn fold(sessions: &mut Sessions, fields: &AuthorFields) {
    sessions.apply(fields);
    let _ = (fields.clear::<Joined>(), fields.clear::<Opened>(), fields.clear::<Left>());
    if let Some(open) = sessions.open() {
        // Nobody is recorded who may not even be heard.
        assert!(!open.may_record() || open.participants.keys().any(|who| open.may_call(*who)));
    }
}

/// Sealed bytes under a known key, so that chunks are reached; and as they are.
fn items(sealed: &[u8]) {
    let key = ItemKey([3; 32]);
    let (whole, count) = item::whole_chunks(sealed);
    assert!(whole <= sealed.len() && (count == 0) == (whole == 0));
    let _ = item::open_as(&Digest([0; 32]), &key, sealed);
    let mut ours = item::commitment(&key).to_vec();
    ours.extend_from_slice(sealed);
    if let Ok((plain, lengths)) = item::open(&key, &ours) {
        assert_eq!(item::seal_chunks(key, &plain, &lengths).as_deref(), Ok(&ours[..]), "one content has one form");
    }
    let lengths: Vec<usize> = sealed.iter().map(|b| usize::from(*b)).collect();
    let _ = item::seal_chunks(key, sealed, &lengths);
}

/// A bundle as somebody sends it: checked to its end, whatever is wrong, and the finding is told in words.
pub(crate) fn bundle(data: &[u8]) {
    let given = GivenHead { name: "kept".into(), text: String::from_utf8_lossy(&data[..data.len().min(200)]).into() };
    for heads in [vec![], vec![given]] {
        let options = Options { server: None, heads };
        let report = check(&mut Cursor::new(data), &options).expect("memory can be read");
        for language in [Language::En, Language::De] {
            assert!(!report.to_text(language).is_empty());
        }
    }
}
