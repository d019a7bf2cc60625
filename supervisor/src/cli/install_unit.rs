//! `install-unit`: our unit for systemd, written and, if asked for, started.
//!
//! It says each thing that it does, refuses to write over a unit that somebody changed, and enables nothing by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use engine::durable;
use engine::process::command::Command;
use serde_json::json;

use super::failure::Failure;
use super::screen::Screen;
use super::{check, unit};

/// There is a systemd where this is, and nowhere else (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// Where packages put their units. One of the same name in `/etc` hides them.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Longer than a start may take, by the unit.
const SYSTEMCTL_MAX: Duration = Duration::from_secs(330);
const UNIT_MODE: u32 = 0o644;

/// Which unit goes where.
#[derive(Debug, PartialEq, Args)]
pub(crate) struct Wanted {
    /// Print the unit, and do nothing
    #[arg(long)]
    pub(super) print: bool,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "print")]
    pub(super) dry_run: bool,
    /// Replace a unit that is there and differs; it stays beside as FILE.old
    #[arg(long)]
    pub(super) replace: bool,
    /// Start it, now and at every boot
    #[arg(long)]
    pub(super) enable: bool,
    /// Where the unit is written
    #[arg(long, value_name = "FILE", default_value = "/etc/systemd/system/supervisor.service")]
    pub(super) unit: PathBuf,
    /// The program that it starts [default: this one]
    #[arg(long, value_name = "FILE")]
    pub(super) program: Option<PathBuf>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The former unit is kept under another name.
    Keep(PathBuf),
    /// The unit is written.
    Write,
    /// systemd is told.
    Tell(Vec<String>),
}

/// Writes the unit, or says what would be written.
pub(crate) async fn install_unit(
    screen: &Screen,
    config: Option<&Path>,
    wanted: &Wanted,
) -> Result<(), Failure> {
    install(screen, config, wanted, Path::new(BOOTED).is_dir()).await
}

/// `booted`: whether there is a systemd to be told.
async fn install(
    screen: &Screen,
    config: Option<&Path>,
    wanted: &Wanted,
    booted: bool,
) -> Result<(), Failure> {
    let config = config.ok_or_else(|| {
        Failure::Invalid("name the configuration: supervisor install-unit --config FILE".to_owned())
    })?;
    let program = wanted.program.clone().map_or_else(std::env::current_exe, Ok).and_then(std::path::absolute);
    let program = program.map_err(|e| Failure::Failed(format!("cannot find this program: {e}")))?;
    let config = std::path::absolute(config).map_err(|e| Failure::Invalid(e.to_string()))?;
    let text = unit::text(&program, &config)?;
    if wanted.print {
        return screen.print(&text);
    }
    // A supervisor that cannot start is not worth a unit.
    check::read(&config)?;
    let steps = plan(wanted, &text, booted)?;
    let mut said = Vec::new();
    for step in &steps {
        if !wanted.dry_run {
            carry_out(step, &wanted.unit, &text).await?;
        }
        said.push(described(step, &wanted.unit));
    }
    tell(screen, wanted, &said)
}

