//! A link that changes: rate and pace of the picture follow what it carries, nobody is left with a frozen picture, and the case says how the link was.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lotse_payload::{LinkState, LinkStatePayload, LinkTrouble};
use lotse_protocol::{kind, signal::TrackSource};
use lotse_tests::{
    World,
    call::{Call, PATIENCE, Part},
    eventually,
    network::Faults,
    secs,
};

/// Packets of the glasses' picture that came since then: bit/s, pictures, and the longest time without one.
fn since(call: &Call, then: Instant) -> (f64, usize, Duration) {
    let packets = call.leg.packets(call.technician, TrackSource::Main);
    let fresh: Vec<_> = packets.iter().filter(|p| p.at >= then).collect();
    let bytes: usize = fresh.iter().map(|p| p.payload.len()).sum();
    let mut ends: Vec<Instant> = fresh.iter().filter(|p| p.marker).map(|p| p.at).collect();
    let pictures = ends.len();
    ends.insert(0, then);
    ends.push(Instant::now());
    let longest = ends.windows(2).map(|w| w[1].saturating_duration_since(w[0])).max().unwrap();
    (bytes as f64 * 8.0 / then.elapsed().as_secs_f64(), pictures, longest)
}

/// What the glasses filed of their link.
async fn filed(call: &Call) -> Vec<LinkStatePayload> {
    let mut states = Vec::new();
    for (fields, sent) in call.expert.log(call.case) {
        if fields.kind == kind::LINK_STATE {
            assert_eq!(fields.author, call.technician);
            states.push(call.expert.payload(call.case, &fields, &sent).await);
        }
    }
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_follows_a_link_that_narrows_and_is_whole_again_when_it_widens() {
    let world = World::seeded(81).await;
    let link = world.link().await;
    let glasses = world.glasses("helmet-1").behind(&link).start().await;
    let call = Call::recorded(&world, &glasses, Part::Listens).await;
    let wide = Faults { delay: Duration::from_millis(25), ..Faults::default() };
    link.set(wide);
    eventually("the whole picture", PATIENCE, async || {
        let then = Instant::now();
        tokio::time::sleep(secs(2)).await;
        (since(&call, then).0 > 900e3).then_some(())
    })
    .await;

    let narrowed = Instant::now();
    link.set(Faults { rate_bps: Some(300e3), ..wide });
    tokio::time::sleep(secs(12)).await;
    let (_, _, frozen) = since(&call, narrowed);
    assert!(frozen < secs(5), "a picture stood for {frozen:?}");
    let then = Instant::now();
    tokio::time::sleep(secs(6)).await;
    let (bps, pictures, longest) = since(&call, then);
    assert!((60e3..300e3).contains(&bps), "{bps:.0} bit/s of picture over a link of 300 kbit/s");
    assert!(pictures >= 18, "{pictures} pictures in 6 s, none for {longest:?}");
    // Sharing the link with the picture, the voice comes whole.
    let voice = call.leg.packets(call.technician, TrackSource::Voice);
    let heard = voice.iter().filter(|p| p.at >= then).count();
    assert!(heard >= 250, "{heard} voice packets of 20 ms in 6 s");
    let slow = filed(&call).await;
    let last = slow.last().expect("the case knows of it");
    assert_eq!((last.state, last.why), (LinkState::Poor, Some(LinkTrouble::Slow)), "{slow:?}");

    link.set(wide);
    eventually("the whole picture again", PATIENCE, async || {
        let then = Instant::now();
        tokio::time::sleep(secs(2)).await;
        let (bps, pictures, _) = since(&call, then);
        (bps > 900e3 && pictures > 35).then_some(())
    })
    .await;
    eventually("good again, for the case too", PATIENCE, async || {
        filed(&call).await.last().filter(|s| s.state == LinkState::Good).map(drop)
    })
    .await;

    let before = filed(&call).await.len();
    link.cut_for(secs(6)).await;
    let outage = eventually("an outage is filed once it is over", PATIENCE, async || {
        let states = filed(&call).await.split_off(before);
        (states.last().is_some_and(|s| s.state == LinkState::Good)).then_some(states)
    })
    .await;
    assert_eq!((outage[0].state, outage[0].why), (LinkState::Offline, Some(LinkTrouble::Silent)), "{outage:?}");
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}
