//! Properties of items, logs and sessions, with anything that may happen to stored bytes.
#![allow(clippy::unwrap_used)]

use ed25519_dalek::SigningKey;
use lotse_protocol::{
    ProtocolError,
    chain::{self, Chain, ChainError, verify_log},
    envelope::{self, AuthorFields, Joined, Left, LeftWhy, Opened, StoredEvent},
    id::{CaseId, DeviceId, Digest, EventId, ItemKey, Pseudonym, SessionId, Signature},
    item::{self, CHUNK, CHUNK_OVERHEAD, HEADER},
    kind,
    policy::Role,
    session::{Answer, Session, Sessions},
};
use proptest::prelude::*;
use uuid::Uuid;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

// Items

/// Plain lengths around the borders of chunks.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..100,
        (1usize..4, -3i64..=3).prop_map(|(n, d)| (n as i64 * CHUNK as i64 + d) as usize),
        0usize..3 * CHUNK
    ]
}

fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    proptest::collection::vec(0usize..300, 1..12).prop_flat_map(|chunks| {
        let n: usize = chunks.iter().sum();
        (proptest::collection::vec(any::<u8>(), n), Just(chunks))
    })
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn what_is_sealed_opens(n in lengths(), key in any::<[u8; 32]>(), seed in any::<u8>()) {
        let plain: Vec<u8> = (0..n).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
        let sealed = item::seal(ItemKey(key), &plain);
        let (opened, chunks) = item::open(&ItemKey(key), &sealed.bytes).unwrap();
        prop_assert_eq!(&opened, &plain);
        prop_assert_eq!(chunks.iter().sum::<usize>(), n);
        prop_assert_eq!(chunks.len(), n.div_ceil(CHUNK).max(1));
        prop_assert_eq!(sealed.bytes.len(), HEADER + n + chunks.len() * CHUNK_OVERHEAD);
        // The verifier's way back.
        prop_assert_eq!(item::seal_chunks(ItemKey(key), &plain, &chunks).unwrap(), sealed.bytes);
    }

    #[test]
    fn any_change_of_sealed_bytes_is_found_and_the_chunk_named((plain, chunks) in chunked(), at in any::<prop::sample::Index>(), change in 1u8..) {
        let key = ItemKey([7; 32]);
        let sealed = item::seal_chunks(key, &plain, &chunks).unwrap();
        let mut bytes = sealed.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert_eq!(item::open_as(&Digest::of(&sealed), &key, &bytes).unwrap_err(), ProtocolError::OtherDigest);
        let error = item::open(&key, &bytes).unwrap_err();
        if at < HEADER {
            prop_assert_eq!(error, ProtocolError::WrongKey);
        } else {
            // The chunk that holds this byte, its length prefix included. A changed length may also be found one
            // chunk later: never earlier.
            let mut end = HEADER;
            let chunk = chunks.iter().position(|n| { end += n + CHUNK_OVERHEAD; at < end }).unwrap() as u64;
            match error {
                ProtocolError::DoesNotOpen { chunk: found } | ProtocolError::Truncated { chunk: found } => prop_assert_eq!(found, chunk),
                other => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn swapped_dropped_and_repeated_chunks_do_not_open((plain, chunks) in chunked(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let key = ItemKey([8; 32]);
        let sealed = item::seal_chunks(key, &plain, &chunks).unwrap();
        let mut rows = Vec::new();
        let mut at = HEADER;
        for n in &chunks {
            rows.push(sealed[at..at + n + CHUNK_OVERHEAD].to_vec());
            at += n + CHUNK_OVERHEAD;
        }
        let (a, b) = (a.index(rows.len()), b.index(rows.len()));
        let put = |rows: &[Vec<u8>]| [&sealed[..HEADER], &rows.concat()].concat();
        if a != b {
            let mut swapped = rows.clone();
            swapped.swap(a, b);
            let found = item::open(&key, &put(&swapped)).unwrap_err();
            prop_assert_eq!(found, ProtocolError::DoesNotOpen { chunk: a.min(b) as u64 });
        }
        let mut repeated = rows.clone();
        repeated.insert(a, rows[a].clone());
        prop_assert_eq!(item::open(&key, &put(&repeated)).unwrap_err(), ProtocolError::DoesNotOpen { chunk: a as u64 + 1 });
        let mut dropped = rows.clone();
        dropped.remove(a);
        let bytes = put(&dropped);
        // A missing last chunk is the one thing the tags cannot tell; the digest does.
        prop_assert!(item::open_as(&Digest::of(&sealed), &key, &bytes).is_err());
        prop_assert!(a == rows.len() - 1 || item::open(&key, &bytes).is_err());
    }

    #[test]
    fn after_a_cut_the_whole_chunks_open((plain, chunks) in chunked(), cut in any::<prop::sample::Index>()) {
        let key = ItemKey([9; 32]);
        let sealed = item::seal_chunks(key, &plain, &chunks).unwrap();
        let cut = cut.index(sealed.len() + 1);
        let (bytes, whole) = item::whole_chunks(&sealed[..cut]);
        prop_assert!(bytes <= cut);
        let mut end = HEADER;
        let expected = chunks.iter().take_while(|n| { end += **n + CHUNK_OVERHEAD; end <= cut }).count();
        prop_assert_eq!(whole as usize, expected);
        if whole > 0 {
            let (opened, lengths) = item::open(&key, &sealed[..bytes]).unwrap();
            prop_assert_eq!(&lengths[..], &chunks[..expected]);
            prop_assert_eq!(&opened[..], &plain[..opened.len()]);
        } else {
            prop_assert_eq!(bytes, 0);
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), key in any::<[u8; 32]>()) {
        prop_assert!(item::open(&ItemKey(key), &bytes).is_err());
        item::whole_chunks(&bytes);
    }
}

// Logs

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + n)
}

fn case() -> CaseId {
    CaseId(id(1))
}

struct Author {
    n: u8,
    role: Role,
    seq: u64,
}

impl Author {
    fn key(&self) -> SigningKey {
        SigningKey::from_bytes(&[self.n; 32])
    }

    fn fields(
        &mut self,
        event: u128,
        kind: &str,
        session: Option<u128>,
        clear: Option<serde_json::Value>,
    ) -> AuthorFields {
        self.seq += 1;
        AuthorFields {
            v: 1,
            case: case(),
            id: EventId(id(0x1000 + event)),
            kind: kind.into(),
            session: session.map(|n| SessionId(id(0x2000 + n))),
            author: Pseudonym(id(0x3000 + u128::from(self.n))),
            device: DeviceId(id(0x4000 + u128::from(self.n))),
            device_seq: self.seq,
            captured_at_ms: 1_760_000_000_000 + event as i64,
            item: None,
            attachments: vec![],
            clear,
        }
    }
}

fn commit(chain: &mut Chain, author: &Author, fields: &AuthorFields) -> Result<StoredEvent, ChainError> {
    let text = fields.to_bytes();
    let sig = envelope::sign(&author.key(), &text);
    let fields = chain.check_author(&text, &sig)?;
    let event = StoredEvent { server: chain.extend(&fields, fields.captured_at_ms + 5).to_bytes(), author: text, sig };
    chain.push(&event)?;
    Ok(event)
}

fn opened(key: &SigningKey) -> serde_json::Value {
    let opened = Opened {
        number: "2026-0001".into(),
        asset: None,
        customer: None,
        site: None,
        language: "de".into(),
        server_key: envelope::public_key(key),
    };
    serde_json::to_value(opened).unwrap()
}

fn joined(author: &Author) -> serde_json::Value {
    serde_json::to_value(Joined { role: author.role, case_key: envelope::public_key(&author.key()) }).unwrap()
}

/// A log of `n` events, its authors and its chain.
fn log(n: usize) -> (Vec<StoredEvent>, Chain, Vec<Author>) {
    let mut authors = vec![
        Author { n: 1, role: Role::Server, seq: 0 },
        Author { n: 2, role: Role::Technician, seq: 0 },
        Author { n: 3, role: Role::Expert, seq: 0 },
    ];
    let mut chain = Chain::new(case());
    let mut events = Vec::new();
    for i in 0..n {
        let who = if i < 3 { i } else { 1 + i % 2 };
        let a = &mut authors[who];
        let (kind, clear) = match i {
            0 => (kind::OPENED, Some(opened(&a.key()))),
            1 | 2 => (kind::JOINED, Some(joined(a))),
            _ => (kind::MESSAGE, None),
        };
        let fields = a.fields(i as u128, kind, None, clear);
        events.push(commit(&mut chain, a, &fields).unwrap());
    }
    (events, chain, authors)
}

fn seq_of(e: &ChainError) -> u64 {
    match e {
        ChainError::Event { seq, .. }
        | ChainError::Seq { seq, .. }
        | ChainError::Prev { seq }
        | ChainError::OtherCase { seq, .. }
        | ChainError::UnknownAuthor { seq }
        | ChainError::Opening { seq }
        | ChainError::ServerOnly { seq, .. }
        | ChainError::OtherRole { seq, .. }
        | ChainError::Replayed { seq, .. }
        | ChainError::IdReused { seq, .. }
        | ChainError::Head { seq }
        | ChainError::Cut { seq, .. } => *seq,
    }
}

/// What a reader with the signed head finds wrong with these events.
fn trouble(events: &[StoredEvent], head: &chain::Head) -> Option<ChainError> {
    match verify_log(case(), events) {
        Err(e) => Some(e),
        Ok(_) => {
            let hashes: Vec<Digest> = events.iter().map(StoredEvent::hash).collect();
            chain::check_head(case(), &hashes, head).err().or_else(|| {
                (hashes.len() as u64 > head.seq).then_some(ChainError::Seq { seq: head.seq + 1, found: head.seq + 1 })
            })
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_flip_in_a_log_is_found_at_its_event(n in 4usize..9, which in any::<prop::sample::Index>(), part in 0..3, at in any::<prop::sample::Index>(), change in 1u8..0x80) {
        let (mut events, chain, _) = log(n);
        let which = which.index(n);
        let event = &mut events[which];
        // Stored texts are UTF-8: flips that break it are refused before they come here.
        let flip = |text: &mut String| {
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            match String::from_utf8(bytes) { Ok(t) => { *text = t; true } Err(_) => false }
        };
        let changed = match part {
            0 => flip(&mut event.server),
            1 => flip(&mut event.author),
            _ => { event.sig.0[at.index(64)] ^= change; true }
        };
        prop_assume!(changed);
        let found = trouble(&events, &chain.head());
        prop_assert!(found.is_some(), "nothing found");
        let seq = seq_of(&found.unwrap());
        // Server bytes are only proven by the event after them, or by the head.
        let own = which as u64 + 1;
        prop_assert!(seq == own || (part == 0 && seq == own + 1), "event {} was named instead of {}", seq, own);
    }

    #[test]
    fn dropping_swapping_and_repeating_events_is_found_at_the_place(n in 4usize..9, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let (events, chain, _) = log(n);
        let head = chain.head();
        let (a, b) = (a.index(n), b.index(n));
        let mut dropped = events.clone();
        dropped.remove(a);
        prop_assert_eq!(seq_of(&trouble(&dropped, &head).unwrap()), if a == n - 1 { n as u64 } else { a as u64 + 1 });
        let mut repeated = events.clone();
        repeated.insert(b, events[a].clone());
        let first = if b <= a { b as u64 + 1 } else { a.max(b) as u64 + 1 };
        let at = if a == b { a as u64 + 2 } else { first };
        prop_assert_eq!(seq_of(&trouble(&repeated, &head).unwrap()), at);
        if a != b {
            let mut swapped = events.clone();
            swapped.swap(a, b);
            prop_assert_eq!(seq_of(&trouble(&swapped, &head).unwrap()), a.min(b) as u64 + 1);
        }
        let cut = &events[..a];
        prop_assert!(trouble(cut, &head).is_some());
        // An older head still agrees with the longer log.
        let hashes: Vec<Digest> = events.iter().map(StoredEvent::hash).collect();
        let older = verify_log(case(), cut).unwrap().head();
        prop_assert!(chain::check_head(case(), &hashes, &older).is_ok());
    }

    #[test]
    fn nothing_signed_for_another_place_is_taken(n in 4usize..9, which in 3usize..9) {
        let (events, mut chain, authors) = log(n);
        let which = which.min(n - 1);
        let again = &events[which];
        // Sent again as it was.
        assert!(matches!(chain.check_author(&again.author, &again.sig), Err(ChainError::IdReused { .. })));
        // Its content under a new id, but an old number of its device.
        let mut fields = AuthorFields::read(&again.author).unwrap();
        let author = authors.iter().find(|a| Pseudonym(id(0x3000 + u128::from(a.n))) == fields.author).unwrap();
        fields.id = EventId(id(0x9000));
        assert!(matches!(commit(&mut chain, author, &fields), Err(ChainError::Replayed { .. })));
        // For another case.
        fields.device_seq = 1_000;
        fields.case = CaseId(id(2));
        assert!(matches!(commit(&mut chain, author, &fields), Err(ChainError::OtherCase { .. })));
        // By a device nobody knows; by another author's name; with another key.
        fields.case = case();
        let (device, name) = (fields.device, fields.author);
        fields.device = DeviceId(id(0x8000));
        assert!(matches!(commit(&mut chain, author, &fields), Err(ChainError::UnknownAuthor { .. })));
        fields.device = device;
        fields.author = Pseudonym(id(0x8000));
        assert!(matches!(commit(&mut chain, author, &fields), Err(ChainError::UnknownAuthor { .. })));
        fields.author = name;
        let stranger = Author { n: 99, role: Role::Expert, seq: 0 };
        let bad = commit(&mut chain, &stranger, &fields);
        prop_assert!(matches!(bad, Err(ChainError::Event { source: ProtocolError::BadSignature, .. })), "{:?}", bad);
        assert!(commit(&mut chain, author, &fields).is_ok());
    }
}

#[test]
fn only_the_server_speaks_for_the_server() {
    let (_, mut chain, mut authors) = log(4);
    let left = serde_json::to_value(Left { who: Pseudonym(id(0x3002)), why: LeftWhy::Left }).unwrap();
    let rogue = SigningKey::from_bytes(&[66; 32]);

    let expert = &mut authors[2];
    let fields = expert.fields(50, kind::SESSION_LEFT, Some(1), Some(left.clone()));
    assert!(matches!(commit(&mut chain, expert, &fields), Err(ChainError::ServerOnly { .. })));
    // A second `opened` would make another key the server's.
    let fields = expert.fields(51, kind::OPENED, None, Some(opened(&rogue)));
    assert!(matches!(commit(&mut chain, expert, &fields), Err(ChainError::Opening { .. })));
    let fields = authors[0].fields(52, kind::OPENED, None, Some(opened(&rogue)));
    assert!(matches!(commit(&mut chain, &authors[0], &fields), Err(ChainError::Opening { .. })));
    assert_eq!(chain.server_key(), Some(envelope::public_key(&authors[0].key())));
    // Joining as the server, or with another role than before.
    let mut rogue = Author { n: 66, role: Role::Server, seq: 0 };
    let fields = rogue.fields(53, kind::JOINED, None, Some(joined(&rogue)));
    assert!(matches!(commit(&mut chain, &rogue, &fields), Err(ChainError::ServerOnly { .. })));
    let mut tab = Author { n: 67, role: Role::Manager, seq: 0 };
    let mut fields = tab.fields(54, kind::JOINED, None, Some(joined(&tab)));
    fields.author = Pseudonym(id(0x3003));
    assert!(matches!(commit(&mut chain, &tab, &fields), Err(ChainError::OtherRole { .. })));

    let fields = authors[0].fields(55, kind::SESSION_LEFT, Some(1), Some(left));
    commit(&mut chain, &authors[0], &fields).unwrap();
    // A log begins with `opened`.
    let mut empty = Chain::new(case());
    let mut early = Author { n: 5, role: Role::Expert, seq: 0 };
    let fields = early.fields(1, kind::JOINED, None, Some(joined(&early)));
    assert!(matches!(commit(&mut empty, &early, &fields), Err(ChainError::Opening { seq: 1 })));
}

#[test]
fn a_receipt_tells_no_exact_time_outside() {
    let (_, mut chain, mut authors) = log(4);
    let technician = &mut authors[1];
    let mut fields = technician.fields(60, kind::RECEIPT, Some(1), None);
    let malformed = |r: Result<StoredEvent, ChainError>, part| match r {
        Err(ChainError::Event { source: ProtocolError::Malformed { what, .. }, .. }) => assert_eq!(what, part),
        other => panic!("{other:?}"),
    };
    fields.captured_at_ms += 1;
    malformed(commit(&mut chain, technician, &fields), "captured_at_ms");
    fields.captured_at_ms = envelope::coarse(fields.captured_at_ms);
    malformed(commit(&mut chain, technician, &fields), "id");
    fields.id = EventId(Uuid::from_u128(0x1234_5678_0000_4000_8000_0000_0000_0001));
    let event = commit(&mut chain, technician, &fields).unwrap();
    let server = envelope::ServerFields::read(&event.server).unwrap();
    assert_eq!(server.received_at_ms % envelope::COARSE_MS, 0);
}

#[test]
fn heads_prove_their_server_and_version() {
    let (_, chain, authors) = log(4);
    let key = authors[0].key();
    let signed = chain::sign_head(&key, chain.head(), 5);
    assert_eq!(chain::read_head(&signed, &envelope::public_key(&key)).unwrap().head, chain.head());
    let other = envelope::public_key(&authors[1].key());
    assert_eq!(chain::read_head(&signed, &other).unwrap_err(), ProtocolError::BadSignature);
    let text = signed.head.replace("\"v\":1", "\"v\":2");
    let newer = chain::SignedHead { sig: envelope::sign(&key, &text), head: text };
    let found = chain::read_head(&newer, &envelope::public_key(&key)).unwrap_err();
    assert_eq!(found, ProtocolError::NewerVersion { found: 2 });
}

// Sessions

/// Server, technician, expert, second expert, archivist.
const CAST: [Role; 5] = [Role::Server, Role::Technician, Role::Expert, Role::Expert, Role::Archivist];
const KINDS: [&str; 8] = [
    kind::SESSION_CALLED,
    kind::SESSION_JOINED,
    kind::SESSION_LEFT,
    kind::SESSION_ENDED,
    kind::CONSENT_RECORD,
    kind::CONSENT_CALL_ONLY,
    kind::CONSENT_REFUSED,
    kind::NOTICE_SHOWN,
];

fn act() -> impl Strategy<Value = (usize, usize, u128)> {
    // An end is rarer than the rest, or little would happen.
    let kinds = prop_oneof![20 => 0usize..3, 1 => Just(3usize), 20 => 4usize..8];
    (0usize..CAST.len(), kinds, prop_oneof![9 => Just(1u128), 1 => Just(2u128)])
}

fn pseudonym(n: usize) -> Pseudonym {
    Pseudonym(id(0x3000 + n as u128))
}

/// Plays acts; returns the events' fields. Everybody has joined the case before.
fn play(acts: &[(usize, usize, u128)]) -> Vec<AuthorFields> {
    let mut cast: Vec<Author> =
        CAST.iter().enumerate().map(|(n, role)| Author { n: n as u8, role: *role, seq: 0 }).collect();
    let mut out = Vec::new();
    for a in &mut cast[1..] {
        let clear = joined(a);
        out.push(a.fields(out.len() as u128, kind::JOINED, None, Some(clear)));
    }
    for (who, kind, session) in acts {
        let event = out.len() as u128;
        out.push(if KINDS[*kind] == kind::SESSION_LEFT {
            let left = Left { who: pseudonym(*who), why: LeftWhy::Lost };
            cast[0].fields(event, kind::SESSION_LEFT, Some(*session), Some(serde_json::to_value(left).unwrap()))
        } else {
            cast[*who].fields(event, KINDS[*kind], Some(*session), None)
        });
    }
    out
}

fn fold<'a>(events: impl IntoIterator<Item = &'a AuthorFields>) -> Sessions {
    let mut sessions = Sessions::default();
    events.into_iter().for_each(|e| sessions.apply(e));
    sessions
}

/// The last answer somebody gave while in the session, computed the slow way.
fn answer_of(events: &[AuthorFields], session: SessionId, who: Pseudonym) -> Option<Answer> {
    let mut inside = false;
    let mut answer = None;
    for e in events.iter().filter(|e| e.session == Some(session)) {
        match e.kind.as_str() {
            kind::SESSION_ENDED if inside || answer.is_some() || started(events, session, e) => {
                break;
            }
            kind::SESSION_CALLED | kind::SESSION_JOINED if e.author == who => inside |= started(events, session, e),
            kind::CONSENT_RECORD if e.author == who && inside => answer = Some(Answer::Record),
            kind::CONSENT_CALL_ONLY if e.author == who && inside => answer = Some(Answer::CallOnly),
            kind::CONSENT_REFUSED if e.author == who && inside => answer = Some(Answer::Refused),
            _ => {}
        }
    }
    answer
}

/// Was the session called at or before this event?
fn started(events: &[AuthorFields], session: SessionId, until: &AuthorFields) -> bool {
    events
        .iter()
        .take_while(|e| e.captured_at_ms <= until.captured_at_ms)
        .any(|e| e.kind == kind::SESSION_CALLED && e.session == Some(session))
}

fn everything(s: &Session) -> Vec<bool> {
    let mut out = vec![s.may_record(), s.is_waiting()];
    out.extend((0..CAST.len()).map(|n| s.may_call(pseudonym(n))));
    out
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn media_waits_for_answers_and_recording_for_every_yes(acts in proptest::collection::vec(act(), 1..40)) {
        let events = play(&acts);
        for n in 0..=events.len() {
            let so_far = &events[..n];
            for s in &fold(so_far).list {
                for (who, p) in &s.participants {
                    let answer = answer_of(so_far, s.id, *who);
                    prop_assert_eq!(p.answer, answer);
                    if s.may_call(*who) {
                        prop_assert!(p.present && s.ended_at_ms.is_none());
                        match p.role {
                            Role::Archivist => prop_assert!(s.may_record()),
                            _ => prop_assert!(matches!(answer, Some(Answer::Record | Answer::CallOnly))),
                        }
                    }
                    if p.present && p.role != Role::Archivist && answer != Some(Answer::Record) {
                        prop_assert!(!s.may_record(), "recorded without the yes of somebody present");
                    }
                }
                if s.may_record() {
                    prop_assert!(s.participants.values().any(|p| p.present && p.role == Role::Archivist));
                    prop_assert!(s.participants.values().any(|p| p.present && p.role != Role::Archivist));
                    prop_assert!(s.ended_at_ms.is_none());
                }
                prop_assert!(!s.may_call(pseudonym(77)), "media for a stranger");
            }
        }
    }

    #[test]
    fn an_event_heard_twice_changes_nothing(acts in proptest::collection::vec(act(), 1..40)) {
        let events = play(&acts);
        let twice: Vec<AuthorFields> = events.iter().flat_map(|e| [e.clone(), e.clone()]).collect();
        prop_assert_eq!(fold(&events), fold(&twice));
    }

    #[test]
    fn after_the_end_nothing_changes(before in proptest::collection::vec(act(), 1..20), after in proptest::collection::vec(act(), 1..20)) {
        let end = (0, 3, 1);
        let acts: Vec<_> = before.iter().copied().chain([end]).chain(after).collect();
        let events = play(&acts);
        let at_end = fold(&events[..CAST.len() - 1 + before.len() + 1]);
        let later = fold(&events);
        for s in at_end.list.iter().filter(|s| s.ended_at_ms.is_some()) {
            prop_assert_eq!(later.get(s.id), Some(s));
            prop_assert_eq!(everything(s), vec![false; 2 + CAST.len()]);
        }
        if let Some(s) = at_end.get(SessionId(id(0x2001))) {
            prop_assert!(s.ended_at_ms.is_some());
        }
    }

    #[test]
    fn signatures_of_other_lengths_and_alphabets_are_refused(text in "[A-Za-z0-9+/=_-]{0,100}") {
        if let Ok(sig) = text.parse::<Signature>() {
            // What is read has exactly one way to be written.
            prop_assert_eq!(sig.to_string(), text);
        }
    }
}
