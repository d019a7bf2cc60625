//! `export`: an image as one archive.
//!
//! A file appears under its name only when it is whole and on disk; a file that is there already is never replaced.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use engine::durable::{self, NewFile, TEMPORARY_PREFIX};
use http_body_util::BodyExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::client::{Client, encode};
use super::failure::Failure;
use super::screen::{Screen, unwritten};
use super::{images, words};

/// Which image goes where, and how.
#[derive(Debug, PartialEq, Args)]
pub(crate) struct Wanted {
    /// The image
    pub(super) id: String,
    /// A file that is not there yet; - is standard output
    pub(super) file: PathBuf,
    /// For a supervisor, for `podman container restore --import`, or as an OCI image (`podman load`)
    #[arg(long, value_enum, default_value_t = Format::Native)]
    pub(super) format: Format,
}

/// How an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Everything, for a supervisor's `import`.
    Native,
    /// A checkpoint archive of podman's.
    Podman,
    /// An OCI image (an oci-archive) with the annotations of a checkpoint.
    Oci,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Podman => "podman",
            Self::Oci => "oci",
        }
    }
}

/// Exports into a file, or to standard output.
pub(crate) async fn export(screen: &Screen, client: &Client, wanted: &Wanted) -> Result<(), Failure> {
    let Wanted { id, file, format } = wanted;
    let to_stdout = *file == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::Invalid(
            "an archive is not for a terminal; send it elsewhere, or name a file".to_owned(),
        ));
    }
    let about = images::fetch(client, None).await?.into_iter().find(|image| image.id == *id);
    // What others get has another length, which nobody knows before.
    let length = about.filter(|_| *format == Format::Native).map_or(0, |image| image.stored_bytes);
    let progress = bar("export", length);
    let mut to: Box<dyn Sink> = if to_stdout { Box::new(Stdout) } else { Box::new(File::create(file)?) };
    let path = format!("/v1/images/{}/export?format={}", encode(id), format.word());
    let copied = copy(client, &path, to.as_mut(), &progress).await;
    progress.finish_and_clear();
    let length = copied?;
    to.finish()?;
    match to_stdout {
        true => Ok(()),
        false if screen.is_json() => screen.json(&json!({ "id": id, "file": file, "bytes": length })),
        false => screen.line(&format!("{}: image {id}, {}", file.display(), words::size(length))),
    }
}

async fn copy(
    client: &Client,
    path: &str,
    to: &mut dyn Sink,
    progress: &ProgressBar,
) -> Result<u64, Failure> {
    let mut body = client.stream(path).await?;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| {
            Failure::Failed(format!(
                "the archive broke off after {length} bytes, the supervisor's log says why: {e}"
            ))
        })?;
        if let Ok(bytes) = frame.into_data() {
            to.write(&bytes)?;
            length += bytes.len() as u64;
            progress.set_position(length);
        }
    }
    Ok(length)
}

/// Where an archive goes.
trait Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure>;
    /// All of it is there.
    fn finish(&mut self) -> Result<(), Failure>;
}

struct Stdout;

impl Sink for Stdout {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        io::stdout().write_all(bytes).map_err(unwritten)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        io::stdout().flush().map_err(unwritten)
    }
}

/// A file that gets its name last; dropped before that, nothing is left of it.
struct File {
    begun: Option<NewFile>,
    temporary: PathBuf,
    path: PathBuf,
}

impl File {
    fn create(path: &Path) -> Result<Self, Failure> {
        let (Some(name), false) = (path.file_name(), path.exists()) else {
            return Err(Failure::Invalid(format!(
                "is there already, choose another name: {}",
                path.display()
            )));
        };
        let temporary = format!("{TEMPORARY_PREFIX}{}-{}", std::process::id(), name.to_string_lossy());
        let temporary = path.with_file_name(temporary);
        let begun = NewFile::create(&temporary).map_err(failed)?;
        Ok(Self { begun: Some(begun), temporary, path: path.to_owned() })
    }
}

impl Sink for File {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.begun.as_mut().map_or(Ok(()), |file| file.write(bytes)).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let Some(file) = self.begun.take() else { return Ok(()) };
        let named = file.finish().and_then(|()| durable::rename(&self.temporary, &self.path));
        named.map_err(failed)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // After the renaming there is nothing of that name.
        let _ = durable::remove_file(&self.temporary);
    }
}

fn failed(error: engine::Error) -> Failure {
    Failure::Failed(error.to_string())
}

/// Shows how far an archive has come; a length of 0 is not known.
pub(super) fn bar(what: &str, length: u64) -> ProgressBar {
    let known = (length > 0).then_some(length);
    let bar = ProgressBar::with_draw_target(known, ProgressDrawTarget::stderr());
    let shown = if known.is_some() { "{bar:30} {bytes}/{total_bytes}" } else { "{bytes}" };
    let style = ProgressStyle::with_template(&format!("{{spinner}} {what} {shown} {{bytes_per_sec}}"));
    bar.set_style(style.expect("the template is right"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("image");
        let names = || std::fs::read_dir(folder.path()).expect("it is there").count();
        let mut half = File::create(&path).expect("a file");
        half.write(b"half").expect("room");
        drop(half);
        assert_eq!(names(), 0);
        let mut whole = File::create(&path).expect("a file");
        whole.write(b"all").expect("room");
        whole.finish().expect("room");
        drop(whole);
        assert_eq!((names(), std::fs::read(&path).expect("it is there")), (1, b"all".to_vec()));
        let there = File::create(&path).map(|_| ()).expect_err("it is there already");
        assert_eq!(there.exit_code(), 2);
    }
}
