//! Every route × everybody × a foreign object, from the router's own table and the policy's; and every message of the live socket.
//!
//! A new route appears here by itself: it needs a request below, or the walk fails. A new message does not compile.

use lotse_protocol::{
    command::{ClientMessage, ItemRef, ServerMessage},
    error::ErrorBody,
    id::{CaseId, Digest, EventId, SessionId, Signature, TrackId},
    kind,
    policy::{Relation, Role, allowed},
    signal::RtcAnswer,
};
use lotse_server::router::{ROUTES, Route, Who};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::kit::{Live, Person, Scene, World, http};

/// What a request is about.
#[derive(Clone, Copy)]
pub(crate) struct About {
    pub(crate) case: CaseId,
    pub(crate) digest: Digest,
    /// The caller's own reason to view, where there is one.
    pub(crate) reason: EventId,
}

/// A good request to a route. `None`: it is the live socket, which has a walk of its own.
pub(crate) fn request(
    route: &Route,
    about: About,
    make: impl FnOnce(Method, &str) -> RequestBuilder,
) -> Option<RequestBuilder> {
    let path = route.path.replace("{case}", &about.case.to_string()).replace("{digest}", &about.digest.to_string());
    let path = path.replace("{resource}", &Uuid::nil().to_string());
    let asked = make(route.method.clone(), &path.replace("{*rest}", "cases/1/bundle"));
    let nobody = Uuid::nil();
    Some(match (route.method.as_str(), route.path) {
        ("POST", "/api/v1/login") => asked.json(&json!({ "user": "nobody", "password": "wrong" })),
        ("POST", "/api/v1/cases") => asked.json(&json!({ "language": "en" })),
        ("PUT", "/api/v1/cases/{case}/items/{digest}") => asked.body(ITEM),
        ("POST", "/api/v1/cases/{case}/grants") => asked.json(&json!({ "event": about.reason, "verb": "replay" })),
        ("POST", "/api/v1/devices/pair") => asked.json(&json!({ "code": "NO", "public_key": "", "name": "x" })),
        ("POST", "/api/v1/devices/challenge") => asked.json(&json!({ "device": nobody })),
        ("POST", "/api/v1/devices/token") => asked.json(&json!({ "device": nobody, "nonce": "", "sig": "" })),
        // Without a token, which nobody of the walk has; `tests/tests/gateways.rs` has some.
        ("POST" | "DELETE" | "PATCH" | "OPTIONS", path) if path.contains("/whip") || path.contains("/whep") => {
            asked.header("content-type", "application/sdp").body("v=0")
        }
        ("GET", "/api/v1/live") => return None,
        ("GET", _) | ("POST", "/api/v1/logout") => asked,
        (method, path) => panic!("{method} {path} is new: say above what a good request to it is"),
    })
}

const ITEM: &[u8] = b"sealed bytes, as far as the server knows";

/// What a caller learns from an answer: the status and, of an error, everything but its number.
async fn learnt(response: Response) -> (StatusCode, String) {
    let status = response.status();
    if status.is_success() {
        return (status, String::new());
    }
    let error = response.json::<ErrorBody>().await.expect("an error has words").error;
    (status, format!("{}: {}", error.code, error.message))
}

async fn ask(person: &Person, route: &Route, about: About) -> Option<(StatusCode, String)> {
    let request = request(route, about, |method, path| person.request(method, path))?;
    Some(learnt(request.send().await.expect("an answer")).await)
}

