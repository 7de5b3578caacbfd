//! Files that fail, disks that are slow, a locked database, an archivist that hangs, clocks that jump: the call never notices, people
//! are told, nothing acknowledged is lost, and every case verifies. The long runs are `fault_loop` and `kill_loop`.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lotse_protocol::{command::ServerMessage, kind};
use lotse_tests::{
    Draft, World,
    away::{self, archivist_is, longest_silence},
    eventually,
    faults::Lock,
    live::PATIENCE,
    recorded::recorded,
    secs,
    writes::{self, ARCHIVIST_WRITES, SERVER_WRITES, Walk},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn whichever_write_of_the_server_fails_once_it_is_refused_with_words_and_the_next_is_taken() {
    let mut rng = StdRng::seed_from_u64(61);
    let numbers: Vec<u64> = (0..10).map(|_| rng.random_range(1..=SERVER_WRITES)).collect();
    writes::of_the_server(61, &numbers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_write_of_the_archivist_fails_once_people_are_told_and_it_records_on() {
    let mut rng = StdRng::seed_from_u64(62);
    let numbers: Vec<u64> = (0..8).map(|_| rng.random_range(1..=ARCHIVIST_WRITES)).collect();
    writes::of_the_archivist(62, &numbers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_write_of_a_first_start_fails_the_second_start_works() {
    let last = writes::of_a_first_start().await;
    assert!(last > 20, "{last}: the layer is under the server");
    let mut rng = StdRng::seed_from_u64(63);
    for n in 0..8 {
        writes::at_a_first_start(rng.random_range(1..=last), writes::ERRORS[n % 2]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_write_of_an_archivists_first_start_fails_its_pairing_code_counts() {
    let last = writes::of_an_archivists_first_start(None).await;
    assert!(last > 5, "{last}: the layer is under the archivist");
    for number in 1..=last {
        writes::of_an_archivists_first_start(Some((number, writes::ERRORS[number as usize % 2]))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_write_of_the_glasses_fails_they_call_and_find_their_case_after_a_restart() {
    let walk = Walk::begin(70).await;
    let last = walk.without_fault().await;
    assert!(last > 10, "{last}: the layer is under the glasses");
    let mut rng = StdRng::seed_from_u64(70);
    // One of each third: pairing, a call, and the next with its restart.
    for n in 0..3 {
        let number = rng.random_range(1..=last / 3) + n as u64 * (last / 3);
        walk.with_fault(number, writes::ERRORS[n % 2]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn glasses_whose_every_write_fails_for_a_while_call_on_and_find_their_case_after_a_restart() {
    let world = World::seeded(64).await;
    let settings = world.glasses("helmet-1");
    let data = world.path("helmet-1").join("data");
    let (settings, faults) = settings.with_faults(&world.path("glasses.faults"), std::slice::from_ref(&data));
    let mut glasses = settings.start().await;
    glasses.shows("calling").await;
    let expert = world.person("expert").await;
    let waiting = expert.call_waiting(|_| true).await;
    let (case, session) = (waiting.summary.case, waiting.session);
    // The next thing that the glasses remember fails once: that the session is over, and then the next session.
    glasses.say("END_CALL").await;
    glasses.say("CONFIRM").await;
    expert
        .live
        .until("the call is gone", 0, |m| match m {
            ServerMessage::Queue { calls } if calls.iter().all(|c| c.session != session) => Some(()),
            _ => None,
        })
        .await;
    eventually("the glasses know", PATIENCE, async || {
        ["home", "ended"].contains(&glasses.state()["screen"].as_str()?).then_some(())
    })
    .await;
    faults.fail(1, libc::EIO);
    let mark = expert.live.mark();
    glasses.say("CALL").await;
    let again = expert
        .live
        .until("the next call", mark, |m| match m {
            ServerMessage::Queue { calls } => calls.iter().find(|c| c.waiting && c.session != session).cloned(),
            _ => None,
        })
        .await;
    eventually("a write fails", PATIENCE, async || (faults.failed() > 0).then_some(())).await;
    // Tried again by itself.
    eventually("the case is remembered", PATIENCE, async || {
        let text = std::fs::read_to_string(data.join("state.json")).unwrap_or_default();
        text.contains(&again.session.to_string()).then_some(())
    })
    .await;
    glasses.program.kill9();
    glasses.program.start().await;
    expert.take(again.summary.case, again.session).await;
    assert_eq!(again.summary.case, case);
    glasses.shows("consent").await;
    glasses.program.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_disks_that_take_long_to_sync_the_voice_never_waits_and_all_of_it_is_kept() {
    let (world, server, archivist) = World::with_faults(65).await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    call.talking(async {
        call.segments_after(0).await;
        let since = Instant::now();
        let slow = secs(2);
        server.slow(slow);
        // Each fragment of each voice waits for the disk several times; it keeps up with this.
        archivist.slow(Duration::from_millis(300));
        for n in 0..4 {
            let asked = Instant::now();
            acknowledged.push(call.note(format!("slow {n}")).await.unwrap());
            assert!(asked.elapsed() >= slow, "acknowledged before it was durable: {:?}", asked.elapsed());
        }
        let before = call.count(kind::SEGMENT);
        call.segments_after(before).await;
        let silence = longest_silence(&call, since);
        assert!(silence < secs(1), "the voice waited for a disk: {silence:?}");
        server.slow(Duration::ZERO);
        archivist.slow(Duration::ZERO);
        let before = call.count(kind::SEGMENT);
        call.segments_after(before).await;
    })
    .await;
    call.ends_and_verifies(&world).await;
    call.has_all(&acknowledged).await;
    let gaps = call.kept_or_declared().await;
    assert!(gaps.is_empty(), "a slow disk costs nothing that is recorded: {gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_another_program_locks_the_database_commits_wait_or_are_refused_and_the_call_goes_on() {
    let world = World::seeded(66).await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    call.talking(async {
        call.segments_after(0).await;
        let database = world.path("server").join("lotse.sqlite");
        let since = Instant::now();
        let lock = Lock::of(&database).await;
        let (noted, ()) = tokio::join!(call.note("waits".into()), async {
            call.hear_each_other().await;
            drop(lock);
        });
        acknowledged.push(noted.expect("some seconds are waited for"));

        let lock = Lock::of(&database).await;
        // While it is locked, whoever looks after the machine asks often, and reading goes on.
        let asked = async {
            for _ in 0..12 {
                let ready = reqwest::get(format!("{}/readyz", world.url)).await.unwrap();
                assert_eq!(ready.status(), 503);
                call.expert.get("/api/v1/cases").await.unwrap();
            }
        };
        let before = async {
            let note = Draft::of(kind::MESSAGE).session(call.session).payload(&json!({ "text": "before it" }));
            call.expert.commit(call.case, note).await.unwrap_err().code
        };
        // Whoever comes while somebody waits for the lock is told with them, and waits no second time.
        let after = async {
            let ready = reqwest::get(format!("{}/readyz", world.url)).await.unwrap();
            assert_eq!(ready.status(), 503, "said after a second without an answer");
            let sent = Instant::now();
            let code = call.note("too long".into()).await.unwrap_err().code;
            (code, sent.elapsed())
        };
        let (before, (code, waited), ()) = tokio::join!(before, after, asked);
        assert_eq!([before.as_str(), code.as_str()], ["storage"; 2]);
        // The rest of one wait of 4 s; one more for its own would make 7.
        assert!(waited < secs(6), "{waited:?}");
        call.hear_each_other().await;
        assert!(world.server.log().contains("End the program that has lotse.sqlite open"), "the operator is told");
        drop(lock);
        eventually("it is taken again", PATIENCE, async || match call.note("after".into()).await {
            Ok(id) => {
                acknowledged.push(id);
                Some(())
            }
            Err(_) => None,
        })
        .await;
        let silence = longest_silence(&call, since);
        assert!(silence < secs(1), "the voice waited for the database: {silence:?}");
        let before = call.count(kind::SEGMENT);
        call.segments_after(before).await;
    })
    .await;
    call.ends_and_verifies(&world).await;
    call.has_all(&acknowledged).await;
    let gaps = call.kept_or_declared().await;
    assert!(gaps.is_empty(), "the archivist waits with its events: {gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archivist_that_hangs_is_seen_to_be_gone_and_declares_the_gap_when_it_is_back() {
    let world = World::seeded(67).await;
    let call = recorded(&world).await;
    call.talking(async {
        call.segments_after(0).await;
        let since = Instant::now();
        let mark = call.expert.live.mark();
        world.archivist.signal(libc::SIGSTOP);
        // 15 s of silence, and 20 s more until it counts as lost.
        let told = |m: &ServerMessage| matches!(m, ServerMessage::Archivist { present: false }).then_some(());
        call.expert.live.until_within("that nothing is recorded", mark, secs(60), told).await;
        let session = archivist_is(&call, false).await;
        assert!(!session.may_record());
        call.hear_each_other().await;
        world.archivist.signal(libc::SIGCONT);
        archivist_is(&call, true).await;
        let before = call.count(kind::SEGMENT);
        call.segments_after(before).await;
        let silence = longest_silence(&call, since);
        assert!(silence < secs(1), "the voice noticed: {silence:?}");
    })
    .await;
    call.ends_and_verifies(&world).await;
    let gaps = call.kept_or_declared().await;
    assert!(gaps[0].to_us - gaps[0].from_us > 20_000_000, "{gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_archivist_is_killed_and_away_the_call_goes_on_and_what_is_missing_is_declared() {
    // Longer than the 20 s after which it counts as lost.
    let found = away::for_so_long(69, secs(26)).await;
    assert!(found.notes > 2, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_by_an_hour_end_no_session_and_no_recording() {
    let (world, server, archivist) = World::with_faults(68).await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    call.talking(async {
        call.segments_after(0).await;
        let since = Instant::now();
        for (of_server, of_archivist) in [(3_600, 0), (-3_600, 0), (-3_600, -3_600), (0, 3_600), (0, 0)] {
            server.shift_clock(of_server);
            archivist.shift_clock(of_archivist);
            acknowledged.push(call.note(format!("{of_server} s, {of_archivist} s")).await.unwrap());
            // Everything once under this clock: fragments, the clock measured anew, a token of before, a new login.
            let before = call.count(kind::SEGMENT);
            call.segments_after(before).await;
            let reply = call.technician.get(&format!("/api/v1/cases/{}/items/{}", call.case, "0".repeat(64))).await;
            assert_eq!(reply.unwrap_err().code, "no_such_item", "the token of before still counts");
            world.person("manager").await;
        }
        assert!(server.clocked() > 0 && archivist.clocked() > 0, "both asked the layer for the time");
        call.hear_each_other().await;
        let silence = longest_silence(&call, since);
        assert!(silence < secs(1), "the voice noticed: {silence:?}");
    })
    .await;
    assert_eq!(call.count(kind::RECORDING_STOPPED), 0, "it recorded throughout");
    call.ends_and_verifies(&world).await;
    call.has_all(&acknowledged).await;
    let gaps = call.kept_or_declared().await;
    assert!(gaps.is_empty(), "{gaps:?}");
}
