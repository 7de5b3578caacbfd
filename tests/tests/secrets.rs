//! What lies on the disks after a whole session: the server's has nothing that people said, showed or are called.
#![allow(clippy::unwrap_used)]

use lotse_payload::{case_card::CaseCard, message::FileInfo};
use lotse_protocol::{kind, signal::TrackSource};
use lotse_tests::{Draft, World, disk, eventually, secs};

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_data_folder_holds_no_words_no_names_no_keys() {
    let mut world = World::seeded(31).await;
    let technician = world.technician("helmet-1").await;
    let expert = world.person("expert").await;
    let case = technician.new_case("p-204").await;
    let card = CaseCard {
        title: "Gleitringdichtung-tropft-9f31".into(),
        asset: "Kreiselpumpe".into(),
        customer: "Hydroserv".into(),
        site: "Halle".into(),
    };
    technician.commit(case, Draft::of(kind::CARD).payload(&card)).await.unwrap();
    let session = technician.call(case).await;
    expert.take(case, session).await;
    technician.answer(case, session, kind::CONSENT_RECORD).await;
    expert.answer(case, session, kind::CONSENT_RECORD).await;
    let t = technician.connect_media(case, session, true).await;
    let e = expert.connect_media(case, session, true).await;
    t.connected().await;
    e.connected().await;
    let me = technician.me(case);

    // A file above the inline limit goes through the upload, a word through the socket, a voice through the SFU.
    let large: Vec<u8> = b"pump-drawing-confidential-51c2 ".iter().copied().cycle().take(300_000).collect();
    let message = lotse_payload::Message {
        text: "Anzugsmoment-35-Nm-streng-vertraulich".into(),
        file: Some(FileInfo { name: "Zeichnung-geheim.pdf".into(), mime: "application/pdf".into(), size: 300_000 }),
    };
    expert.commit(case, Draft::of(kind::MESSAGE).payload(&message).attached(large.clone())).await.unwrap();
    let talk = async { tokio::join!(t.speak(440.0, secs(5)), e.speak(1_000.0, secs(5))) };
    let (_, (fields, sent)) = tokio::join!(talk, technician.event(case, kind::MESSAGE, |_| true));
    // It did arrive, readable, for those it was meant for.
    let got: lotse_payload::Message = technician.payload(case, &fields, &sent).await;
    assert_eq!(got, message);
    assert_eq!(technician.item(case, fields.attachments[0], &sent).await, large);
    let voice: Vec<Vec<u8>> =
        e.packets(me, TrackSource::Voice).iter().filter(|p| p.payload.len() > 40).map(|p| p.payload.to_vec()).collect();
    assert!(voice.len() > 50);
    technician.event(case, kind::SEGMENT, |_| true).await;
    technician.commit(case, Draft::of(kind::SESSION_ENDED).session(session)).await.unwrap();
    technician.event(case, kind::RECORDING_STOPPED, |_| true).await;

    let keys: Vec<Vec<u8>> = technician
        .log(case)
        .iter()
        .flat_map(|(_, s)| s.items.iter().filter_map(|i| i.key))
        .flat_map(|k| [k.0.to_vec(), k.to_string().into_bytes()])
        .collect();
    assert!(keys.len() > 10);
    let mut needles: Vec<&[u8]> = vec![
        b"tropft-9f31",
        b"streng-vertraulich",
        b"pump-drawing-confidential",
        b"Zeichnung-geheim",
        lotse_tests::world::PASSWORD.as_bytes(),
    ];
    needles.extend(keys.iter().map(Vec::as_slice));
    needles.extend(voice.iter().take(40).map(Vec::as_slice));
    // Power off: what a thief of the disk finds, journals included.
    world.server.kill9();
    world.archivist.kill9();
    assert_eq!(disk::holding(&world.path("server"), &needles), []);
    // Its logs, too, have neither words nor keys; nor do the archivist's.
    let logs: Vec<_> = ["server.log", "archivist.log"].iter().map(|l| world.path(l)).collect();
    for log in logs {
        let bytes = std::fs::read(&log).unwrap_or_default();
        for needle in &needles {
            assert!(!bytes.windows(needle.len()).any(|w| w == *needle), "{} holds a secret", log.display());
        }
    }
    // The archivist's disk has the recording sealed: no Opus packet of the call stands there in clear.
    let voices: Vec<&[u8]> = voice.iter().take(40).map(Vec::as_slice).collect();
    assert_eq!(disk::holding(&world.path("archivist"), &voices), []);
    // Secret keys live beside the data, for their owner alone.
    use std::os::unix::fs::PermissionsExt as _;
    for folder in ["server-keys", "archivist-keys"] {
        let found = disk::files(&world.path(folder));
        assert!(!found.is_empty(), "{folder}");
        for file in found.iter().chain([&world.path(folder)]) {
            let mode = std::fs::metadata(file).unwrap().permissions().mode() & 0o077;
            assert_eq!(mode, 0, "{} may be read by others", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_leaves_nothing_in_clear_at_the_archivist() {
    let world = World::seeded(32).await;
    let technician = world.technician("helmet-1").await;
    let case = technician.new_case("p-204").await;
    let message = lotse_payload::Message { text: "nur-im-buendel-lesbar-77aa".into(), file: None };
    technician.call(case).await;
    technician.commit(case, Draft::of(kind::MESSAGE).payload(&message)).await.unwrap();
    technician.session_is(case, "the archivist has come", |s| s.participants.len() > 1).await;
    let manager = world.person("manager").await;
    let bundle = manager.bundle(case).await;
    assert!(bundle.windows(26).any(|w| w == b"nur-im-buendel-lesbar-77aa"), "the bundle is in clear");
    eventually("the archivist tidies up", secs(10), async || {
        disk::holding(&world.path("archivist"), &[b"nur-im-buendel-lesbar-77aa"]).is_empty().then_some(())
    })
    .await;
}