#[tokio::test]
async fn every_route_lets_in_whom_its_row_names_and_tells_strangers_nothing() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let member = world.login("expert").await;
    let viewed = scene.expert.1.say(kind::VIEWED, None, b"warranty");
    scene.expert.0.commit(&viewed).await.expect("a reason");
    let digest = Digest::of(ITEM);
    let path = format!("/api/v1/cases/{}/items/{digest}", scene.case);
    let put = scene.technician_person.request(Method::PUT, &path).body(ITEM).send().await.expect("an answer");
    assert_eq!(put.status(), StatusCode::CREATED);
    // Somebody else's case with an item of its own.
    let other = world.pair("helmet-2").await;
    let other_case = world.case(&other).await;

    let own = About { case: scene.case, digest, reason: viewed.id };
    let unknown = About { case: CaseId(Uuid::now_v7()), ..own };
    let elsewhere = About { case: other_case, ..own };
    let people = [
        (Role::Technician, Relation::Member, &scene.technician_person),
        (Role::Technician, Relation::Outsider, &other),
        (Role::Expert, Relation::Member, &member),
        (Role::Expert, Relation::Outsider, &world.login("expert2").await),
        (Role::Manager, Relation::Outsider, &world.login("manager").await),
        (Role::Administrator, Relation::Outsider, &world.login("admin").await),
        (Role::Archivist, Relation::Member, &scene.archivist_person),
    ];
    let mut walked = 0;
    for route in &ROUTES {
        let name = format!("{} {}", route.method, route.path);
        let stranger = request(route, own, |method, path| http().request(method, format!("{}{path}", world.url)));
        let Some(stranger) = stranger else { continue };
        let (status, words) = learnt(stranger.send().await.expect("an answer")).await;
        let turned_away = words.starts_with("not_logged_in");
        assert_eq!(turned_away, route.who != Who::Anybody, "{name} by nobody: {status} {words}");
        for (role, relation, person) in people {
            // Logging out ends what the walk needs.
            if route.path == "/api/v1/logout" {
                continue;
            }
            let who = format!("{name} by {role:?} as {relation:?}");
            let (status, words) = ask(person, route, own).await.expect("a request");
            let may = match route.who {
                Who::Anybody | Who::Known | Who::Granted => {
                    assert!(!words.starts_with("not_logged_in") && !words.starts_with("forbidden"), "{who}: {words}");
                    walked += 1;
                    continue;
                }
                Who::May(verb) => allowed(role, verb, Relation::Outsider),
                Who::InCase(verbs) => verbs.iter().any(|verb| allowed(role, *verb, relation)),
                Who::InCaseAs(only, verb) => role == only && allowed(role, verb, relation),
                Who::Gateway(_) => {
                    assert!(words.starts_with("other_way"), "{who}: {status} {words}");
                    walked += 1;
                    continue;
                }
            };
            assert_eq!(status.is_success(), may, "{who}: {status} {words}");
            if !may {
                let refused = ["forbidden", "no_such_case"].iter().any(|code| words.starts_with(code));
                assert!(refused, "{who}: {status} {words}");
            }
            walked += 1;
            let concerns_case = matches!(route.who, Who::InCase(_) | Who::InCaseAs(..));
            if concerns_case && relation == Relation::Outsider {
                let of_none = ask(person, route, unknown).await.expect("a request");
                assert_eq!((status, words), of_none, "{who}: a case that exists and one that does not");
            }
            if concerns_case && relation == Relation::Member {
                let of_other = ask(person, route, elsewhere).await.expect("a request");
                let of_none = ask(person, route, unknown).await.expect("a request");
                assert!(!of_other.0.is_success(), "{who}: in a case that is not theirs");
                assert_eq!(of_other, of_none, "{who}: somebody else's case and none");
            }
        }
    }
    // All but the live socket and the way out, by seven people.
    assert_eq!(walked, (ROUTES.len() - 2) * people.len());

    // An item that lies in another case is as unknown as one that lies nowhere.
    let item = ROUTES.iter().find(|r| r.method == Method::GET && r.path.ends_with("{digest}")).expect("a route");
    let lonely = Digest::of(b"nowhere");
    let (a, b) = (About { case: other_case, ..own }, About { case: other_case, digest: lonely, ..own });
    let mut live = other.connect().await;
    live.enter(other_case).await;
    assert_eq!(mask(ask(&other, item, a).await, &digest), mask(ask(&other, item, b).await, &lonely));
}

