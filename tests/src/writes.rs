//! Every change of a file fails once: what must hold whichever it is. Tests try some of them, `fault_loop` all.
//!
//! Owns: what is done meanwhile and what is checked. Elsewhere: the layer that fails (`faults`), the session (`recorded`).

use lotse_payload::recording::GapWhy;
use lotse_protocol::{id::ItemKey, item, kind};

use crate::{World, eventually, live::PATIENCE, recorded::recorded, secs};

/// What the disk says: broken, full.
pub const ERRORS: [i32; 2] = [libc::EIO, libc::ENOSPC];
/// A note and an upload, beside the archivist's events, change files at most this often.
pub const SERVER_WRITES: u64 = 40;
/// More than two voices change files within a fragment of 2 s.
pub const ARCHIVIST_WRITES: u64 = 100;

/// In one recorded session, for each of these numbers: the change of a file of that number from then on fails once.
pub async fn of_the_server(seed: u64, numbers: &[u64]) {
    let (mut world, faults, _) = World::with_faults(seed).await;
    let mut call = recorded(&world).await;
    let mut acknowledged = Vec::new();
    call.talking(async {
        call.segments_after(0).await;
        for (n, number) in numbers.iter().enumerate() {
            faults.fail(*number, ERRORS[n % 2]);
            let mut tries = 0;
            while faults.failed() == n as u64 {
                tries += 1;
                assert!(tries < 100, "no write of the server passes through the layer");
                match call.note(format!("note {n}.{tries}")).await {
                    Ok(id) => acknowledged.push(id),
                    Err(refusal) => {
                        assert_eq!(refusal.code, "storage", "{}: {}", faults.what(), refusal.message);
                        assert!(refusal.message.contains("Try again"), "{}", refusal.message);
                    }
                }
                let sealed = item::seal(ItemKey(rand::random()), &[n as u8; 200_000]);
                if let Err(refusal) = call.technician.put_item(call.case, sealed.digest, sealed.bytes.clone()).await {
                    let code = refusal.code.as_str();
                    assert!(["storage", "broken"].contains(&code), "{}: {refusal:?}", faults.what());
                    // The same bytes are taken the next time.
                    call.technician.put_item(call.case, sealed.digest, sealed.bytes).await.unwrap();
                }
            }
            eprintln!("change {number} from then on failed once: {}", faults.what());
            acknowledged.push(call.note(format!("after {n}")).await.expect("it failed once, not twice"));
        }
        call.hear_each_other().await;
        let before = call.count(kind::SEGMENT);
        call.segments_after(before).await;
    })
    .await;
    assert!(world.server.is_running());
    call.ends_and_verifies(&world).await;
    call.has_all(&acknowledged).await;
    let gaps = call.kept_or_declared().await;
    assert!(gaps.is_empty(), "the archivist says its events again: {gaps:?}");
}

/// The same of the archivist.
pub async fn of_the_archivist(seed: u64, numbers: &[u64]) {
    let (mut world, _, faults) = World::with_faults(seed).await;
    let call = recorded(&world).await;
    call.talking(async {
        call.segments_after(0).await;
        for (n, number) in numbers.iter().enumerate() {
            faults.fail(*number, ERRORS[n % 2]);
            eventually("a write fails", PATIENCE, async || (faults.failed() > n as u64).then_some(())).await;
            eprintln!("change {number} from then on failed once: {}", faults.what());
            let before = call.count(kind::SEGMENT);
            call.segments_after(before).await;
        }
        call.hear_each_other().await;
    })
    .await;
    assert!(world.archivist.is_running());
    assert!(call.count(kind::RECORDING_STOPPED) > 0, "whoever is recorded sees that it stopped");
    call.ends_and_verifies(&world).await;
    let gaps = call.kept_or_declared().await;
    let short = |us: i64| us < secs(6).as_micros() as i64;
    assert!(gaps.iter().all(|g| g.why == GapWhy::Disk && short(g.to_us - g.from_us)), "{gaps:?}");
}

/// How often the server changes a file when it starts for the first time.
pub async fn of_a_first_start() -> u64 {
    let mut world = World::planned(0);
    let (faults, _) = world.lay_faults();
    world.server.start().await;
    faults.counted()
}

/// The change of this number fails at a first start: it ends with words or serves, and the second start serves.
pub async fn at_a_first_start(number: u64, errno: i32) {
    let mut world = World::planned(0);
    let (faults, _) = world.lay_faults();
    faults.fail(number, errno);
    if let Err(status) = world.server.try_start().await {
        assert_eq!(status.code(), Some(1), "{}", faults.what());
        assert!(world.server.log().contains("lotse-server: "), "{}: it says why", faults.what());
    }
    eprintln!("change {number} of a first start failed once: {}", faults.what());
    world.server.kill9();
    world.server.start().await;
    world.server.assert_no_panic();
}
