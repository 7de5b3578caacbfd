//! Logging in: cookies, limits, one answer for every failure, and nothing from foreign pages.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::kit::{DEMO_PASSWORD, Proof, World, cookie_of, error_of, http, json_of};

#[tokio::test]
async fn a_login_sets_a_strict_cookie_and_a_second_one_replaces_it() {
    let world = World::start().await;
    let response = world.post("/api/v1/login", json!({ "user": "expert", "password": DEMO_PASSWORD })).await;
    let set = response.headers()["set-cookie"].to_str().expect("text").to_owned();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(word), "{word} missing in {set}");
    }
    let first = cookie_of(&response);
    let me = json_of(response).await;
    assert_eq!((me["name"].as_str(), me["role"].as_str()), (Some("Anton Weber"), Some("expert")));

    let again = http()
        .post(format!("{}/api/v1/login", world.url))
        .header("cookie", format!("lotse_session={first}"))
        .header("origin", &world.url)
        .json(&json!({ "user": "expert", "password": DEMO_PASSWORD }))
        .send()
        .await
        .expect("an answer");
    let second = cookie_of(&again);
    assert_ne!(first, second);
    for (cookie, status) in [(first, StatusCode::UNAUTHORIZED), (second, StatusCode::OK)] {
        let me = http().get(format!("{}/api/v1/me", world.url)).header("cookie", format!("lotse_session={cookie}"));
        assert_eq!(me.send().await.expect("an answer").status(), status);
    }
}

#[tokio::test]
async fn a_day_old_cookie_is_turned_and_the_old_one_stays_good_for_tabs_under_way() {
    let mut world = World::start().await;
    let person = world.login("manager").await;
    // The server is stopped while its clock is set back by hand: a day passes.
    world.kill();
    let file = world.data().join("lotse.sqlite");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.expect("the database");
    sqlx::query("update logins set turned_ms = turned_ms - 90000000").execute(&pool).await.expect("set back");
    pool.close().await;
    world.serve();
    let Proof::Cookie(old) = &person.proof else { panic!("a browser") };
    let ask = |cookie: String| {
        let url = format!("{}/api/v1/me", world.url);
        async move { http().get(url).header("cookie", format!("lotse_session={cookie}")).send().await.expect("an answer") }
    };
    let turned = ask(old.clone()).await;
    let new = cookie_of(&turned);
    assert_ne!(*old, new);
    let late = ask(old.clone()).await;
    assert_eq!(late.status(), StatusCode::OK, "another tab's request under way");
    assert!(late.headers().get("set-cookie").is_none(), "it is turned once");
    assert_eq!(ask(new).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn logging_out_ends_the_login_on_the_server() {
    let world = World::start().await;
    let person = world.login("manager").await;
    assert_eq!(person.post("/api/v1/logout", json!({})).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(person.get("/api/v1/me").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn unknown_user_and_wrong_password_get_the_same_answer() {
    let world = World::start().await;
    let mut answers = vec![];
    // The archivist has no password at all.
    for user in ["expert", "nobody", "archivist"] {
        let (status, error) =
            error_of(world.post("/api/v1/login", json!({ "user": user, "password": "wrong" })).await).await;
        answers.push((status, error.code, error.message));
    }
    assert_eq!(answers[0].0, 401);
    assert_eq!(answers[0].1, "wrong_login");
    assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn after_five_failures_even_the_right_password_waits() {
    let world = World::start().await;
    for _ in 0..5 {
        let response = world.post("/api/v1/login", json!({ "user": "expert", "password": "guess" })).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    let response = world.post("/api/v1/login", json!({ "user": "Expert", "password": DEMO_PASSWORD })).await;
    assert!(response.headers().contains_key("retry-after"));
    let (status, error) = error_of(response).await;
    assert_eq!((status, error.code.as_str()), (429, "too_many_tries"));
    world.login("manager").await;
}

#[tokio::test]
async fn errors_speak_the_readers_language_and_carry_an_id() {
    let world = World::start().await;
    let ask = |language: &'static str| {
        let request = http().get(format!("{}/api/v1/me", world.url)).header("accept-language", language);
        async move { error_of(request.send().await.expect("an answer")).await.1 }
    };
    let (de, en) = (ask("de-AT").await, ask("fr").await);
    assert!(de.message.contains("anmelden"), "{}", de.message);
    assert!(en.message.contains("Log in"), "{}", en.message);
    assert_eq!(de.code, en.code);
    assert_eq!(de.request_id.len(), 4);
}

#[tokio::test]
async fn pages_of_other_sites_can_neither_act_nor_listen() {
    let world = World::start().await;
    let person = world.login("expert").await;
    let Proof::Cookie(cookie) = &person.proof else { panic!("a browser") };
    let post = |origin: String| {
        let url = format!("{}/api/v1/cases", world.url);
        let request = http().post(url).header("cookie", format!("lotse_session={cookie}"));
        request.header("origin", origin).json(&json!({ "language": "de" }))
    };
    let (status, error) = error_of(post("http://evil.example".into()).send().await.expect("an answer")).await;
    assert_eq!((status, error.code.as_str()), (403, "wrong_origin"));
    assert_eq!(post(world.url.clone()).send().await.expect("an answer").status(), StatusCode::CREATED);

    assert_eq!(person.try_connect(Some("http://evil.example")).await.err(), Some(403));
    assert_eq!(person.try_connect(None).await.err(), Some(403), "a cookie without an origin is no page of ours");
    assert!(person.try_connect(Some(&world.url)).await.is_ok());

    // A foreign name pointed at this machine.
    let rebound = person.request(Method::GET, "/api/v1/me").header("host", "evil.example").send().await;
    assert_eq!(error_of(rebound.expect("an answer")).await.1.code, "wrong_host");
}