fn mask(answer: Option<(StatusCode, String)>, digest: &Digest) -> (StatusCode, String) {
    let (status, words) = answer.expect("an answer");
    assert!(!status.is_success());
    (status, words.replace(&digest.to_string(), "…"))
}

/// Every message there is, about this case and session.
fn messages(case: CaseId, session: SessionId) -> Vec<ClientMessage> {
    let item = ItemRef { digest: Digest::of(ITEM), key: None, bytes: None };
    let answer = RtcAnswer { leg: 1, rev: 1, sdp: "v=0".into(), fingerprint_sig: None };
    let all = vec![
        ClientMessage::Hello { language: "en".into() },
        ClientMessage::Ping { t0_us: 1 },
        ClientMessage::OpenCase { case, after_seq: 0, lean: false },
        ClientMessage::CloseCase { case },
        ClientMessage::Commit { case, author: "{}".into(), sig: Signature([0; 64]), items: vec![] },
        ClientMessage::Relay { case, session, to: None, item },
        ClientMessage::RtcJoin { case, session, publish: vec![] },
        ClientMessage::RtcAnswer { session, answer },
        ClientMessage::RtcWatch { session, track: TrackId(Uuid::nil()), on: true },
        ClientMessage::RtcLeave { session },
    ];
    let mut seen: Vec<usize> = all.iter().map(place).collect();
    seen.dedup();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    all
}

/// A message that is not listed does not compile, and one that is has a place in [`messages`].
fn place(message: &ClientMessage) -> usize {
    match message {
        ClientMessage::Hello { .. } => 0,
        ClientMessage::Ping { .. } => 1,
        ClientMessage::OpenCase { .. } => 2,
        ClientMessage::CloseCase { .. } => 3,
        ClientMessage::Commit { .. } => 4,
        ClientMessage::Relay { .. } => 5,
        ClientMessage::RtcJoin { .. } => 6,
        ClientMessage::RtcAnswer { .. } => 7,
        ClientMessage::RtcWatch { .. } => 8,
        ClientMessage::RtcLeave { .. } => 9,
    }
}

/// The refusal a message gets, without what names its object. `None`: the message is one that is never answered with one.
async fn told(live: &mut Live, message: &ClientMessage) -> Option<String> {
    live.say(message).await;
    let silent = matches!(place(message), 0 | 1 | 3 | 9);
    if silent {
        let said = live.settled().await;
        assert!(!said.iter().any(|m| matches!(m, ServerMessage::Refused { .. })), "{message:?}");
        return None;
    }
    let answer = live.until(|m| match m {
        ServerMessage::Refused { error, .. } => Some(format!("{}: {}", error.code, error.message)),
        ServerMessage::CaseOpened { .. } | ServerMessage::RtcOffer { .. } => panic!("let in: {message:?}"),
        _ => None,
    });
    Some(answer.await)
}

#[tokio::test]
async fn no_message_tells_a_stranger_whether_a_case_or_session_exists() {
    let world = World::start().await;
    let scene = Scene::recorded(&world).await;
    let (stranger, admin) = (world.login("expert2").await, world.login("admin").await);
    let own_case = world.case(&stranger).await;
    for with_own_case in [false, true] {
        for (person, may_join) in [(&stranger, true), (&admin, false)] {
            let mut live = person.connect().await;
            if with_own_case && may_join {
                live.enter(own_case).await;
            }
            let foreign = messages(scene.case, scene.session);
            let none = messages(CaseId(Uuid::now_v7()), SessionId(Uuid::new_v4()));
            for (foreign, none) in foreign.iter().zip(&none) {
                // Whoever may join a case may know of it: that is the table's word, walked in `policy`.
                if may_join && matches!(foreign, ClientMessage::OpenCase { .. }) {
                    continue;
                }
                let answers = (told(&mut live, foreign).await, told(&mut live, none).await);
                assert_eq!(answers.0, answers.1, "{foreign:?}");
            }
        }
    }
}
