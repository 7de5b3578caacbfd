//! A way to the server that narrows and widens: the glasses send what it carries, and the case keeps what came.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lotse_payload::{LinkState, LinkStatePayload, LinkTrouble, recording::SegmentPayload};
use lotse_protocol::{kind, signal::TrackSource};
use lotse_tests::{
    World,
    call::{Call, PATIENCE, Part},
    eventually,
    media::Got,
    network::Faults,
    secs,
};

fn rate(kbit: f64) -> Faults {
    Faults { rate_bps: Some(kbit * 1e3), delay: Duration::from_millis(25), ..Faults::default() }
}

/// When the last packets of pictures came, since then.
fn pictures(call: &Call, since: Instant) -> Vec<Duration> {
    let packets = call.leg.packets(call.technician, TrackSource::Main);
    packets.iter().filter(|p| p.marker && p.at >= since).map(|p| p.at - since).collect()
}

/// kbit/s of the picture over the last seconds.
fn kbit(call: &Call, seconds: u64) -> usize {
    let packets = call.leg.packets(call.technician, TrackSource::Main);
    let late = packets.iter().filter(|p| p.at.elapsed() < secs(seconds));
    late.map(|p| p.payload.len()).sum::<usize>() * 8 / 1_000 / seconds as usize
}

/// Part of a voice's packets that never came, by their numbers.
fn lost(packets: &[Got]) -> f64 {
    let Some(first) = packets.first().map(|p| p.seq) else { return 1.0 };
    let mut numbers: Vec<i16> = packets.iter().map(|p| p.seq.wrapping_sub(first) as i16).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let all = f64::from(numbers[numbers.len() - 1] - numbers[0]) + 1.0;
    1.0 - numbers.len() as f64 / all
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_link_that_narrows_the_call_goes_on_with_smaller_pictures_and_grows_again() {
    let world = World::seeded(71).await;
    let link = world.link().await;
    link.set(rate(2_500.0));
    let glasses = world.glasses("helmet-1").behind(&link).start().await;
    let call = Call::recorded(&world, &glasses, Part::Talks).await;
    call.sees(PATIENCE).await;
    eventually("the whole picture", PATIENCE, async || (kbit(&call, 3) > 1_000).then_some(())).await;

    let narrow = Instant::now();
    link.set(rate(300.0));
    tokio::time::sleep(secs(15)).await;
    let came = pictures(&call, narrow);
    let gaps = [Duration::ZERO].iter().chain(&came).zip(&came).map(|(a, b)| *b - *a);
    let longest = gaps.max().unwrap();
    println!("{} pictures in 15 s, {} kbit/s in the last five, {longest:?} without one", came.len(), kbit(&call, 5));
    assert!(longest < secs(5), "{longest:?} without a picture");
    assert!(came.iter().filter(|at| **at > secs(5)).count() > 30, "{came:?}");
    let voice = call.leg.packets(call.technician, TrackSource::Voice);
    let voice: Vec<Got> = voice.into_iter().filter(|p| p.at > narrow + secs(3)).collect();
    println!("{} packets of the voice, {:.1} % lost", voice.len(), 100.0 * lost(&voice));
    assert!(voice.len() > 300 && lost(&voice) < 0.05, "the voice goes first");
    let said = link_states(&call).await;
    assert!(said.contains(&(LinkState::Poor, Some(LinkTrouble::Slow))), "{said:?}");

    link.set(rate(20_000.0));
    eventually("the whole picture again", PATIENCE, async || (kbit(&call, 3) > 1_000).then_some(())).await;
    eventually("a good link in the case", PATIENCE, async || {
        (link_states(&call).await.last() == Some(&(LinkState::Good, None))).then_some(())
    })
    .await;
    call.end().await;
    call.proven_bundle(&world).await;

    // Each size has fragments of its own; nothing but what the link swallowed is missing.
    let mut widths = Vec::new();
    for (fields, sent) in call.expert.log(call.case).iter().filter(|(f, _)| f.kind == kind::SEGMENT) {
        let segment: SegmentPayload = call.expert.payload(call.case, fields, sent).await;
        if segment.info.source == TrackSource::Main {
            widths.push((segment.rtp_start, segment.info.width));
        }
    }
    widths.sort_unstable();
    widths.dedup_by_key(|(_, width)| *width);
    let widths: Vec<u16> = widths.into_iter().map(|(_, width)| width).collect();
    assert_eq!(widths, [1_280, 640, 1_280]);
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

async fn link_states(call: &Call) -> Vec<(LinkState, Option<LinkTrouble>)> {
    let mut states = Vec::new();
    for (fields, sent) in call.expert.log(call.case).iter().filter(|(f, _)| f.kind == kind::LINK_STATE) {
        let state: LinkStatePayload = call.expert.payload(call.case, fields, sent).await;
        states.push((state.state, state.why));
    }
    states
}
