//! The wear page over real sockets: what it serves, whom it refuses, what reaches a looker and what a looker may say.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use super::*;
use crate::{config::Language, core::Word, input::Ask};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn page() -> (Wear, mpsc::Receiver<Ask>) {
    let (words, asked) = mpsc::channel(4);
    (Wear::start("127.0.0.1:0", Words::new(words, Language::En), "").expect("a free port"), asked)
}

/// Answers every word but DONE with yes, and hands it on.
fn core(mut asked: mpsc::Receiver<Ask>) -> mpsc::Receiver<Word> {
    let (said, heard) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some((word, reply)) = asked.recv().await {
            let _ = reply.send(if word == Word::Done { Err("no instruction is shown".into()) } else { Ok(()) });
            let _ = said.send(word).await;
        }
    });
    heard
}

async fn look(wear: &Wear, origin: &str) -> Result<Socket, tungstenite::Error> {
    let mut request = format!("{}/live", wear.url().replace("http", "ws")).into_client_request()?;
    request.headers_mut().insert("origin", origin.parse().expect("origin"));
    connect_async(request).await.map(|(socket, _)| socket)
}

async fn next(socket: &mut Socket) -> Message {
    timeout(Duration::from_secs(5), socket.next()).await.expect("in time").expect("open").expect("a message")
}

/// The next text with this key.
async fn text_with(socket: &mut Socket, key: &str) -> Value {
    loop {
        if let Message::Text(text) = next(socket).await {
            let value: Value = serde_json::from_str(&text).expect("json");
            if value.get(key).is_some() {
                return value;
            }
        }
    }
}

async fn picture(socket: &mut Socket, kind: u8) -> Vec<u8> {
    loop {
        if let Message::Binary(bytes) = next(socket).await
            && bytes[0] == kind
        {
            return bytes[1..].to_vec();
        }
    }
}

#[tokio::test]
async fn the_page_comes_alone_and_needs_nothing_from_elsewhere() {
    let (wear, _asked) = page();
    lotse_trust::use_ring();
    let client = reqwest::Client::new();
    for (path, kind) in [
        ("/", "text/html"),
        ("/wear.css", "text/css"),
        ("/wear.js", "text/javascript"),
        ("/texts.js", "text/javascript"),
        ("/medium.otf", "font/otf"),
        ("/bold.otf", "font/otf"),
        ("/state", "application/json"),
    ] {
        let reply = client.get(format!("{}{path}", wear.url())).send().await.expect("an answer");
        assert_eq!(reply.status(), 200, "{path}");
        assert!(reply.headers()["content-type"].to_str().expect("text").starts_with(kind), "{path}");
        let policy = reply.headers()["content-security-policy"].to_str().expect("text").to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.headers()["x-content-type-options"], "nosniff");
        assert_eq!(reply.headers()["cross-origin-resource-policy"], "same-origin");
        if path != "/medium.otf" && path != "/bold.otf" {
            let text = reply.text().await.expect("text");
            assert!(!text.contains("https://"), "{path} points elsewhere");
        }
    }
    assert_eq!(client.get(format!("{}/hud.png", wear.url())).send().await.expect("an answer").status(), 404);
}

