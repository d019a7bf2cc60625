//! After the thaw: contents that the parent has are taken over, so that every image stands alone; checksums; the index.
//!
//! It refuses contents of the parent that are not what the parent's index says.

use super::index::{Content, Entry, Extent, Kind};
use super::take::Captured;
use crate::error::{Error, Report, Result};

/// Makes a capture whole: afterwards its folder holds `index.json` and `blobs.pack` and depends on nothing else. Not
/// synced: the image's commit does that.
///
/// # Errors
/// `Corrupt` if the parent's contents are damaged (capture again without it), `Unavailable` when the disk is full.
pub fn finish(captured: &mut Captured) -> Result<()> {
    // The last bytes of a torn file are missing still.
    captured.pack.close_gap()?;
    let mut trees = std::mem::take(&mut captured.index.trees);
    let mut entries = trees.iter_mut().flat_map(|tree| &mut tree.entries);
    let resolved = entries.try_for_each(|entry| resolve(captured, entry));
    captured.index.trees = trees;
    resolved?;
    captured.index.pack_length = captured.pack.close_gap()?;
    if captured.stats.bytes_copied_ahead > 0 {
        captured.pack.punch_unused(used(captured));
    }
    captured.index.write(&captured.out_dir)
}

fn resolve(captured: &mut Captured, entry: &mut Entry) -> Result<()> {
    let Kind::File { content, .. } = &mut entry.kind else { return Ok(()) };
    let (extents, wanted) = match content {
        Content::Base | Content::Stored { blake3: Some(_), .. } => return Ok(()),
        Content::Stored { extents, blake3: None } => (std::mem::take(extents), None),
        Content::SameAsParent { extents, blake3 } => {
            (take_over(captured, extents, &entry.path.to_string())?, Some(*blake3))
        }
    };
    let blake3 = captured.pack.checksum(&extents)?;
    if wanted.is_some_and(|wanted| wanted != blake3) {
        return Err(damaged(&entry.path.to_string()));
    }
    *content = Content::Stored { extents, blake3: Some(blake3) };
    Ok(())
}

fn take_over(captured: &mut Captured, extents: &[Extent], shown: &str) -> Result<Vec<Extent>> {
    let parent = captured.parent_pack.as_ref().ok_or_else(|| damaged(shown))?;
    let (taken, copied) = captured.pack.append(parent, extents)?;
    if copied < extents.iter().map(|extent| extent.length).sum() {
        return Err(damaged(shown));
    }
    Ok(taken)
}

fn damaged(path: &str) -> Error {
    let text = format!("the parent image's copy of a file is damaged: {path}");
    Error::Corrupt(Report::new(text).remedy("take the next checkpoint without a parent"))
}

fn used(captured: &Captured) -> Vec<Extent> {
    let entries = captured.index.trees.iter().flat_map(|tree| &tree.entries);
    let extents = entries.filter_map(|entry| match &entry.kind {
        Kind::File { content: Content::Stored { extents, .. }, .. } => Some(extents),
        _ => None,
    });
    extents.flatten().copied().collect()
}
