//! Memory and declared files are from one instant: a workload that compares the two at every step never finds them apart, whichever
//! image it comes back from. What a restore that is not judged good did to the files is undone.

use std::fs;
use std::path::{Path, PathBuf};

use system_tests::bad_days::{Sequence, Site};

/// Images to come back from, each once.
const IMAGES: usize = 4;

#[test]
fn they_agree_after_every_restore_of_a_process() {
    let Some(mut node) = Site::or_skip() else { return };
    let volume = node.folder().join("volume");
    let sequence = Sequence::process(&node, &[&volume], &[&volume]);
    agree_after_every_restore(&mut node, &sequence);
}

#[test]
fn they_agree_after_every_restore_of_a_container() {
    let Some(mut node) = Site::or_skip_with_runc() else { return };
    let volume = node.folder().join("volume");
    // One folder in the container's own root, the other on a volume.
    let sequence = Sequence::container(&node, &[Path::new("/data")], &volume);
    agree_after_every_restore(&mut node, &sequence);
}

fn agree_after_every_restore(node: &mut Site, sequence: &Sequence) {
    node.configure(&sequence.toml("interval = \"never\"\nmax_checkpoints = 20", ""));
    node.start();
    sequence.healthy(node);
    let (mut images, mut numbers) = (Vec::new(), Vec::new());
    for _ in 0..IMAGES {
        sequence.goes_on();
        images.push(node.checkpoint("sequence"));
        numbers.push(sequence.number());
    }

    // By a crash from the newest, then asked for, the newest first and the oldest last: each goes further back.
    node.kill_service("sequence");
    node.wait_event("sequence", "recovered");
    sequence.whole(node);
    for image in images.iter().rev() {
        let asked = node.cli(&["restore", "sequence", "--image", image]);
        assert!(asked.status.success(), "{image}: {asked:?}");
        sequence.whole(node);
    }
    let newest = numbers.last().copied().expect("several");
    assert!(sequence.started() == 0 && numbers.first().is_some_and(|first| *first < newest));
}

#[test]
fn files_that_are_new_gone_or_grown_are_as_they_were() {
    let Some(mut node) = Site::or_skip() else { return };
    let volume = node.folder().join("volume");
    let sequence = Sequence::process(&node, &[&volume.join("own")], &[&volume]);
    fs::create_dir_all(volume.join("folder")).expect("a folder");
    fs::write(volume.join("kept"), "as it was").expect("written");
    fs::write(volume.join("folder/gone"), "also").expect("written");
    std::os::unix::fs::symlink("kept", volume.join("link")).expect("linked");
    node.configure(&sequence.toml("interval = \"never\"", ""));
    node.start();
    sequence.healthy(&node);
    node.checkpoint("sequence");

    fs::write(volume.join("kept"), "as it was, and then more of it").expect("grown");
    fs::remove_dir_all(volume.join("folder")).expect("gone");
    fs::remove_file(volume.join("link")).expect("gone");
    fs::create_dir(volume.join("new folder")).expect("new");
    fs::write(volume.join("new folder/new"), "new").expect("new");
    node.kill_service("sequence");
    node.wait_event("sequence", "recovered");

    sequence.whole(&node);
    let content = |name: &str| fs::read_to_string(volume.join(name)).ok();
    assert_eq!(content("kept").as_deref(), Some("as it was"));
    assert_eq!(content("folder/gone").as_deref(), Some("also"));
    assert_eq!(fs::read_link(volume.join("link")).ok(), Some(PathBuf::from("kept")));
    assert!(!volume.join("new folder").exists());
    assert_eq!(
        fs::read_dir(node.state_dir().join("aside/sequence")).map_or(0, Iterator::count),
        0,
        "nothing is left aside"
    );
}

/// The restored service is sick: the files are then as the crash left them, and the cold start goes on from those.
#[test]
fn a_restore_that_is_not_judged_good_leaves_the_files_as_they_were_before_it() {
    let Some(mut node) = Site::or_skip() else { return };
    let volume = node.folder().join("volume");
    let sequence = Sequence::process(&node, &[&volume.join("own")], &[&volume]);
    node.configure(&sequence.toml(
        "interval = \"never\"",
        "ladder = [\"restore-latest\", \"cold-start\"]\nattempts_per_image = 1",
    ));
    node.start();
    sequence.healthy(&node);
    node.checkpoint("sequence");
    sequence.goes_on();
    fs::write(volume.join("after"), "the image").expect("written");
    let last = sequence.number();
    sequence.fall_sick();

    node.kill_service("sequence");
    node.wait_event("sequence", "rung-failed");
    sequence.get_well();
    let back = node.wait_event("sequence", "recovered");

    assert!(back.text.contains("cold-start"), "{}", back.text);
    sequence.whole(&node);
    assert!(
        sequence.started() >= last,
        "{} is before {last}: the image's files were left",
        sequence.started()
    );
    assert_eq!(fs::read_to_string(volume.join("after")).ok().as_deref(), Some("the image"));
}
