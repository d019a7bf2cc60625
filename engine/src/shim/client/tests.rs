//! With a shim of an earlier version, as it would answer.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::accept;
use serde_json::{Value, json};

use super::super::protocol::{FenceOrder, receive, send};
use super::super::setup::listen_at;
use super::Shim;
use crate::error::Error;

/// What version 1 said of an idle shim; it hangs up on what it does not know.
fn serve_as_version_1(listener: &OwnedFd) {
    // SAFETY: just made by the kernel for us.
    let client = unsafe { OwnedFd::from_raw_fd(accept(listener.as_raw_fd()).unwrap()) };
    while let Ok(Some((request, _))) = receive::<Value>(&client) {
        if request != "Hello" {
            return;
        }
        let here = json!({ "version": 1, "isolation": "pid", "main": null, "helpers": 0 });
        send(&client, &json!({ "Reply": { "Here": here } }), &[]).unwrap();
    }
}

#[tokio::test]
async fn an_older_shim_is_refused_where_it_is_to_keep_a_fence_or_to_hear() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shim.sock");
    let listener = listen_at(&path).unwrap();
    std::thread::spawn(move || serve_as_version_1(&listener));
    let shim = Shim::connect(&path).await.unwrap();
    for order in [FenceOrder::Ask, FenceOrder::Lift] {
        let refused = shim.fence(&order).await;
        let Err(Error::Refused(report)) = refused else { panic!("{refused:?}") };
        assert!(report.to_string().contains("too old"), "{report}");
    }
    let unheard = shim.said().await;
    assert!(matches!(unheard, Err(Error::Refused(_))), "{unheard:?}");
    // It was not asked, so that it is there still.
    assert!(shim.hello().await.unwrap().0.is_none());
}