fn plan(wanted: &Wanted, text: &str, booted: bool) -> Result<Vec<Step>, Failure> {
    let there = existing(&wanted.unit)?;
    let is_so = there.as_deref() == Some(text);
    if is_so && !wanted.enable {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    if !is_so {
        if let Some(there) = there {
            steps.push(Step::Keep(former(wanted, &there, text)?));
        }
        steps.push(Step::Write);
    }
    if booted {
        steps.push(systemctl(&["daemon-reload"]));
    }
    if wanted.enable {
        // Without a systemd that runs it can still be wanted at the next boot.
        let now: &[&str] = if booted { &["--now"] } else { &[] };
        steps.push(systemctl(&[&["enable"], now, &[&name(&wanted.unit)]].concat()));
    }
    Ok(steps)
}

/// What systemd calls it.
fn name(unit: &Path) -> String {
    unit.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is there; a link (`systemctl mask` makes one to /dev/null) counts by what it leads to.
fn existing(unit: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(unit) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !unit.is_symlink() => Ok(None),
        Err(e) => Err(Failure::Failed(format!("cannot read {}: {e}", unit.display()))),
    }
}

/// The name under which the former unit is kept, if it may be replaced.
fn former(wanted: &Wanted, there: &str, text: &str) -> Result<PathBuf, Failure> {
    let shown = wanted.unit.display();
    if !wanted.replace {
        return Err(Failure::Denied(format!(
            "{shown} is there and is another one (-), not the one to be written (+):\n{}  \
             settings of your own belong into a drop-in (systemctl edit); --replace keeps this one as {shown}.old",
            differences(there, text)
        )));
    }
    let kept = PathBuf::from(format!("{shown}.old"));
    match kept.exists() {
        true => Err(Failure::Denied(format!("{} is there already: move it away", kept.display()))),
        false => Ok(kept),
    }
}

/// The lines that only one of the two has.
fn differences(old: &str, new: &str) -> String {
    let only = |sign: char, one: &str, other: &str| -> String {
        let lines = one.lines().filter(|line| !line.trim().is_empty() && !other.lines().any(|o| o == *line));
        lines.map(|line| format!("  {sign}{line}\n")).collect()
    };
    only('-', old, new) + &only('+', new, old)
}

fn systemctl(arguments: &[&str]) -> Step {
    Step::Tell(std::iter::once("systemctl").chain(arguments.iter().copied()).map(str::to_owned).collect())
}

async fn carry_out(step: &Step, unit: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: engine::Error| Failure::Failed(error.to_string());
    match step {
        Step::Keep(kept) => durable::rename(unit, kept).map_err(failed),
        Step::Write => durable::atomic_write(unit, text.as_bytes(), UNIT_MODE).map_err(failed),
        Step::Tell(argv) => {
            let output = Command::new(argv.clone()).timeout(SYSTEMCTL_MAX).run().await.map_err(failed)?;
            match output.success() {
                true => Ok(()),
                false => Err(Failure::Failed(format!("{} failed: {}", argv.join(" "), output.stderr.trim()))),
            }
        }
    }
}

fn described(step: &Step, unit: &Path) -> String {
    match step {
        Step::Keep(kept) => format!("keep the former unit as {}", kept.display()),
        Step::Write => format!("write {}", unit.display()),
        Step::Tell(argv) => argv.join(" "),
    }
}

fn tell(screen: &Screen, wanted: &Wanted, said: &[String]) -> Result<(), Failure> {
    let shown = wanted.unit.display();
    if screen.is_json() {
        return screen.json(&json!({ "unit": wanted.unit, "steps": said, "done": !wanted.dry_run }));
    }
    if said.is_empty() {
        screen.line(&format!("{shown} is so already"))?;
    }
    for line in said {
        screen.line(&format!("{} {line}", if wanted.dry_run { "would:" } else { "done: " }))?;
    }
    if let Some(hidden) = hidden(&wanted.unit) {
        screen.line(&format!("note: {shown} hides the package's unit {}", hidden.display()))?;
    }
    match wanted.enable {
        true => Ok(()),
        false => {
            let name = name(&wanted.unit);
            screen.line(&format!("it is not enabled by this; systemctl enable --now {name} starts it"))
        }
    }
}

/// A package's unit that does not count any more.
fn hidden(unit: &Path) -> Option<PathBuf> {
    let name = unit.file_name()?;
    let in_etc = unit.starts_with("/etc/systemd/system");
    PACKAGED.iter().map(|folder| Path::new(folder).join(name)).find(|packaged| in_etc && packaged.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[service.a]\nprocess = { command = [\"/bin/true\"] }\n";

    struct Place {
        folder: tempfile::TempDir,
        wanted: Wanted,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join("ha.toml"), CONFIG).expect("room");
            let wanted = Wanted {
                print: false,
                dry_run: false,
                replace: false,
                enable: false,
                unit: folder.path().join("s.service"),
                program: Some("/usr/bin/supervisor".into()),
            };
            Self { folder, wanted }
        }

        fn steps(&self, booted: bool) -> Result<Vec<Step>, Failure> {
            plan(&self.wanted, "[Unit]\nours\n", booted)
        }

        fn install(&self) -> Result<(), Failure> {
            let config = self.folder.path().join("ha.toml");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            // Never a systemd of whoever runs this test.
            runtime.block_on(install(&Screen::plain(), Some(&config), &self.wanted, false))
        }

        fn unit(&self) -> String {
            std::fs::read_to_string(&self.wanted.unit).expect("a unit")
        }
    }

    #[test]
    fn nothing_is_told_to_a_systemd_that_is_not_there_and_nothing_enabled_unasked() {
        let mut place = Place::new();
        assert_eq!(place.steps(false).expect("free"), [Step::Write]);
        assert_eq!(place.steps(true).expect("free"), [Step::Write, systemctl(&["daemon-reload"])]);
        place.wanted.enable = true;
        let enabled =
            [Step::Write, systemctl(&["daemon-reload"]), systemctl(&["enable", "--now", "s.service"])];
        assert_eq!(place.steps(true).expect("free"), enabled);
        assert_eq!(place.steps(false).expect("free"), [Step::Write, systemctl(&["enable", "s.service"])]);
        std::fs::write(&place.wanted.unit, "[Unit]\nours\n").expect("room");
        assert_eq!(place.steps(true).expect("the same"), enabled[1..]);
        place.wanted.enable = false;
        assert_eq!(place.steps(true).expect("the same"), []);
    }

    #[test]
    fn a_changed_unit_is_never_written_over() {
        let mut place = Place::new();
        place.install().expect("written");
        let written = place.unit();
        place.install().expect("so already");
        let edited = written.replace("WatchdogSec=30s", "WatchdogSec=5s");
        std::fs::write(&place.wanted.unit, &edited).expect("room");
        let refused = place.install().expect_err("it was edited");
        let text = refused.to_string();
        assert_eq!(refused.exit_code(), 4);
        assert!(
            text.contains("\n  -WatchdogSec=5s\n  +WatchdogSec=30s\n") && text.contains("--replace"),
            "{text}"
        );
        assert_eq!(place.unit(), edited);
        place.wanted.replace = true;
        place.install().expect("asked for");
        let old = PathBuf::from(format!("{}.old", place.wanted.unit.display()));
        assert_eq!((place.unit(), std::fs::read_to_string(&old).expect("kept")), (written, edited.clone()));
        std::fs::write(&place.wanted.unit, &edited).expect("room");
        assert_eq!(place.install().expect_err("kept once already").exit_code(), 4);
        assert_eq!(place.unit(), edited);
    }

    #[test]
    fn a_masked_unit_is_somebodys_decision() {
        let place = Place::new();
        std::os::unix::fs::symlink("/dev/null", &place.wanted.unit).expect("masked");
        assert_eq!(place.install().expect_err("masked").exit_code(), 4);
        assert!(place.wanted.unit.is_symlink());
    }

    #[test]
    fn a_dry_run_and_a_configuration_with_mistakes_write_nothing() {
        let mut place = Place::new();
        place.wanted.dry_run = true;
        place.install().expect("said");
        place.wanted.dry_run = false;
        std::fs::write(place.folder.path().join("ha.toml"), "[servic.a]\n").expect("room");
        assert_eq!(place.install().expect_err("a mistake").exit_code(), 2);
        assert!(!place.wanted.unit.exists());
        place.wanted.print = true;
        place.install().expect("the text needs no configuration");
    }
}
