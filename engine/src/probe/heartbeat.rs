//! Waits for the service to touch a file: by writing to it, replacing it, or setting its times.
//!
//! A touch counts when it happens, as inotify tells it: times of files are not compared, which a clock that is set, or a file that came
//! back from an image, would make wrong. So it refuses to count a touch from before it was asked: the service must touch the
//! file at least once in every time limit of the probe. Network file systems tell nothing of what other hosts do.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventMask, Inotify, WatchMask};

use super::Answer;
use crate::error::{Error, Report, Result};

/// Room for one event with the longest name, and for many short ones.
const BUFFER: usize = 4096;

/// Passes as soon as a file is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    folder: PathBuf,
    name: OsString,
}

impl Heartbeat {
    /// The file need not exist yet, its folder must when it is asked for.
    ///
    /// # Errors
    /// `Invalid` for what cannot be a file's path.
    pub fn new(file: &Path) -> Result<Self> {
        match (file.parent(), file.file_name()) {
            (Some(folder), Some(name)) if file.is_absolute() => {
                Ok(Self { folder: folder.to_owned(), name: name.to_owned() })
            }
            _ => {
                let report = Report::new(format!("use as the file of a heartbeat: {}", file.display()));
                Err(Error::Invalid(report.remedy("write it as /run/app/alive")))
            }
        }
    }

    pub(super) async fn feel(&self, limit: Duration) -> Answer {
        match tokio::time::timeout(limit, self.touched()).await {
            Ok(Ok(())) => Ok("touched".to_owned()),
            Ok(Err(e)) => Err(format!("cannot watch {}: {e}", self.folder.display())),
            Err(_) => {
                let file = self.folder.join(&self.name);
                Err(format!(
                    "{} was not touched within {}",
                    file.display(),
                    humantime::format_duration(limit)
                ))
            }
        }
    }

    /// The folder is watched, not the file: that may be absent or be replaced.
    async fn touched(&self) -> io::Result<()> {
        let inotify = Inotify::init()?;
        let touches = WatchMask::ATTRIB | WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
        inotify.watches().add(&self.folder, touches | WatchMask::ONLYDIR)?;
        let mut events = inotify.into_event_stream([0; BUFFER])?;
        while let Some(event) = events.next().await {
            let event = event?;
            if event.name.as_deref() == Some(OsStr::new(&self.name)) {
                return Ok(());
            }
            if event.mask.contains(EventMask::IGNORED) {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests;
