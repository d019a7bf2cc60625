//! SIGKILL of the supervisor at every step of what it does: the service is not left frozen meanwhile, the next
//! start finds it running or brings it back, and the store is whole.
//!
//! The steps are the fail points in the sources; one that no test dies at is a failure of its own.
#![allow(missing_docs)]

#[path = "fail_points/scene.rs"]
mod scene;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use scene::{Scene, Trigger};
use system_tests::Runtime;

/// One test for each: its name, the fail point, what leads there, and what is to be found before the next start.
macro_rules! dies_at {
    ($module:ident, $runtime:expr, $passed:ident: $($name:ident: $point:literal by $trigger:ident;)*) => {
        const $passed: &[&str] = &[$($point),*];
        mod $module {
            use super::{Runtime, Scene, Trigger};
            $(#[test] fn $name() {
                if let Some(scene) = Scene::set($runtime, Trigger::$trigger) {
                    scene.play($point);
                }
            })*
        }
    };
}

dies_at! { process, Runtime::Process, BY_PROCESS:
    start_intended: "start.intended" by FirstStart;
    start_started: "start.started" by FirstStart;
    image_stage: "image.stage" by Checkpoint;
    checkpoint_staged: "checkpoint.staged" by Checkpoint;
    checkpoint_before_freeze: "checkpoint.before-freeze" by Checkpoint;
    checkpoint_frozen: "checkpoint.frozen" by Checkpoint;
    checkpoint_dumped: "checkpoint.dumped" by Checkpoint;
    checkpoint_thawed: "checkpoint.thawed" by Checkpoint;
    image_seal_before: "image.seal.before" by Checkpoint;
    image_sealed: "image.sealed" by Checkpoint;
    image_staging: "image.staging" by Checkpoint;
    image_segment: "image.segment" by Checkpoint;
    image_manifest_before: "image.manifest.before" by Checkpoint;
    image_manifest_after: "image.manifest.after" by Checkpoint;
    image_rename_after: "image.rename.after" by Checkpoint;
    mark_before: "mark.before" by Checkpoint;
    mark_after: "mark.after" by Checkpoint;
    remove_seal: "remove.seal" by Checkpoint;
    remove_hot: "remove.hot" by Checkpoint;
    remove_renamed: "remove.renamed" by Checkpoint;
    remove_marks: "remove.marks" by Checkpoint;
    remove_done: "remove.done" by Checkpoint;
    kill_intended: "kill.intended" by Crash;
    kill_intended_of_a_hung_one: "kill.intended" by Hang;
    kill_killed: "kill.killed" by Crash;
    restore_intended: "restore.intended" by Crash;
    restore_prepared: "restore.prepared" by Crash;
    restore_files: "restore.files" by Crash;
    restore_restored: "restore.restored" by Crash;
    image_unpack: "image.unpack" by CrashWithoutHotCopy;
    image_unpacked: "image.unpacked" by CrashWithoutHotCopy;
    stop_intended: "stop.intended" by Stop;
    suspend_intended: "suspend.intended" by Suspend;
    checkpoint_complete: "checkpoint.complete" by Suspend;
    suspend_kept: "suspend.kept" by Suspend;
    suspend_ended: "suspend.ended" by Suspended;
}

// Where what the runtime does differs.
dies_at! { runc, Runtime::Runc, BY_RUNC:
    start_intended: "start.intended" by FirstStart;
    start_started: "start.started" by FirstStart;
    checkpoint_staged: "checkpoint.staged" by Checkpoint;
    checkpoint_before_freeze: "checkpoint.before-freeze" by Checkpoint;
    checkpoint_frozen: "checkpoint.frozen" by Checkpoint;
    checkpoint_dumped: "checkpoint.dumped" by Checkpoint;
    checkpoint_thawed: "checkpoint.thawed" by Checkpoint;
    image_sealed: "image.sealed" by Checkpoint;
    image_manifest_before: "image.manifest.before" by Checkpoint;
    kill_intended: "kill.intended" by Crash;
    kill_intended_of_a_hung_one: "kill.intended" by Hang;
    kill_killed: "kill.killed" by Crash;
    restore_intended: "restore.intended" by Crash;
    restore_files: "restore.files" by Crash;
    restore_restored: "restore.restored" by Crash;
    image_unpacked: "image.unpacked" by CrashWithoutHotCopy;
    stop_intended: "stop.intended" by Stop;
    suspend_intended: "suspend.intended" by Suspend;
    checkpoint_complete: "checkpoint.complete" by Suspend;
    suspend_kept: "suspend.kept" by Suspend;
    suspend_ended: "suspend.ended" by Suspended;
}

// The service dies while no supervisor runs, after one that died in a checkpoint.
dies_at! { service_too, Runtime::Process, AND_THE_SERVICE_TOO:
    checkpoint_frozen: "checkpoint.frozen" by CheckpointThenCrash;
    checkpoint_dumped: "checkpoint.dumped" by CheckpointThenCrash;
    image_seal_before: "image.seal.before" by CheckpointThenCrash;
    image_sealed: "image.sealed" by CheckpointThenCrash;
    image_segment: "image.segment" by CheckpointThenCrash;
    image_manifest_before: "image.manifest.before" by CheckpointThenCrash;
    image_manifest_after: "image.manifest.after" by CheckpointThenCrash;
    image_rename_after: "image.rename.after" by CheckpointThenCrash;
    remove_renamed: "remove.renamed" by CheckpointThenCrash;
}

/// Sending to and from replicas; `replicas.rs` dies at these.
const BY_REPLICAS: [&str; 4] =
    ["incoming.complete", "replica.manifest.before", "replica.part", "replica.removed"];

/// From memory to memory; `handover.rs` dies at these.
const BY_HAND_OVERS: [&str; 5] =
    ["handover.answered", "handover.before", "handover.half", "handover.sealed", "handover.taken-half"];

/// `engine`'s own tests die at these, with every step of the store's; `tests/address.rs` looks at what the first one
/// leaves, `tests/ends.rs` dies at those of the end, and `tests/containers.rs` at the last.
const ELSEWHERE: [&str; 9] = [
    "address-recorded",
    "end.ended",
    "end.intended",
    "image.key",
    "import.manifest.before",
    "import.rename.after",
    "rekey.after",
    "rekey.before",
    "restore.described",
];

#[test]
fn every_fail_point_in_the_sources_is_died_at() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace");
    let mut named = BTreeSet::new();
    for package in ["engine/src", "supervisor/src"] {
        for file in rust_files(&sources.join(package)) {
            named.extend(fail_points(&fs::read_to_string(file).expect("sources are text")));
        }
    }
    let known = [BY_PROCESS, BY_RUNC, AND_THE_SERVICE_TOO, &BY_REPLICAS, &BY_HAND_OVERS, &ELSEWHERE].concat();
    let known: BTreeSet<String> = known.into_iter().map(str::to_owned).collect();
    assert_eq!(named, known, "left: in the sources; right: died at here");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("list {}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs"));
    files.chain(folders.iter().flat_map(|folder| rust_files(folder))).collect()
}

fn fail_points(text: &str) -> Vec<String> {
    let calls = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let named = calls.filter_map(|line| line.split_once("fail_point(\"")?.1.split_once('"'));
    named.map(|(name, _)| name.to_owned()).collect()
}
