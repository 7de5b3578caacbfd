//! What protects a browser's user from other sites, on every route of the table, on errors and on files.

use lotse_protocol::{
    id::{CaseId, Digest, EventId},
    kind,
};
use lotse_server::router::{HEADERS, ROUTES, Route, Who};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::{
    kit::{DEMO_PASSWORD, Proof, Scene, World, error_of, http},
    walk::{About, request},
};

fn about(case: CaseId) -> About {
    About { case, digest: Digest::of(b"anything"), reason: EventId(Uuid::nil()) }
}

fn check_headers(name: &str, response: &Response) {
    for (header, value) in HEADERS {
        let found: Vec<_> = response.headers().get_all(header).iter().collect();
        assert_eq!(found, [value], "{header} on {name}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_rules_for_browsers() {
    let world = World::start().await;
    let person = world.login("expert").await;
    let somewhere = about(CaseId(Uuid::now_v7()));
    for route in &ROUTES {
        let name = format!("{} {}", route.method, route.path);
        let make = |method, path: &str| http().request(method, format!("{}{path}", world.url));
        let Some(stranger) = request(route, somewhere, make) else { continue };
        check_headers(&name, &stranger.send().await.expect("an answer"));
        if route.path != "/api/v1/logout" {
            let known = request(route, somewhere, |method, path| person.request(method, path)).expect("a request");
            check_headers(&name, &known.send().await.expect("an answer"));
        }
    }
    for path in ["/", "/no/such/page", "/lotse.svg", "/assets/none.js", "/api/none", "/api/v1/live", "/.git/config"] {
        check_headers(path, &http().get(format!("{}{path}", world.url)).send().await.expect("an answer"));
    }
    let wrong_method = http().request(Method::DELETE, format!("{}/api/v1/cases", world.url)).send().await;
    let wrong_method = wrong_method.expect("an answer");
    check_headers("DELETE", &wrong_method);
    assert_eq!(error_of(wrong_method).await.1.code, "no_such_path");
    let rebound = http().get(format!("{}/api/v1/me", world.url)).header("host", "evil.example").send().await;
    check_headers("a foreign host", &rebound.expect("an answer"));
}

#[test]
fn the_policy_for_content_allows_nothing_inline_and_nothing_foreign() {
    let (_, policy) = HEADERS.iter().find(|(name, _)| *name == "content-security-policy").expect("a policy");
    for rule in
        ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"]
    {
        assert!(policy.contains(rule), "{rule}");
    }
    for hole in ["unsafe-inline", "unsafe-eval", "http:", "https:", "*"] {
        assert!(!policy.contains(hole), "{hole}");
    }
}

#[tokio::test]
async fn no_route_that_changes_anything_acts_for_a_page_of_another_site() {
    let world = World::start().await;
    let scene = Scene::called(&world).await;
    let person = world.login("expert").await;
    let Proof::Cookie(cookie) = &person.proof else { panic!("a browser") };
    let mut changing = 0;
    for route in ROUTES.iter().filter(|r| !r.method.is_safe()) {
        changing += 1;
        let name = format!("{} {}", route.method, route.path);
        // Another site, a page without an address, a neighbour's port, and a request that does not say where it comes from.
        for origin in [Some("http://evil.example"), Some("null"), Some("http://127.0.0.1:1"), None] {
            let make = |method, path: &str| {
                let request = http().request(method, format!("{}{path}", world.url));
                let request = request.header("cookie", format!("lotse_session={cookie}"));
                if let Some(origin) = origin { request.header("origin", origin) } else { request }
            };
            let asked = request(route, about(scene.case), make).expect("a request");
            let (status, error) = error_of(asked.send().await.expect("an answer")).await;
            assert_eq!((status, error.code.as_str()), (403, "wrong_origin"), "{name} from {origin:?}");
        }
        // Nobody is logged in from elsewhere either.
        let make = |method, path: &str| http().request(method, format!("{}{path}", world.url));
        let asked = request(route, about(scene.case), make).expect("a request").header("origin", "http://evil.example");
        assert_eq!(error_of(asked.send().await.expect("an answer")).await.1.code, "wrong_origin", "{name}");
    }
    assert!(changing >= 7, "{changing}");
    assert_eq!(person.get("/api/v1/me").await.status(), StatusCode::OK, "nobody was logged out");
    for origin in [Some("http://evil.example"), Some("null"), None] {
        assert_eq!(person.try_connect(origin).await.err(), Some(403), "the live socket from {origin:?}");
    }
}

#[tokio::test]
async fn no_json_body_above_its_limit_is_read() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let person = world.login("expert").await;
    let viewed = scene.expert.1.say(kind::VIEWED, None, b"warranty");
    scene.expert.0.commit(&viewed).await.expect("a reason");
    // Gateways send no JSON (`tests/tests/gateways.rs`).
    let takes_json =
        |r: &&Route| r.method == Method::POST && r.path != "/api/v1/logout" && !matches!(r.who, Who::Gateway(_));
    for route in ROUTES.iter().filter(takes_json) {
        let path = route.path.replace("{case}", &scene.case.to_string());
        let asked = match route.who {
            Who::Anybody => http().post(format!("{}{path}", world.url)),
            _ => person.request(Method::POST, &path),
        };
        let huge = json!({ "user": "x".repeat(65 * 1024) });
        let (status, error) = error_of(asked.json(&huge).send().await.expect("an answer")).await;
        assert_eq!((status, error.code.as_str()), (413, "too_large"), "{path}");
    }
}

#[tokio::test]
async fn over_https_the_cookie_is_this_hosts_alone_and_the_browser_stays_with_https() {
    let world = World::with(&[("LOTSE_HTTP_PUBLIC_URL", "https://lotse.example.com")]).await;
    let body = json!({ "user": "expert", "password": DEMO_PASSWORD });
    let response = world.post("/api/v1/login", body).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["strict-transport-security"].to_str().expect("text").starts_with("max-age="));
    let set = response.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(set.starts_with("__Host-lotse_session="), "{set}");
    for word in ["; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/;"] {
        assert!(set.contains(word), "{word} is missing in {set}");
    }
    assert!(!set.contains("Domain"), "{set}");
    let value = set.split(['=', ';']).nth(1).expect("a value");
    let me = |name: &str| {
        let request = http().get(format!("{}/api/v1/me", world.url)).header("cookie", format!("{name}={value}"));
        async move { request.send().await.expect("an answer").status() }
    };
    assert_eq!(me("__Host-lotse_session").await, StatusCode::OK);
    assert_eq!(me("lotse_session").await, StatusCode::UNAUTHORIZED, "a name that any neighbour can plant");
}
