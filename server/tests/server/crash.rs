//! `kill -9`: what was acknowledged is there, in order, and verifies.

use lotse_protocol::{chain, command::ServerMessage, envelope::AuthorFields, id::EventId, kind};
use std::collections::HashSet;

use crate::kit::{Scene, World};

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed_in_the_middle_of_work() {
    let mut world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let mut acknowledged: HashSet<EventId> = HashSet::new();
    for round in 0..3 {
        let (live, author) = &mut scene.technician;
        for n in 0..200 {
            let event = author.say(kind::MESSAGE, None, format!("{round} {n}").as_bytes());
            live.say(&event.message()).await;
        }
        // Killed somewhere among them: after the sixtieth answer, with more under way.
        let mut answers = 0;
        while answers < 60 {
            if let Some(ServerMessage::Committed { id, .. }) = live.next().await {
                acknowledged.insert(id);
                answers += 1;
            }
        }
        world.kill();
        while let Some(message) = live.next().await {
            if let ServerMessage::Committed { id, .. } = message {
                acknowledged.insert(id);
            }
        }
        world.serve();
        let person = world.login("expert").await;
        let mut reader = person.connect().await;
        reader.open_after(scene.case, 0).await;
        reader.caught_up().await;
        let events: Vec<_> = reader
            .seen
            .iter()
            .filter_map(|m| if let ServerMessage::Event { event, .. } = m { Some(event.event.clone()) } else { None })
            .collect();
        chain::verify_log(scene.case, &events).expect("the log verifies");
        let kept: HashSet<EventId> =
            events.iter().map(|e| AuthorFields::read(&e.author).expect("author bytes").id).collect();
        assert_eq!(acknowledged.difference(&kept).count(), 0, "acknowledged events are missing");
        // The glasses come back by themselves with a new token.
        let (id, key) = scene.technician_person.key.as_ref().expect("a device");
        let token = world.token(id, key).await;
        scene.technician_person.proof = crate::kit::Proof::Token(token);
        scene.technician_person.url = world.url.clone();
        scene.technician.0 = scene.technician_person.connect().await;
        scene.technician.0.open_after(scene.case, 0).await;
    }
    let checked = world.program(&["doctor"]).output().expect("runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
