//! Images that others understand, and theirs: podman's checkpoint archives, and the same as an OCI image.
//!
//! ```text
//! image ──export──> archive (tar: config.dump, spec.dump, checkpoint/, rootfs-diff.tar, volumes/NAME.tar, ...)
//!                     zstd: `podman container restore --import`
//!                     the only layer of an OCI image: `podman container restore IMAGE`, CRI-O
//! archive ──import──> image of a podman service, restored as any other
//! ```
//!
//! An export is a stream whose lengths are known before its bytes, so nothing is put aside for it. An import believes nothing:
//! every name, link, type and length is checked, memory is bounded whatever an archive claims, and the image exists when all of
//! it was found whole. It refuses what the other side could not make a whole service of: images of other runtimes, files of
//! bind mounts, containers in pods. What CRIU's own files say is not looked into: whoever restores an image trusts who made it.

mod body;
mod oci;
mod package;
mod receive;
mod stream;
mod tree;
mod unpack;

#[cfg(test)]
mod tests;

use std::io::Write;

use crate::error::{Error, Report, Result};
use crate::images::Prepared;

pub use receive::{Recipient, receive};
pub use stream::{Form, Kind, RECOGNIZED_BY, recognize};

/// How an image is written for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As `podman container checkpoint --export` does it.
    Podman,
    /// As an OCI image in one archive.
    Oci,
}

/// A little compression: what follows is mostly memory.
const ZSTD_LEVEL: i32 = 1;

/// Writes an image of a podman service.
///
/// # Errors
/// `Refused` when it is none, or holds what the format cannot; then nothing was written. `Unavailable` when `to` takes no more.
pub fn export(image: &Prepared, format: Format, to: &mut dyn Write) -> Result<()> {
    let package = package::Package::of(image)?;
    match format {
        Format::Podman => {
            let mut encoder = zstd::stream::Encoder::new(to, ZSTD_LEVEL).map_err(unwritten)?;
            // Without one podman could not tell half an archive from a whole one.
            encoder.include_checksum(true).map_err(unwritten)?;
            package.write(&mut encoder)?;
            encoder.finish().and_then(|to| to.flush()).map_err(unwritten)
        }
        Format::Oci => oci::write(&package, image, to),
    }
}

fn unwritten(error: std::io::Error) -> Error {
    Error::Unavailable(Report::new("cannot write the archive").because(error))
}
