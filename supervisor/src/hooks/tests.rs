//! Who is told of what, with real commands.

use std::path::{Path, PathBuf};

use super::*;

/// Nothing here takes that long.
const LIMIT: Duration = Duration::from_secs(20);

struct Scene {
    folder: tempfile::TempDir,
    events: Events,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let events = Events::open(&folder.path().join("events.log")).expect("a journal");
        Self { folder, events }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn hooks(&self, text: &str) -> Hooks {
        Hooks::start(&config(text), self.events.clone(), "alpha".to_owned())
    }

    fn happens(&self, service: Option<&str>, kind: &str) {
        self.events.record(plain(service, kind, "it happened"));
    }

    fn failures(&self) -> Vec<String> {
        let kept = self.events.kept().expect("the journal is read");
        kept.into_iter().filter(|record| record.kind == HOOK_FAILED).map(|record| record.text).collect()
    }
}

fn config(text: &str) -> Config {
    Config::parse(text, "ha.toml", &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A hook that writes a line for each event.
fn writes(file: &Path) -> String {
    let script = format!("echo $SUPERVISOR_EVENT_SERVICE:$SUPERVISOR_EVENT_KIND >> {}", file.display());
    format!("on_event = [\"/bin/sh\", \"-c\", \"{script}\"]")
}

fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_hook_is_told_of_its_kinds_and_its_service_in_order() {
    let scene = Scene::new();
    let (all, own) = (scene.file("all"), scene.file("own"));
    let services = "[service.web]\nprocess.command = ['web']\n[service.db]\nprocess.command = ['db']\n";
    let hooks = scene.hooks(&format!(
        "[hooks]\n{}\n{services}[service.db.hooks]\n{}\nkinds = ['noticed', 'recovered']\n",
        writes(&all),
        writes(&own)
    ));
    for (service, kind) in [
        (Some("db"), "noticed"),
        (Some("web"), "noticed"),
        (None, "node-stopping"),
        (Some("db"), "rung-taken"),
        (Some("db"), "recovered"),
    ] {
        scene.happens(service, kind);
    }
    hooks.end().await;
    assert_eq!(lines(&all), ["db:noticed", "web:noticed", ":node-stopping", "db:rung-taken", "db:recovered"]);
    assert_eq!(lines(&own), ["db:noticed", "db:recovered"]);
    assert!(scene.failures().is_empty(), "{:?}", scene.failures());
}

#[tokio::test]
async fn a_failed_hook_is_an_event_that_no_hook_is_told_of() {
    let scene = Scene::new();
    let file = scene.file("told");
    let script = format!("echo $SUPERVISOR_EVENT_KIND >> {}; echo no way >&2; exit 1", file.display());
    let hooks = scene.hooks(&format!("[hooks]\non_event = [\"/bin/sh\", \"-c\", \"{script}\"]\n"));
    scene.happens(Some("db"), "noticed");
    scene.happens(Some("db"), "recovered");
    hooks.end().await;
    assert_eq!(lines(&file), ["noticed", "recovered"]);
    let [first, second] = scene.failures().try_into().expect("one for each");
    assert!(first.starts_with("on_event was not told of `noticed` (number 1): run /bin/sh -c "), "{first}");
    assert!(first.ends_with("it ended with exit status: 1\n    | no way"), "{first}");
    assert!(second.contains("`recovered`"), "{second}");
}

#[tokio::test]
async fn a_hook_that_hangs_delays_nobody_and_what_it_misses_is_said() {
    let scene = Scene::new();
    let (begun, pid) = (scene.file("begun"), scene.file("pid"));
    let script = format!("echo $$ > {}; mv {0} {}; exec sleep 1000", pid.display(), begun.display());
    let hooks =
        scene.hooks(&format!("[hooks]\non_event = [\"/bin/sh\", \"-c\", \"{script}\"]\ntimeout = \"1h\"\n"));
    scene.happens(None, "noticed");
    let waited = async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waited).await.expect("the hook begins");
    for _ in 0..QUEUE + 10 {
        scene.happens(None, "recovered");
        // The listener has its turn, as it has one beside services.
        tokio::task::yield_now().await;
    }
    hooks.end().await;
    let stat = Path::new("/proc").join(lines(&begun).remove(0)).join("stat");
    // Killed by now; the kernel ends it and tokio reaps it in their own time.
    let ended = async {
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("it was killed");
    assert_eq!(scene.failures(), [format!("on_event is behind by {QUEUE} events, and misses further ones")]);
}

#[tokio::test]
async fn other_hooks_take_over_without_a_gap() {
    let scene = Scene::new();
    let (former, later) = (scene.file("former"), scene.file("later"));
    let mut hooks = scene.hooks(&format!("[hooks]\n{}\n", writes(&former)));
    scene.happens(Some("db"), "noticed");
    hooks.replace(&config(&format!("[hooks]\n{}\n", writes(&later))));
    scene.happens(Some("db"), "recovered");
    hooks.end().await;
    assert_eq!(lines(&former)[0], "db:noticed");
    assert_eq!(lines(&later), ["db:recovered"]);
}

/// Kinds are words of this crate; hooks ask for them in words of the configuration.
#[test]
fn every_kind_that_is_recorded_can_be_asked_for() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut recorded = std::collections::BTreeSet::new();
    for file in files(&sources) {
        let name = file.display().to_string();
        if name.contains("tests") || name.contains("/cli") {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("a source");
        // After the notices come answers to requests.
        let ends = ["#[cfg(test)]\nmod", "pub(crate) fn settle("];
        let source =
            ends.iter().fold(source.as_str(), |source, end| source.split(end).next().unwrap_or_default());
        let openings: &[&str] =
            if name.ends_with("notices.rs") { &["("] } else { &["plain(", " failed(", "(failed(", ".tell("] };
        for opening in openings {
            recorded.extend(source.split(opening).skip(1).filter_map(kind).map(str::to_owned));
        }
    }
    let known: std::collections::BTreeSet<_> =
        config::EVENT_KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    // Said by constants.
    recorded.extend([HOOK_FAILED.to_owned()]);
    assert!(recorded.contains("recovered") && recorded.contains("node-started"), "{recorded:?}");
    let none: Vec<&String> = Vec::new();
    assert_eq!(recorded.difference(&known).collect::<Vec<_>>(), none, "not in config::EVENT_KINDS");
    assert_eq!(known.difference(&recorded).collect::<Vec<_>>(), none, "never recorded");
}

/// The first text of a call, if it looks like a kind.
fn kind(call: &str) -> Option<&str> {
    let call = &call[..call.find(';').unwrap_or(call.len())];
    let kind = call.split('"').nth(1)?;
    let looks = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    (looks && call.find('"')? < 120).then_some(kind)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
