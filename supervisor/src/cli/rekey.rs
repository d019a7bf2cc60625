//! `rekey`: the last step of a rotation of keys.

use super::client::{Client, READING_MAX};
use super::failure::Failure;
use super::screen::Screen;
use super::words;
use crate::api::RekeyedImages;

/// Has all data keys wrapped under the present key. What is left keeps the former keys necessary, and is no success.
pub(crate) async fn rekey(screen: &Screen, client: &Client) -> Result<(), Failure> {
    let outcome: RekeyedImages = client.post("/v1/rekey", READING_MAX).await?;
    if screen.is_json() {
        screen.json(&outcome)?;
    } else {
        screen.print(&shown(&outcome))?;
    }
    match outcome.left.len() {
        0 => Ok(()),
        left => Err(Failure::Unhealthy(format!(
            "{} still under another key; keep the former keys until this says nothing",
            words::count(left, "image")
        ))),
    }
}

fn shown(outcome: &RekeyedImages) -> String {
    let RekeyedImages { key, done, already, plain, left } = outcome;
    let mut text =
        format!("key {key}: {} wrapped anew, {already} were already", words::count(done.len(), "image"));
    if *plain > 0 {
        text.push_str(&format!(", {plain} not encrypted"));
    }
    text.push('\n');
    for image in left {
        text.push_str(&format!("{}  left  {}\n", image.id, image.why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LeftImage;

    #[test]
    fn what_was_done_and_what_is_left_is_said() {
        let left = vec![LeftImage { id: "i3".to_owned(), why: "another key".to_owned() }];
        let done = vec!["i1".to_owned(), "i2".to_owned()];
        let outcome = RekeyedImages { key: "a1".to_owned(), done, already: 4, plain: 1, left };
        let expected =
            "key a1: 2 images wrapped anew, 4 were already, 1 not encrypted\ni3  left  another key\n";
        assert_eq!(shown(&outcome), expected);
    }
}
