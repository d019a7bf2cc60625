//! What was thought of an image after its taking: its verdict, a pin, that it is damaged. Small files beside it, each
//! replaced in one step; the image itself is never edited.
//!
//! A mark that can't be read is believed to say what is safe: suspect, pinned, damaged.

use std::fs;
use std::path::{Path, PathBuf};

use policies::id::{ImageId, ServiceName};
use policies::image::ImageVerdict;

use super::envelope;
use super::places::{Places, names_in};
use crate::durable::{FILE_MODE, atomic_write, create_dir, fail_point, remove_file};
use crate::error::{Error, Result};

const WHAT: &str = "supervisor-mark";
const VERSION: u32 = 1;
const LENGTH_MAX: u64 = 64 << 10;

/// All marks of one image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// A later judgement than that of the manifest.
    pub(super) verdict: Option<ImageVerdict>,
    pub(super) pinned: bool,
    /// Why it is never offered again.
    pub(super) damaged: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Verdict,
    Pinned,
    Damaged,
}

impl Mark {
    const ALL: [Self; 3] = [Self::Verdict, Self::Pinned, Self::Damaged];

    fn name(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Pinned => "pinned",
            Self::Damaged => "damaged",
        }
    }

    fn path(self, places: &Places, service: &ServiceName, id: &ImageId) -> PathBuf {
        places.marks(service).join(format!("{id}.{}", self.name()))
    }
}

pub(super) fn set(
    places: &Places,
    service: &ServiceName,
    id: &ImageId,
    mark: Mark,
    text: &str,
) -> Result<()> {
    fail_point("mark.before");
    create_dir(&places.service(service))?;
    create_dir(&places.marks(service))?;
    let content = envelope::seal(WHAT, VERSION, text.as_bytes());
    atomic_write(&mark.path(places, service, id), &content, FILE_MODE)?;
    fail_point("mark.after");
    Ok(())
}

pub(super) fn clear(places: &Places, service: &ServiceName, id: &ImageId, mark: Mark) -> Result<()> {
    remove_file(&mark.path(places, service, id))
}

pub(super) fn clear_all(places: &Places, service: &ServiceName, id: &ImageId) -> Result<()> {
    Mark::ALL.into_iter().try_for_each(|mark| clear(places, service, id, mark))
}

pub(super) fn read(places: &Places, service: &ServiceName, id: &ImageId) -> Marks {
    let text = |mark: Mark| read_one(&mark.path(places, service, id));
    let verdict = text(Mark::Verdict)
        .map(|read| read.ok().and_then(|text| text.parse().ok()).unwrap_or(ImageVerdict::Suspect));
    let damaged =
        text(Mark::Damaged).map(|read| read.unwrap_or_else(|_| "its mark cannot be read".to_owned()));
    Marks { verdict, pinned: text(Mark::Pinned).is_some(), damaged }
}

/// Removes the marks of images that no longer exist; how many.
pub(super) fn sweep(
    places: &Places,
    service: &ServiceName,
    exists: impl Fn(&ImageId) -> bool,
) -> Result<usize> {
    let folder = places.marks(service);
    let orphans = names_in(&folder)?.into_iter().filter(|name| {
        let id = name.rsplit_once('.').and_then(|(id, _)| ImageId::try_from(id).ok());
        !id.is_some_and(|id| exists(&id))
    });
    let orphans: Vec<String> = orphans.collect();
    orphans.iter().try_for_each(|name| remove_file(&folder.join(name)))?;
    Ok(orphans.len())
}

/// `None` if there is no such mark.
fn read_one(path: &Path) -> Option<Result<String>> {
    fs::symlink_metadata(path).ok()?;
    let text = envelope::read(WHAT, VERSION, path, LENGTH_MAX);
    Some(text.and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| Error::Corrupt(crate::error::Report::new("mark is not text")))
    }))
}
