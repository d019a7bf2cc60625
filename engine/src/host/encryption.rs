//! The keys of images: whether they can be read, and whether the images of the store can be read with them.

use super::{Fact, Places};
use crate::images::Encryption;

const TOPIC: &str = "encryption";

/// Looks.
pub(super) fn examine(places: &Places) -> Fact {
    let keys = match &places.keys {
        Ok(keys) => keys,
        Err(why) => return lack(why.to_string()),
    };
    let found = match Encryption::of(&places.store, keys) {
        Ok(found) => found,
        Err(error) => return lack(error.to_string()),
    };
    if let Some((_, why)) = found.locked.first() {
        return lack(format!("{} of the images cannot be read: {why}", found.locked.len()));
    }
    let Encryption { key, current, former, plain, locked: _ } = found;
    let Some(key) = key else {
        let text = "images are not encrypted: whoever reads the disk reads the memory of the services";
        return Fact::note(TOPIC, text)
            .remedy("set store.encryption_key_file, or put the store on an encrypted disk");
    };
    let text =
        format!("key {key}: {current} images under it, {former} under former keys, {plain} not encrypted");
    match former {
        0 => Fact::ok(TOPIC, text),
        _ => Fact::note(TOPIC, text).remedy("supervisor rekey, then former keys can be taken out"),
    }
}

fn lack(text: String) -> Fact {
    Fact::lack(TOPIC, text, "correct store.encryption_* in the configuration, or the files it names")
}
