//! One supervisor a folder, be it for state, sockets or images: the second is refused, says who is there, and harms nothing.

use std::time::Duration;

use system_tests::bad_days::{Counter, Site, said};
use system_tests::wait_until;

#[test]
fn a_second_supervisor_on_the_same_state_folder_is_refused_and_harms_nothing() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).checkpoint("interval = \"300ms\"");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    let (pid, number) = (node.service_pid("counter"), counter.count_to(5));

    let second = node.refused();

    assert!(!second.status.success(), "{second:?}");
    let text = said(&second);
    assert!(text.contains(&format!("another supervisor (pid {})", node.supervisor_pid())), "{text}");
    assert!(text.contains("stop it first"), "a remedy: {text}");
    assert_eq!(node.service_pid("counter"), pid, "the service is untouched");
    assert!(counter.number() >= number);
    // The socket is still the first one's, and checkpoints go on.
    let before = node.events_of("counter", "image-durable").len();
    wait_until(Duration::from_secs(20), "another durable image", || {
        node.events_of("counter", "image-durable").len() > before
    });
    assert!(node.cli(&["status"]).status.success());
}

#[test]
fn two_supervisors_do_not_share_a_store() {
    let (Some(mut first), Some(second)) = (Site::or_skip(), Site::or_skip()) else { return };
    let store = format!("[store]\npath = {:?}\n", first.folder().join("shared"));
    let (here, there) = (Counter::new("here", &first), Counter::new("there", &second));
    first.configure(&format!("{store}{}", here.toml()));
    second.configure(&format!("{store}{}", there.toml()));
    first.start();

    let refused = second.refused();

    let text = said(&refused);
    assert!(text.contains(&format!("another supervisor (pid {})", first.supervisor_pid())), "{text}");
    assert!(text.contains("store.path"), "it says which: {text}");
    assert!(first.cli(&["status"]).status.success());
}

#[test]
fn a_state_folder_that_cannot_be_written_to_is_said_with_its_remedy() {
    let Some(node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node);
    node.configure(&counter.toml());
    let mount = system_tests::bad_days::Tmpfs::mount(&node.state_dir(), "8m");
    let Some(mount) = mount else { return };
    mount.make_read_only();

    let refused = node.refused();

    assert!(!refused.status.success(), "{refused:?}");
    let text = said(&refused);
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(text.contains("remedy:") && text.contains("writable disk"), "{text}");
}
