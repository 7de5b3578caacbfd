//! Sealed items up and down: digests, limits, ranges.

use lotse_protocol::{command::MAX_ITEM_BYTES, id::Digest, item, kind};
use reqwest::Method;

use crate::kit::{Scene, World, error_of, files, fresh_item_key};

#[tokio::test]
async fn a_large_item_goes_up_once_and_comes_down_whole_or_in_ranges() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let expert = world.login("expert").await;
    let plain: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let sealed = item::seal(fresh_item_key(), &plain);
    let path = format!("/api/v1/cases/{}/items/{}", scene.case, sealed.digest);
    assert_eq!(error_of(expert.get(&path).await).await.1.code, "no_such_item");
    for status in [201, 200] {
        let put = expert.request(Method::PUT, &path).body(sealed.bytes.clone()).send().await.expect("an answer");
        assert_eq!(put.status(), status);
    }
    // Now an event may name it without carrying it.
    let (live, author) = &mut scene.expert;
    let snapshot = author.make(kind::SNAPSHOT, Some(scene.session), Some(b"{}"), &[&sealed], None);
    live.commit(&snapshot).await.expect("stored");

    let whole = expert.get(&path).await;
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let bytes = whole.bytes().await.expect("bytes");
    assert_eq!(item::open(&sealed.key, &bytes).expect("opens").0, plain);
    let part = expert.request(Method::GET, &path).header("range", "bytes=70000-70009").send().await.expect("an answer");
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 70000-70009/{}", sealed.bytes.len()).as_str());
    assert_eq!(part.bytes().await.expect("bytes"), sealed.bytes[70_000..70_010]);
    let beyond = expert.request(Method::GET, &path).header("range", "bytes=900000-").send().await.expect("an answer");
    assert_eq!(beyond.status(), 416);
    // A small one that travelled inline is had the same way.
    let small = &snapshot.items[0];
    let path = format!("/api/v1/cases/{}/items/{}", scene.case, small.digest);
    assert_eq!(Digest::of(&expert.get(&path).await.bytes().await.expect("bytes")), small.digest);
}

#[tokio::test]
async fn an_upload_that_nobody_names_is_forgotten_after_a_week_and_a_named_one_never() {
    let mut world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let expert = world.login("expert").await;
    let items = [1u8, 2].map(|n| item::seal(fresh_item_key(), &vec![n; 100_000]));
    let path = |n: usize| format!("/api/v1/cases/{}/items/{}", scene.case, items[n].digest);
    let put = async |expert: &crate::kit::Person, n: usize| {
        expert.request(Method::PUT, &path(n)).body(items[n].bytes.clone()).send().await.expect("an answer").status()
    };
    assert_eq!((put(&expert, 0).await.as_u16(), put(&expert, 1).await.as_u16()), (201, 201));
    let (live, author) = &mut scene.expert;
    live.commit(&author.make(kind::SNAPSHOT, Some(scene.session), Some(b"{}"), &[&items[0]], None))
        .await
        .expect("stored");
    world.kill();
    // Eight days ago.
    let file = world.data().join("lotse.sqlite");
    let db = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.expect("opens");
    let aged =
        sqlx::query("update blobs set stored_ms = stored_ms - 8 * 86400000").execute(&db).await.expect("written");
    assert_eq!(aged.rows_affected(), 2);
    db.close().await;
    world.serve();
    let expert = world.login("expert").await;
    let blob = |n: usize| world.data().join("blobs").join(scene.case.to_string()).join(items[n].digest.to_string());
    for _ in 0..600 {
        if !blob(1).exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(blob(0).exists() && !blob(1).exists());
    assert_eq!(error_of(expert.get(&path(1)).await).await.1.code, "no_such_item");
    assert_eq!(expert.get(&path(0)).await.status(), 200);
    assert_eq!(put(&expert, 1).await, 201, "it may come again");
}

#[tokio::test]
async fn bytes_of_another_digest_and_too_many_bytes_leave_nothing_behind() {
    let world = World::start().await;
    let scene = Scene::called(&world).await;
    let expert = world.login("expert").await;
    let path = |digest: Digest| format!("/api/v1/cases/{}/items/{digest}", scene.case);
    let put = expert.request(Method::PUT, &path(Digest::of(b"a"))).body("b").send().await.expect("an answer");
    let (status, error) = error_of(put).await;
    assert_eq!((status, error.code.as_str()), (409, "digest_mismatch"));

    let long = vec![0u8; MAX_ITEM_BYTES + 1];
    let digest = Digest::of(&long);
    // Without a length said beforehand, so that the server has to count.
    let pieces = futures_util::stream::iter(
        long.chunks(1 << 20).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let put = expert.request(Method::PUT, &path(digest)).body(reqwest::Body::wrap_stream(pieces)).send().await;
    // The server may hang up while the rest is still on its way; if it answers, it says why.
    if let Ok(response) = put {
        let (status, error) = error_of(response).await;
        assert_eq!((status, error.code.as_str()), (413, "too_large"));
    }
    assert_eq!(error_of(expert.get(&path(digest)).await).await.1.code, "no_such_item");
    assert_eq!(files(&world.data().join("blobs")), Vec::<std::path::PathBuf>::new());
    let odd = expert.get(&format!("/api/v1/cases/{}/items/nonsense", scene.case)).await;
    assert_eq!(error_of(odd).await.1.code, "no_such_path");
}
