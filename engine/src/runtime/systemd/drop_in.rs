//! The drop-in by which a unit, started once, starts what restores it. It lies in `/run`, so that a reboot ends it, and is there only while a
//! restore is under way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::restorer::COMMAND;
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::systemd::{is_plain, word};

/// systemd's folder for what does not outlive the host's run.
const FOLDER: &str = "/run/systemd/system";
/// Drop-ins are read in the order of their names, whatever folder they are in.
const NAME: &str = "zzz-supervisor-restore.conf";
const MODE: u32 = 0o644;

#[derive(Debug)]
pub(super) struct DropIn {
    folder: PathBuf,
}

/// What is started.
pub(super) struct Start<'a> {
    /// Our own program.
    pub(super) program: &'a Path,
    pub(super) order: &'a Path,
    pub(super) pid_file: &'a Path,
    pub(super) limit: Duration,
    /// What the unit's lines in the journal are marked with.
    pub(super) log_name: &'a str,
}

impl DropIn {
    pub(super) fn of(unit: &str) -> Self {
        Self { folder: Path::new(FOLDER).join(format!("{unit}.d")) }
    }

    pub(super) fn exists(&self) -> bool {
        self.path().exists()
    }

    pub(super) fn write(&self, start: &Start<'_>) -> Result<()> {
        let text = start.text()?;
        make_readable_folder(&self.folder)?;
        durable::atomic_write_volatile(&self.path(), text.as_bytes(), MODE)
    }

    /// Its folder goes too, unless others have something there.
    pub(super) fn remove(&self) -> Result<()> {
        durable::remove_file(&self.path())?;
        let _ = std::fs::remove_dir(&self.folder);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }
}

impl Start<'_> {
    /// What the unit does otherwise before and after its start is left out: it belongs to a start from scratch. `+`: neither its user nor
    /// its sandbox is put on our program; CRIU brings both back with the processes.
    fn text(&self) -> Result<String> {
        let [program, order, pid_file] =
            [self.program, self.order, self.pid_file].map(|path| path.display().to_string());
        if !program.chars().all(is_plain) || pid_file.chars().any(char::is_whitespace) {
            let text = format!(
                "restore a unit by {program}: systemd needs a path of letters, digits and / . _ + - only"
            );
            return Err(Error::Invalid(Report::new(text)));
        }
        Ok(format!(
            "# Written by the supervisor for one restore, and removed after it.\n\
             [Service]\n\
             Type=forking\n\
             PIDFile={}\n\
             Restart=no\n\
             TimeoutStartSec={}\n\
             SyslogIdentifier={}\n\
             ExecCondition=\n\
             ExecStartPre=\n\
             ExecStart=\n\
             ExecStart=+{program} {COMMAND} {}\n\
             ExecStartPost=\n",
            pid_file.replace('%', "%%"),
            self.limit.as_secs().max(1),
            self.log_name.replace('%', "%%"),
            word(&order)
        ))
    }
}

/// Everybody may read what units are: a folder of systemd's, with the mode that systemd's have.
fn make_readable_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().mode(0o755).recursive(true).create(folder);
    made.map_err(|e| Error::Refused(Report::new(format!("make the folder {}", folder.display())).because(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_started_and_nothing_of_what_was() {
        let said = |program: &str, order: &str| {
            let (program, order, pid_file) =
                (Path::new(program), Path::new(order), Path::new("/run/s/main.pid"));
            Start { program, order, pid_file, limit: Duration::from_secs(70), log_name: "tally" }.text()
        };
        let text = said("/usr/bin/supervisor", "/run/s/my %order.json").expect("a drop-in");
        for line in [
            "Type=forking",
            "PIDFile=/run/s/main.pid",
            "TimeoutStartSec=70",
            "SyslogIdentifier=tally",
            "ExecStartPre=",
            "ExecStart=+/usr/bin/supervisor restore-unit \"/run/s/my %%order.json\"",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        let cleared = text.find("ExecStart=\n").expect("the former command goes");
        assert!(cleared < text.find("ExecStart=+").expect("ours comes"));
        said("/opt/a b/supervisor", "/run/x").expect_err("systemd has no way to write it");
    }
}
