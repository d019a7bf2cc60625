//! The socket's file: nobody but its owner can open it, at no moment.
//!
//! It is bound in a folder of its own (0700), made 0600 there, and only then renamed to its place. It refuses to take the place of
//! a socket that somebody answers on, or of anything that is no socket.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use engine::durable::{self, FILE_MODE};
use engine::error::{Error, Report, Result};
use tokio::net::{UnixListener, UnixStream};

/// The socket's file as we made it.
#[derive(Debug)]
pub(super) struct OwnFile {
    path: PathBuf,
    /// Device and inode: somebody else's socket of the same name is left alone.
    identity: (u64, u64),
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let there = std::fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if there.is_ok_and(|identity| identity == self.identity) {
            // The next start replaces what stays.
            let _ = durable::remove_file(&self.path);
        }
    }
}

/// Binds it.
pub(super) async fn bind(path: &Path) -> Result<(UnixListener, OwnFile)> {
    let path = std::path::absolute(path).map_err(|e| durable::failed("find", path, e))?;
    let parent = path.parent().ok_or_else(|| invalid(&path, "it has no folder"))?;
    durable::create_dir_all(parent)?;
    make_way(&path).await?;
    let private = parent.join(format!(".api-{}", std::process::id()));
    durable::remove_tree(&private)?;
    durable::create_new_dir(&private)?;
    let bound = bind_in(&private, &path);
    durable::remove_tree(&private)?;
    bound
}

fn bind_in(private: &Path, path: &Path) -> Result<(UnixListener, OwnFile)> {
    let first = private.join("s");
    let listener = UnixListener::bind(&first).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidInput => {
            invalid(path, "its path is too long for a socket (about 90 characters)")
        }
        _ => durable::failed("bind the API's socket", path, e),
    })?;
    let own = std::fs::set_permissions(&first, std::fs::Permissions::from_mode(FILE_MODE));
    let found = own.and_then(|()| std::fs::symlink_metadata(&first));
    let found = found.map_err(|e| durable::failed("set the mode of", path, e))?;
    durable::rename(&first, path)?;
    Ok((listener, OwnFile { path: path.to_owned(), identity: (found.dev(), found.ino()) }))
}

/// Only a socket on which nobody answers may be replaced.
async fn make_way(path: &Path) -> Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(durable::failed("look at", path, e)),
    };
    if !found.file_type().is_socket() {
        return Err(invalid(path, "something that is no socket lies there"));
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(Error::Refused(
            Report::new(format!("another supervisor answers on {}", path.display()))
                .remedy("stop it first, or give this one its own api.socket"),
        )),
        // Nobody listens: the one who did is dead. The rename replaces it.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(e) => Err(durable::failed("connect to", path, e)),
    }
}

fn invalid(path: &Path, why: &str) -> Error {
    let text = format!("cannot use {} as the API's socket: {why}", path.display());
    Error::Invalid(Report::new(text).remedy("choose another api.socket"))
}
