//! What the archivist reads back from its disk, and what it is offered.

use lotse_archivist::{grant, index, journal::Journal, leg, replay};
use lotse_protocol::{
    id::{CaseId, PublicKey},
    signal::Offer,
};
use uuid::Uuid;

use super::media::{folder, keys};
use crate::script::Script;

/// The fragment every line of the seeds speaks of.
const FRAGMENT: Uuid = Uuid::from_u128(7);

/// A case folder as a crash, or somebody else, left it: an index and an open fragment.
pub(crate) fn journal(data: &[u8]) {
    let mut script = Script::new(data);
    let lines = script.bytes();
    let (records, good) = index::read(lines);
    assert!(good <= lines.len() && (records.is_empty() || good > 0));
    let case = CaseId(Uuid::from_u128(8));
    let home = folder().join("journal");
    let dir = lotse_archivist::journal::fragments_dir(&home, case);
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(home.join("cases").join(case.to_string()).join("index.jsonl"), lines).expect("written");
    std::fs::write(lotse_archivist::fragment::part_path(&dir, FRAGMENT), script.rest()).expect("written");
    if let Ok(mut recovered) = Journal::open(&home, case, keys()) {
        for finished in &recovered.waiting {
            let whole = std::fs::metadata(lotse_archivist::fragment::path(&dir, &finished.payload.media));
            assert_eq!(whole.expect("its file").len(), finished.payload.size);
        }
        recovered.journal.forget(&[]).expect("rewritten");
    }
    std::fs::remove_dir_all(&home).expect("removed");
}

/// An offer of the server: the lines as JSON, then its SDP. And the words of a replay request, which come by the same road.
pub(crate) fn offer(data: &[u8]) {
    let mut script = Script::new(data);
    let (first, rest) = (script.bytes(), script.rest());
    let text = String::from_utf8_lossy(rest);
    let offer = serde_json::from_slice::<Offer>(first)
        .map(|lines| Offer { sdp: text.clone().into_owned(), ..lines })
        .unwrap_or(Offer {
            leg: 1,
            rev: 1,
            sdp: text.clone().into_owned(),
            uplink: vec![],
            downlink: vec![],
            ice_servers: vec![],
        });
    leg::fuzz(offer);
    let head = String::from_utf8_lossy(first);
    if let replay::Range::Part(from, to) = replay::range(Some(&head), 1_000) {
        assert!(from < to && to <= 1_000);
    }
    let case = CaseId(Uuid::from_u128(8));
    // A key nobody has signs nothing.
    assert!(grant::check(Some(&text), &PublicKey([9; 32]), case, grant::Verb::Replay, 0).is_err());
}
