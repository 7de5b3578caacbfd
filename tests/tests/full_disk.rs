//! A disk that is really full: what was acknowledged stays, people are told what to do, the call goes on, and everything works
//! again once there is space, without a restart.
#![allow(clippy::unwrap_used)]

use lotse_payload::recording::{GapPayload, GapWhy, RecordingStopped, SegmentPayload, StopWhy};
use lotse_protocol::{
    id::{CaseId, EventId, ItemKey, SessionId},
    item, kind,
};
use lotse_tests::{Draft, Person, World, disk::Full, eventually, live::PATIENCE, media::Leg, person, secs};
use lotse_verify::report::Verdict;
use serde_json::json;

/// Two people with voices in a recorded session.
struct Recorded {
    technician: Person,
    expert: Person,
    case: CaseId,
    session: SessionId,
    legs: [Leg; 2],
}

async fn recorded(world: &World) -> Recorded {
    let technician = world.technician("helmet-1").await;
    let expert = world.person("expert").await;
    let case = technician.new_case("p-204").await;
    let session = technician.call(case).await;
    expert.take(case, session).await;
    let mut legs = Vec::new();
    for person in [&technician, &expert] {
        person.answer(case, session, kind::CONSENT_RECORD).await;
        let leg = person.connect_media(case, session, true).await;
        leg.connected().await;
        legs.push(leg);
    }
    Recorded { technician, expert, case, session, legs: legs.try_into().ok().unwrap() }
}

impl Recorded {
    /// Both talk while the story is told.
    async fn talking<T>(&self, story: impl Future<Output = T>) -> T {
        let [t, e] = &self.legs;
        tokio::select! {
            () = async { loop { tokio::join!(t.speak(440.0, secs(5)), e.speak(1_000.0, secs(5))); } } => unreachable!(),
            out = story => out,
        }
    }

    /// Each still hears the other.
    async fn hear_each_other(&self) {
        let heard = || self.legs.iter().map(Leg::total).collect::<Vec<_>>();
        let before = heard();
        eventually("both still hear the other", PATIENCE, async || {
            heard().iter().zip(&before).all(|(now, before)| *now > before + 50).then_some(())
        })
        .await;
    }

    async fn note(&self, text: String) -> Result<EventId, lotse_tests::Refusal> {
        let note = Draft::of(kind::MESSAGE).session(self.session).payload(&json!({ "text": text }));
        self.technician.commit(self.case, note).await
    }

    async fn segments_after(&self, seen: usize) {
        eventually("recorded fragments", secs(40), async || {
            let log = self.technician.log(self.case);
            (log.iter().filter(|(f, _)| f.kind == kind::SEGMENT).count() >= seen + 4).then_some(())
        })
        .await;
    }