#[tokio::test]
async fn a_looker_gets_display_camera_and_state_and_its_words_are_answered() {
    lotse_trust::use_ring();
    let (wear, asked) = page();
    let mut heard = core(asked);
    wear.present(Bytes::from_static(b"first"));
    wear.set_state(&json!({ "screen": "consent" }));
    let mut socket = look(&wear, &wear.url()).await.expect("welcome");
    assert_eq!(picture(&mut socket, 1).await, b"first");
    assert_eq!(text_with(&mut socket, "state").await["state"]["screen"], "consent");

    wear.present(Bytes::from_static(b"second"));
    assert_eq!(picture(&mut socket, 1).await, b"second");
    assert_eq!(
        reqwest::get(format!("{}/hud.png", wear.url())).await.expect("answer").bytes().await.expect("bytes"),
        "second"
    );

    assert!(!wear.wants_camera());
    socket.send(Message::text(r#"{"camera":true}"#)).await.expect("sent");
    timeout(Duration::from_secs(5), async {
        while !wear.wants_camera() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("wanted");
    wear.camera(Bytes::from_static(b"jpeg"));
    assert_eq!(picture(&mut socket, 2).await, b"jpeg");

    socket.send(Message::text(r#"{"say":"YES_RECORD"}"#)).await.expect("sent");
    assert_eq!(text_with(&mut socket, "said").await, json!({ "said": "YES_RECORD", "why": null }));
    assert_eq!(heard.recv().await, Some(Word::YesRecord));
    socket.send(Message::text(r#"{"say":"DONE"}"#)).await.expect("sent");
    assert_eq!(text_with(&mut socket, "said").await["why"], "no instruction is shown");
    socket.send(Message::text(r#"{"say":"DANCE"}"#)).await.expect("sent");
    assert_eq!(text_with(&mut socket, "said").await["why"], "no such word");

    drop(socket);
    timeout(Duration::from_secs(5), async {
        while wear.wants_camera() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nobody looks any more");
}

#[tokio::test]
async fn strangers_are_refused() {
    let (wear, asked) = page();
    let mut heard = core(asked);
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        match look(&wear, origin).await {
            Err(tungstenite::Error::Http(reply)) => assert_eq!(reply.status(), 403, "{origin}"),
            other => panic!("{origin}: {other:?}"),
        }
    }
    lotse_trust::use_ring();
    let client = reqwest::Client::new();
    let say = format!("{}/say/CALL", wear.url());
    assert_eq!(client.post(&say).send().await.expect("answer").status(), 403);
    assert_eq!(client.post(&say).header("origin", "http://evil.example").send().await.expect("answer").status(), 403);
    let named =
        client.get(format!("{}/state", wear.url())).header("host", "evil.example").send().await.expect("answer");
    assert_eq!(named.status(), 421);
    assert!(heard.try_recv().is_err(), "a stranger was heard");

    let own = |word: &str| client.post(format!("{}/say/{word}", wear.url())).header("origin", wear.url()).send();
    assert_eq!(own("CALL").await.expect("answer").status(), 200);
    assert_eq!(heard.recv().await, Some(Word::Call));
    let refused = own("DONE").await.expect("answer");
    assert_eq!(
        (refused.status().as_u16(), refused.text().await.expect("text")),
        (409, "no instruction is shown".into())
    );
}

#[tokio::test]
async fn nonsense_ends_the_socket_and_nine_lookers_are_too_many() {
    let (wear, _asked) = page();
    for nonsense in
        [Message::text("{}"), Message::text("x"), Message::binary(vec![1]), Message::text("x".repeat(10_000))]
    {
        let mut socket = look(&wear, &wear.url()).await.expect("welcome");
        socket.send(nonsense).await.expect("sent");
        let end = timeout(Duration::from_secs(5), async { while let Some(Ok(_)) = socket.next().await {} }).await;
        assert!(end.is_ok(), "still open");
    }
    timeout(Duration::from_secs(5), async {
        while wear.shared.looking.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("all gone");
    let mut lookers = Vec::new();
    for _ in 0..8 {
        let mut socket = look(&wear, &wear.url()).await.expect("welcome");
        text_with(&mut socket, "state").await;
        lookers.push(socket);
    }
    match look(&wear, &wear.url()).await {
        Err(tungstenite::Error::Http(reply)) => assert_eq!(reply.status(), 503),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_taken_port_is_told_with_a_way_out_and_is_free_again_afterwards() {
    let (wear, _asked) = page();
    let address = wear.url().replace("http://", "");
    let (words, _keep) = mpsc::channel(1);
    let refusal = Wear::start(&address, Words::new(words.clone(), Language::En), "").err().expect("taken").to_string();
    assert!(refusal.contains(&address) && refusal.contains("[hud] displays"), "{refusal}");
    drop(wear);
    timeout(Duration::from_secs(5), async {
        while Wear::start(&address, Words::new(words.clone(), Language::En), "").is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("free again");
}

#[tokio::test]
async fn the_kind_of_a_simulated_link_is_shown_and_changed_by_the_page_alone() {
    lotse_trust::use_ring();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("link");
    std::fs::write(&file, "lte\n").expect("written");
    let (words, _asked) = mpsc::channel(4);
    let wear =
        Wear::start("127.0.0.1:0", Words::new(words, Language::En), file.to_str().expect("a path")).expect("a port");
    let client = reqwest::Client::new();
    let address = |path: &str| format!("{}/link{path}", wear.url());
    let set = async |kind: &str, origin: &str| {
        let asked = client.post(address(kind)).header("origin", origin).send().await;
        asked.expect("an answer").status().as_u16()
    };
    let now = async || client.get(address("")).send().await.expect("an answer").text().await.expect("text");
    assert_eq!(now().await, "lte");
    assert_eq!(set("/cellar", &wear.url()).await, 200);
    assert_eq!((now().await, std::fs::read_to_string(&file).expect("read")), ("cellar".into(), "cellar".into()));
    assert_eq!(set("/hall", "http://evil.example").await, 403);
    assert_eq!(set("/..%2Fhall", &wear.url()).await, 400);
    assert_eq!(now().await, "cellar");

    let (real, _asked) = page();
    let asked =
        [(client.get(format!("{}/link", real.url())), 204), (client.post(format!("{}/link/lte", real.url())), 404)];
    for (request, expected) in asked {
        let status = request.header("origin", real.url()).send().await.expect("an answer").status();
        assert_eq!(status, expected, "a real link has no kind");
    }
}
