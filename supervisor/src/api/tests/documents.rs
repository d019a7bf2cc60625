//! `docs/openapi.json` is what is served, and it says of each address what it does.
//!
//! `cargo xtask fix` (or `UPDATE_DOCS=1`) writes it.

use std::path::Path;

use super::*;

#[tokio::test]
async fn the_document_is_the_served_one() {
    let fixture = Fixture::new().await;
    let served =
        fixture.send("GET", "/v1/openapi.json", "").await.into_body().collect().await.expect("whole");
    let served = String::from_utf8(served.to_bytes().to_vec()).expect("text");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &served).expect("the document is written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == served, "docs/openapi.json is out of date: run `cargo xtask fix`");
}

/// Whoever makes a client of it needs a name, a description and an answer of everything, and types that are there.
#[tokio::test]
async fn every_address_is_described() {
    let (_, document) = Fixture::new().await.get("/v1/openapi.json").await;
    let paths = document["paths"].as_object().expect("addresses");
    assert!(paths.len() >= 14, "{:?}", paths.keys());
    let mut names = std::collections::BTreeSet::new();
    for (path, methods) in paths {
        for (method, found) in methods.as_object().expect("methods") {
            assert!(
                found["summary"].as_str().is_some_and(|text| !text.is_empty()),
                "{method} {path}: {found}"
            );
            assert!(found["responses"]["200"].is_object(), "{method} {path}: {found}");
            let name = found["operationId"].as_str().expect("a name");
            assert!(names.insert(name.to_owned()), "two are called {name}");
        }
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(document["components"]["schemas"][name].is_object(), "there is no {name}");
    }
}