    /// Ends the session; the bundle proves itself.
    async fn ends_and_verifies(&self, world: &World) {
        let end = Draft::of(kind::SESSION_ENDED).session(self.session);
        self.technician.commit(self.case, end).await.unwrap();
        let stopped = async || {
            let log = self.technician.log(self.case);
            let count = |kind| log.iter().filter(|(f, _)| f.kind == kind).count();
            (count(kind::RECORDING_STARTED) == count(kind::RECORDING_STOPPED)).then_some(())
        };
        eventually("the recording ends", PATIENCE, stopped).await;
        let bundle = world.person("manager").await.bundle(self.case).await;
        let report = person::verify(&bundle, world.fingerprint(&self.technician));
        assert_eq!(report.verdict(), Verdict::Authentic, "{}", report.to_text(lotse_verify::Language::En));
        assert!(report.absent.is_empty(), "{:?}", report.absent);
        world.assert_no_panic();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_server_refuses_keeps_what_it_acknowledged_and_goes_on_when_there_is_space() {
    let mut world = World::planned(55);
    world.seed_demo().await;
    let data = world.path("server");
    world.server.on_small_disk(&data, 12);
    world.server.start().await;
    let code = world.codes["archivist"].clone();
    world.archivist.set("LOTSE_SERVER_PAIRING_CODE", &code);
    world.archivist.start().await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    call.talking(async {
        call.segments_after(0).await;
        for n in 0..5 {
            acknowledged.push(call.note(format!("before {n}")).await.unwrap());
        }
        let full = Full::fill(&world.server.path_inside(&data));
        // What still fits into pages that are there is taken; then nothing is.
        let refusal = loop {
            match call.note("x".repeat(10_000)).await {
                Ok(id) => acknowledged.push(id),
                Err(refusal) => break refusal,
            }
            assert!(acknowledged.len() < 2_000, "the disk is not full");
        };
        assert_eq!(refusal.code, "storage");
        assert!(refusal.message.contains("free space on its disk"), "{}", refusal.message);
        let sealed = item::seal(ItemKey([5; 32]), &[9; 200_000]);
        let refusal = call.technician.put_item(call.case, sealed.digest, sealed.bytes.clone()).await.unwrap_err();
        assert_eq!((refusal.status, refusal.code.as_str()), (503, "storage"));
        // The call does not notice.
        call.hear_each_other().await;
        assert!(world.server.log().contains("Free space where [data] dir lies"), "the operator is told");

        drop(full);
        acknowledged.push(call.note("after".into()).await.unwrap());
        call.technician.put_item(call.case, sealed.digest, sealed.bytes).await.unwrap();
        let before = call.technician.log(call.case).iter().filter(|(f, _)| f.kind == kind::SEGMENT).count();
        call.segments_after(before).await;
    })
    .await;
    assert!(world.server.is_running());
    call.expert.reconnect().await;
    call.expert.open(call.case, 0).await.unwrap();
    eventually("the whole log", PATIENCE, async || {
        let log = call.expert.log(call.case);
        acknowledged.iter().all(|id| log.iter().any(|(f, _)| f.id == *id)).then_some(())
    })
    .await;
    call.ends_and_verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_archivist_stops_the_recording_and_it_begins_again_by_itself() {
    let mut world = World::with_server(56).await;
    let data = world.path("archivist");
    world.archivist.on_small_disk(&data, 12);
    world.archivist.start().await;
    let call = recorded(&world).await;
    call.talking(async {
        call.segments_after(0).await;
        let full = Full::fill(&world.archivist.path_inside(&data));
        // Everybody sees that nothing is recorded, and why.
        let (fields, sent) = call.expert.event_within(call.case, kind::RECORDING_STOPPED, secs(20), |_| true).await;
        let stopped: RecordingStopped = call.expert.payload(call.case, &fields, &sent).await;
        assert_eq!(stopped.why, StopWhy::Disk);
        let health = reqwest::get(format!("{}/archive/healthz", world.url)).await.unwrap();
        assert_eq!(health.status(), 503);
        let said = health.text().await.unwrap();
        assert!(said.contains("Free space") && said.contains("by itself"), "{said}");
        call.hear_each_other().await;

        drop(full);
        eventually("the recording begins again", PATIENCE, async || {
            let log = call.expert.log(call.case);
            (log.iter().filter(|(f, _)| f.kind == kind::RECORDING_STARTED).count() == 2).then_some(())
        })
        .await;
        let before = call.technician.log(call.case).iter().filter(|(f, _)| f.kind == kind::SEGMENT).count();
        call.segments_after(before).await;
    })
    .await;
    assert!(world.archivist.is_running());
    let health = reqwest::get(format!("{}/archive/healthz", world.url)).await.unwrap();
    assert_eq!(health.status(), 200, "well again");
    call.ends_and_verifies(&world).await;

    // Each voice is recorded or declared missing, all the time from the first fragment to the last.
    let (mut segments, mut gaps) = (Vec::new(), Vec::new());
    for (fields, sent) in call.expert.log(call.case) {
        match fields.kind.as_str() {
            kind::SEGMENT => segments.push(call.expert.payload::<SegmentPayload>(call.case, &fields, &sent).await),
            kind::GAP => gaps.push(call.expert.payload::<GapPayload>(call.case, &fields, &sent).await),
            _ => {}
        }
    }
    for person in [&call.technician, &call.expert] {
        let me = person.me(call.case);
        let mut known: Vec<(i64, i64)> = segments
            .iter()
            .filter(|s| s.owner == me)
            .map(|s| (s.start_us, s.end_us))
            .chain(gaps.iter().filter(|g| g.owner == me).map(|g| (g.from_us, g.to_us)))
            .collect();
        known.sort_unstable();
        let disk: Vec<_> = gaps.iter().filter(|g| g.owner == me && g.why == GapWhy::Disk).collect();
        assert_eq!(disk.len(), 1, "{gaps:?}");
        assert!(disk[0].to_us - disk[0].from_us > 1_000_000, "{disk:?}");
        let mut until = known[0].0;
        for (from, to) in known {
            assert!(from - until < 100_000, "{} µs are neither recorded nor declared missing", from - until);
            until = until.max(to);
        }
    }
}
