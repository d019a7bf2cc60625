//! `import`: an archive made an image again.
//!
//! What it is and whether it is whole is for the supervisor to find out; this only brings it there.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;

use serde_json::json;
use tokio::fs::File;

use super::client::{Client, encode};
use super::export::bar;
use super::failure::Failure;
use super::screen::{Mood, Screen};
use super::words;
use crate::status::ImageStatus;

/// Imports a file, or standard input.
pub(crate) async fn import(
    screen: &Screen,
    client: &Client,
    file: &Path,
    service: Option<&str>,
) -> Result<(), Failure> {
    let (from, length) = open(file).await?;
    let to = service.map_or_else(String::new, |name| format!("?service={}", encode(name)));
    let progress = bar("import", length);
    let sent = client.upload(&format!("/v1/images/import{to}"), progress.wrap_async_read(from)).await;
    progress.finish_and_clear();
    let image: ImageStatus = sent?;
    if screen.is_json() {
        return screen.json(&json!(image));
    }
    let text = format!(
        "{}: image {} of {}, {}, pinned (`supervisor unpin` lets retention decide)",
        file.display(),
        image.id,
        image.service,
        words::size(image.stored_bytes)
    );
    screen.line(&screen.paint(Mood::Good, &text))
}

/// The archive, and its length if it has one.
async fn open(file: &Path) -> Result<(File, u64), Failure> {
    let cannot = |e: io::Error| Failure::Invalid(format!("cannot be read: {}: {e}", file.display()));
    if file == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(Failure::Invalid("name a file, or send an archive to standard input".to_owned()));
        }
        let input = io::stdin().as_fd().try_clone_to_owned().map_err(cannot)?;
        return Ok((File::from_std(input.into()), 0));
    }
    let opened = File::open(file).await.map_err(cannot)?;
    let length = opened.metadata().await.map_err(cannot)?.len();
    Ok((opened, length))
}
