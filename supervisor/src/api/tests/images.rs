//! Images over the API.

use serde_json::json;

use super::*;

#[tokio::test]
async fn images_are_listed_pinned_and_unpinned() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.get("/v1/images?service=web").await, (200, json!([])), "a service without images");
    fixture.keep("i1").await;
    fixture.image("i2", "4.2.1", false).await;
    let (_, images) = fixture.get("/v1/images").await;
    let shown = |n: usize, key: &str| images[n][key].clone();
    assert_eq!(
        (shown(0, "id"), shown(0, "hot"), shown(0, "durable")),
        (json!("i2"), json!(true), json!(false))
    );
    assert_eq!(
        (shown(1, "id"), shown(1, "durable"), shown(1, "pinned")),
        (json!("i1"), json!(true), json!(false))
    );
    assert_eq!((shown(1, "size_bytes"), shown(1, "pause_ms")), (json!(700_004), json!(8.1)));
    assert_eq!(
        (shown(1, "taken_at"), shown(1, "incompatible")),
        (json!("2023-11-14T22:13:20.000Z"), Value::Null)
    );
    let (status, image) = fixture.post("/v1/images/i1/pin", "").await;
    assert_eq!((status, &image["pinned"]), (200, &json!(true)));
    fixture.wait_for_images_changed(1).await;
    let (_, images) = fixture.get("/v1/images?service=web").await;
    assert_eq!((&images[1]["pinned"], &images[0]["pinned"]), (&json!(true), &json!(false)));
    let (status, image) = fixture.post("/v1/images/i1/unpin", "").await;
    assert_eq!((status, &image["pinned"]), (200, &json!(false)));
    fixture.wait_for_images_changed(2).await;
}

#[tokio::test]
async fn an_image_that_does_not_suit_this_host_says_why() {
    let fixture = Fixture::new().await;
    fixture.image("i1", "9.1", true).await;
    let (_, images) = fixture.get("/v1/images").await;
    let why = images[0]["incompatible"].as_str().expect("it does not suit");
    assert!(why.contains("CRIU 9.1"), "{why}");
    fixture.node.send_modify(|node| node.criu = "run CRIU at criu: not found".to_owned());
    let (_, images) = fixture.get("/v1/images").await;
    let why = images[0]["incompatible"].as_str().expect("nothing suits");
    assert!(why.contains("not found"), "{why}");
}

#[tokio::test]
async fn damage_is_found_told_and_remembered() {
    let fixture = Fixture::new().await;
    let id = fixture.keep("i1").await;
    let (status, verified) = fixture.post("/v1/images/i1/verify", "").await;
    assert_eq!((status, &verified["files"], &verified["size_bytes"]), (200, &json!(2), &json!(700_004)));
    fixture.damage(&id);
    let (status, answer) = fixture.post("/v1/images/i1/verify", "").await;
    assert_eq!((status, &answer["kind"]), (422, &json!("corrupt")));
    fixture.wait_for_images_changed(1).await;
    let (_, images) = fixture.get("/v1/images").await;
    assert!(images[0]["damaged"].is_string(), "{images}");
    let (status, answer) = fixture.get("/v1/images/i1/export").await;
    assert_eq!((status, &answer["kind"]), (422, &json!("corrupt")), "no byte of it leaves");
}

#[tokio::test]
async fn without_a_key_there_is_no_rotation() {
    let fixture = Fixture::new().await;
    let (status, answer) = fixture.post("/v1/rekey", "").await;
    assert_eq!((status, &answer["kind"]), (409, &json!("refused")));
    assert!(
        answer["error"].as_str().is_some_and(|why| why.contains("store.encryption_key_file")),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_not_on_disk_yet_can_be_neither_verified_nor_exported() {
    let fixture = Fixture::new().await;
    fixture.image("i1", "4.2.1", false).await;
    assert_eq!(fixture.post("/v1/images/i1/verify", "").await.0, 409);
    assert_eq!(fixture.get("/v1/images/i1/export").await.0, 409);
}

#[tokio::test]
async fn an_archive_is_whole_at_the_other_end() {
    let (from, to) = (Fixture::new().await, Fixture::new().await);
    let id = from.keep("i1").await;
    let response = from.send("GET", "/v1/images/i1/export", "").await;
    assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"web-i1.image\"");
    let archive = response.into_body().collect().await.expect("whole").to_bytes();
    assert!(archive.len() > 600_000, "several chunks");
    let store = to.control.store().clone();
    let imported = tokio::task::spawn_blocking(move || {
        store.import(&mut &archive[..]).expect("whole");
        store.verify(&id).expect("whole").files
    });
    assert_eq!(imported.await.expect("no panic"), 2);
}

#[tokio::test]
async fn a_reader_that_goes_away_frees_its_place() {
    let fixture = Fixture::new().await;
    fixture.keep("i1").await;
    for _ in 0..8 {
        drop(fixture.send("GET", "/v1/images/i1/export", "").await);
    }
    let whole = async {
        // The places of those that went away become free when their next chunk is not taken.
        while fixture.send("GET", "/v1/images/i1/export", "").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, whole).await.expect("exporting goes on");
}
