//! The list of cases, new cases, registers, and what stays hidden.

use lotse_protocol::{
    command::{CaseSummary, ClientMessage, ServerMessage},
    id::{CaseId, SessionId},
    item, kind,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::{World, error_of, json_of};

#[tokio::test]
async fn a_new_case_takes_site_and_customer_from_its_asset_and_counts_on() {
    let world = World::start().await;
    let expert = world.login("expert").await;
    let open = |body: Value| expert.post("/api/v1/cases", body);
    let first = json_of(open(json!({ "language": "de", "asset": "p-204" })).await).await;
    assert_eq!((first["site"].as_str(), first["customer"].as_str()), (Some("linz-halle-3"), Some("hydroserv")));
    let number = |v: &Value| v["number"].as_str().expect("a number").to_owned();
    assert!(number(&first).ends_with("-0001"), "{}", number(&first));
    let second = json_of(open(json!({ "language": "en" })).await).await;
    assert!(number(&second).ends_with("-0002"));
    for body in [
        json!({ "language": "de", "asset": "no-such-asset" }),
        json!({ "language": "de", "asset": "p-204", "site": "station-7" }),
        json!({ "language": "de", "site": "station-7", "customer": "hydroserv" }),
    ] {
        assert_eq!(error_of(open(body).await).await.1.code, "no_such_register");
    }
    for body in [json!({ "language": "fr" }), json!({}), json!([]), json!({ "language": "de", "asset": 4 })] {
        assert_eq!(error_of(open(body).await).await.1.code, "malformed");
    }
}

#[tokio::test]
async fn the_list_comes_newest_first_in_pages() {
    let world = World::start().await;
    let manager = world.login("manager").await;
    for _ in 0..5 {
        world.case(&manager).await;
    }
    let mut numbers = vec![];
    let mut after = 0;
    loop {
        let page = json_of(manager.get(&format!("/api/v1/cases?after={after}&limit=2")).await).await;
        let cases: Vec<CaseSummary> = serde_json::from_value(page["cases"].clone()).expect("summaries");
        numbers.extend(cases.into_iter().map(|c| c.number));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    let mut sorted = numbers.clone();
    sorted.sort();
    sorted.reverse();
    assert_eq!((numbers.len(), &numbers), (5, &sorted));
    assert_eq!(error_of(manager.get("/api/v1/cases?limit=many").await).await.1.code, "malformed");
}

#[tokio::test]
async fn the_newest_card_opens_in_lists_for_those_who_may_and_stays_shut_for_administrators() {
    let world = World::start().await;
    let glasses = world.pair("helmet-1").await;
    let case = world.case(&glasses).await;
    let mut live = glasses.connect().await;
    let mut me = live.enter(case).await;
    let mut manager = world.login("manager").await.connect().await;
    for title in [b"first title".as_slice(), b"second title"] {
        let card = me.say(kind::CARD, None, title);
        live.commit(&card).await.expect("stored");
    }
    let title = |summary: &CaseSummary| {
        let item = summary.card.as_ref().expect("a card").items[0].clone();
        item.key.map(|key| {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            let sealed = STANDARD.decode(item.bytes.expect("inline")).expect("base64");
            item::open(&key, &sealed).expect("opens").0
        })
    };
    let told = manager
        .until(|m| match m {
            ServerMessage::CaseChanged { summary } if summary.seq == 4 => title(summary),
            _ => None,
        })
        .await;
    assert_eq!(told, b"second title");
    for (user, opened) in
        [("manager", Some(b"second title".to_vec())), ("expert", Some(b"second title".to_vec())), ("admin", None)]
    {
        let list = json_of(world.login(user).await.get("/api/v1/cases").await).await;
        let cases: Vec<CaseSummary> = serde_json::from_value(list["cases"].clone()).expect("summaries");
        assert_eq!(title(&cases[0]), opened, "{user}");
    }
}

#[tokio::test]
async fn a_technician_sees_own_cases_only_and_the_archivist_none() {
    let world = World::start().await;
    let (mara, jonas) = (world.pair("helmet-1").await, world.pair("helmet-2").await);
    world.case(&mara).await;
    let count = |list: Value| list["cases"].as_array().expect("a list").len();
    assert_eq!(count(json_of(mara.get("/api/v1/cases").await).await), 1);
    assert_eq!(count(json_of(jonas.get("/api/v1/cases").await).await), 0);
    let archivist = world.pair("archivist").await;
    assert_eq!(error_of(archivist.get("/api/v1/cases").await).await.1.code, "forbidden");
}

#[tokio::test]
async fn a_technician_in_a_browser_may_what_the_glasses_may_and_no_more() {
    let world = World::start().await;
    let sofia = world.login("technician").await;
    let assets = json_of(sofia.get("/api/v1/registers").await).await;
    assert!(assets["assets"].as_array().is_some_and(|list| list.iter().any(|a| a["id"] == "p-204")));
    let case = world.case(&sofia).await;
    let mut live = sofia.connect().await;
    let mut author = live.enter(case).await;
    let session = Some(SessionId(Uuid::now_v7()));
    for (kind, payload) in [(kind::CARD, &b"{}"[..]), (kind::MESSAGE, &b"{}"[..])] {
        live.commit(&author.say(kind, None, payload)).await.expect("a member writes");
    }
    live.commit(&author.bare(kind::SESSION_CALLED, session)).await.expect("calls");
    for kind in [kind::NOTICE_SHOWN, kind::CONSENT_CALL_ONLY, kind::CONSENT_RECORD] {
        live.commit(&author.bare(kind, session)).await.expect("answers, and takes it back");
    }
    for kind in [kind::SNAPSHOT, kind::INSTRUCTION, kind::RECORDING_STARTED, kind::VIEWED, kind::EXPORTED] {
        assert_eq!(
            live.commit(&author.bare(kind, session)).await.expect_err("not theirs to write").code,
            "forbidden",
            "{kind}"
        );
    }
    live.commit(&author.bare(kind::SESSION_ENDED, session)).await.expect("ends");
    let body = json!({ "event": Uuid::now_v7(), "verb": "replay" });
    let (status, error) = error_of(sofia.post(&format!("/api/v1/cases/{case}/grants"), body).await).await;
    assert_eq!((status, error.code.as_str()), (403, "forbidden"));
}

#[tokio::test]
async fn an_unknown_case_and_one_that_is_not_yours_get_the_same_answer() {
    let world = World::start().await;
    let mara = world.pair("helmet-1").await;
    let real = world.case(&mara).await;
    let unknown = CaseId(Uuid::now_v7());
    let digest = "ab".repeat(32);
    let jonas = world.pair("helmet-2").await;
    let expert = world.login("expert").await;
    for who in [&jonas, &expert] {
        let mut answers = vec![];
        for case in [real, unknown] {
            let (status, error) = error_of(who.get(&format!("/api/v1/cases/{case}/items/{digest}")).await).await;
            answers.push((status, error.code, error.message));
            let body = json!({ "event": Uuid::now_v7(), "verb": "replay" });
            let (status, error) = error_of(who.post(&format!("/api/v1/cases/{case}/grants"), body).await).await;
            answers.push((status, error.code, error.message));
        }
        assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
        assert_eq!((answers[0].0, answers[0].1.as_str()), (404, "no_such_case"));
    }
    let mut live = expert.connect().await;
    live.say(&ClientMessage::OpenCase { case: unknown, after_seq: 0, lean: false }).await;
    assert_eq!(live.refused().await.code, "no_such_case");
}

#[tokio::test]
async fn a_case_belongs_to_the_summary_of_its_session() {
    let world = World::start().await;
    let glasses = world.pair("helmet-1").await;
    let case = world.case(&glasses).await;
    let mut expert = world.login("expert").await.connect().await;
    let mut archivist = world.pair("archivist").await.connect().await;
    let mut live = glasses.connect().await;
    let mut me = live.enter(case).await;
    let session = SessionId(Uuid::new_v4());
    let called = me.bare(kind::SESSION_CALLED, Some(session));
    live.commit(&called).await.expect("called");
    for waits in [&mut expert, &mut archivist] {
        let call = waits
            .until(|m| match m {
                ServerMessage::Queue { calls } => calls.first().cloned(),
                _ => None,
            })
            .await;
        assert_eq!((call.session, call.waiting, call.summary.case), (session, true, case));
    }
    let ended = me.say(kind::SESSION_ENDED, Some(session), b"solved");
    live.commit(&ended).await.expect("ended");
    for waits in [&mut expert, &mut archivist] {
        waits.until(|m| matches!(m, ServerMessage::Queue { calls } if calls.is_empty()).then_some(())).await;
    }
}

#[tokio::test]
async fn a_desk_holds_many_cases_open_and_the_archivist_all_of_them() {
    let world = World::start().await;
    let glasses = world.pair("helmet-1").await;
    let mut desk = world.login("expert").await.connect().await;
    let mut archivist = world.pair("archivist").await.connect().await;
    let mut first = None;
    for n in 0..65 {
        let case = world.case(&glasses).await;
        archivist.open(case).await;
        if n < 64 {
            desk.open(case).await;
            first.get_or_insert(case);
            continue;
        }
        desk.say(&ClientMessage::OpenCase { case, after_seq: 0, lean: false }).await;
        let refused = desk.refused().await;
        assert_eq!(refused.code, "too_many_open");
        assert!(refused.message.contains("64 cases"), "{}", refused.message);
        desk.say(&ClientMessage::CloseCase { case: first.expect("a case") }).await;
        desk.open(case).await;
    }
}
