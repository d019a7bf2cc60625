//! Whole screens, letter by letter.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::super::keys::Key;
use super::super::model::{Input, Model};
use super::*;
use crate::status::{
    CheckpointStatus, EventRecord, ImageStatus, NewestImage, NodeStatus, RecoveryStatus, ServiceStatus,
};
use crate::tenure::LeaseStatus;

const NORMAL: (u16, u16) = (80, 24);

fn terminal(model: &Model, (width, height): (u16, u16), coloured: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    terminal.draw(|frame| draw(frame, model, coloured)).expect("memory");
    terminal
}

/// The letters of it, without blanks at the ends of lines.
fn screen(model: &Model, size: (u16, u16)) -> String {
    let terminal = terminal(model, size, false);
    let cells = terminal.backend().buffer().content().chunks(usize::from(size.0));
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    cells.map(|cells| line(cells).trim_end().to_owned() + "\n").collect()
}

fn service(name: &str, state: &str) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        runtime: "process".to_owned(),
        state: state.to_owned(),
        ..Default::default()
    }
}

fn counter() -> ServiceStatus {
    ServiceStatus {
        verdict: Some("healthy".to_owned()),
        pid: Some(4242),
        running_seconds: Some(61.0),
        restarts: 1,
        last_recovery: Some(RecoveryStatus {
            cause: "crashed: signal 9".to_owned(),
            rung: "restore-latest".to_owned(),
            image: Some("i1".to_owned()),
            took_ms: 35.0,
        }),
        checkpoint: CheckpointStatus {
            last_pause_ms: Some(8.0),
            next_seconds: Some(4.0),
            images: 3,
            stored_bytes: 3 << 20,
            newest: Some(NewestImage {
                id: "i3".to_owned(),
                taken_at: "2026-11-22T20:00:00Z".to_owned(),
                age_seconds: 3.2,
                verdict: "good".to_owned(),
                hot: true,
                durable: true,
            }),
            ..Default::default()
        },
        ..service("counter", "running")
    }
}

fn model() -> Model {
    let failed = ServiceStatus {
        failed: Some("nothing more to try\nreally".to_owned()),
        ..service("a-service-with-a-long-name", "failed")
    };
    let degraded = ServiceStatus {
        verdict: Some("unhealthy".to_owned()),
        degraded: Some("io_uring".to_owned()),
        ..service("web", "running")
    };
    let services = vec![failed, counter(), degraded];
    let mut model = Model::new(NodeStatus { services, ..crate::api::tests::node_status() });
    let event = |seq: u64, kind: &str, text: &str, pause_ms: Option<f64>| EventRecord {
        seq,
        at: format!("2026-11-22T20:00:{seq:02}.123Z"),
        service: (kind != "node-started").then(|| "counter".to_owned()),
        kind: kind.to_owned(),
        text: text.to_owned(),
        pause_ms,
        size_bytes: (kind == "image-durable").then_some(seq << 20),
        ..EventRecord::default()
    };
    for happened in [
        event(1, "node-started", "the supervisor runs", None),
        event(2, "checkpoint-taken", "image i1", Some(8.0)),
        event(3, "image-durable", "image i1", None),
        event(4, "checkpoint-taken", "image i2", Some(4.0)),
        event(5, "image-durable", "image i2", None),
        event(6, "noticed", "crashed: \u{1b}[2Jsignal 9\nsecond line", None),
        event(7, "recovered", "back by restore-latest (35.0 ms)", None),
    ] {
        model.take(Input::Happened(happened));
    }
    model
}

fn press(model: &mut Model, keys: &[Key]) {
    for key in keys {
        model.take(Input::Key(*key));
    }
}

fn image(id: &str, hot: bool) -> ImageStatus {
    ImageStatus {
        id: id.to_owned(),
        service: "counter".to_owned(),
        taken_at: "2026-11-22T20:00:00Z".to_owned(),
        age_seconds: 3.2,
        verdict: "good".to_owned(),
        hot,
        durable: true,
        replicated: false,
        pinned: !hot,
        damaged: None,
        incompatible: None,
        key: None,
        size_bytes: 5 << 20,
        stored_bytes: 1 << 20,
        pause_ms: Some(8.0),
    }
}

#[test]
fn all_services() {
    let mut model = model();
    press(&mut model, &[Key::Down]);
    assert_eq!(screen(&model, NORMAL), SERVICES);
}

#[test]
fn a_question_and_its_answer_take_the_line_above_the_keys() {
    let mut model = model();
    press(&mut model, &[Key::Down, Key::Character('c')]);
    let last = |model: &Model| screen(model, NORMAL).lines().nth(22).unwrap_or_default().to_owned();
    assert_eq!(last(&model), "checkpoint counter, it stood still 8.0 ms last time?  c or y: yes, else: no");
    press(&mut model, &[Key::Character('c')]);
    assert_eq!(last(&model), "counter: a checkpoint is being taken");
    model.take(Input::Answered(Outcome::Failed("counter: denied\x07\nnot now".to_owned())));
    assert_eq!(last(&model), "counter: denied not now");
    press(&mut model, &[Key::Up]);
    model.take(Input::Status(Err("cannot reach the supervisor".to_owned())));
    assert_eq!(last(&model), "cannot reach the supervisor");
    assert!(screen(&model, NORMAL).lines().next().is_some_and(|line| line.ends_with("away")));
}

#[test]
fn one_service() {
    let mut model = model();
    press(&mut model, &[Key::Down, Key::Enter]);
    let images =
        vec![image("20261122T200005.000000Z-0001", true), image("20261122T200003.000000Z-0001", false)];
    model.take(Input::Images { service: "counter".to_owned(), images });
    assert_eq!(screen(&model, NORMAL), SERVICE);
}

#[test]
fn one_service_that_has_nothing_yet_or_is_gone() {
    let mut model = model();
    press(&mut model, &[Key::First, Key::Enter]);
    let shown = screen(&model, NORMAL);
    assert!(shown.contains("given up: nothing more to try really\n"), "{shown}");
    assert!(shown.contains("no images\n") && shown.contains("PAUSE  no checkpoint"), "{shown}");
    model.take(Input::Status(Ok(NodeStatus { services: Vec::new(), ..model.node.clone() })));
    let shown = screen(&model, NORMAL);
    assert!(shown.contains("a-service-with-a-long-name is not configured any more"), "{shown}");
}

#[test]
fn a_lease_takes_the_room_of_the_rung() {
    let lease = LeaseStatus { role: "holder".to_owned(), epoch: 12, ..LeaseStatus::default() };
    let services = vec![ServiceStatus { lease: Some(lease), ..counter() }];
    let model = Model::new(NodeStatus { services, ..crate::api::tests::node_status() });
    let rows = |width| screen(&model, (width, 24)).lines().skip(2).take(2).collect::<Vec<_>>().join("\n");
    let narrow = "  SERVICE   STATE         HEALTH    POINT    PAUSE    LAST RECOVERY LEASE\n\
                  > counter   running       healthy   3 s      8.0 ms   35.0 ms       holder 12";
    assert_eq!(rows(80), narrow);
    assert!(rows(110).contains("restore-latest 35.0 ms holder 12"), "{}", rows(110));
}

#[test]
fn the_keys_are_explained_within_one_screen() {
    let mut model = model();
    press(&mut model, &[Key::Character('?')]);
    let shown = screen(&model, NORMAL);
    for line in HELP.lines() {
        let begin: String = line.chars().take(NORMAL.0.into()).collect();
        assert!(shown.contains(begin.trim_end()), "{line} is not in\n{shown}");
        assert!(line.len() <= NORMAL.0.into(), "{line}");
    }
}

#[test]
fn many_services_leave_room_for_events_and_the_chosen_one_is_seen() {
    let services: Vec<_> = (0..50).map(|number| service(&format!("s{number}"), "running")).collect();
    let mut model = Model::new(NodeStatus { services, ..crate::api::tests::node_status() });
    press(&mut model, &[Key::Last]);
    let shown = screen(&model, NORMAL);
    assert!(shown.contains("> s49 ") && shown.contains("\nEVENTS\n"), "{shown}");
    for size in [(80, 10), (40, 10), (39, 24), (80, 9), (1, 1), (300, 100)] {
        // No size is too odd to be drawn.
        let _ = screen(&model, size);
    }
    assert_eq!(screen(&model, (39, 24)).lines().next(), Some("this window is too small"));
}

#[test]
fn colours_are_there_only_if_wanted() {
    let colours = |coloured| {
        let terminal = terminal(&model(), NORMAL, coloured);
        let cells = terminal.backend().buffer().content().to_vec();
        cells.iter().map(|cell| cell.fg).filter(|colour| *colour != Color::Reset).count()
    };
    assert_eq!(colours(false), 0);
    assert!(colours(true) > 0);
}

const SERVICES: &str = "\
node alpha  supervisor 0.1.0  CRIU 4.2.1                                    live

  SERVICE       STATE         HEALTH    POINT    PAUSE    LAST RECOVERY
  a-service-wit failed        -         -        -        -
> counter       running       healthy   3 s      8.0 ms   restore-latest 35.0 ms
  web           degraded      unhealthy -        -        -
counter: last recovery: restore-latest after crashed: signal 9 from i1, 35.0 ms

EVENTS
20:00:01  -             node-started      the supervisor runs
20:00:02  counter       checkpoint-taken  image i1
20:00:03  counter       image-durable     image i1
20:00:04  counter       checkpoint-taken  image i2
20:00:05  counter       image-durable     image i2
20:00:06  counter       noticed           crashed: [2Jsignal 9 second line
20:00:07  counter       recovered         back by restore-latest (35.0 ms)







up/down choose  enter open  c checkpoint  ? help  q quit
";

const SERVICE: &str = "\
node alpha  supervisor 0.1.0  CRIU 4.2.1                                    live
counter  process  running  healthy  pid 4242  up 61 s  restarts 1
recovery point 3 s ago (good, on disk)  next 4 s  3 images, 3.0 MiB
last recovery: restore-latest after crashed: signal 9 from i1, 35.0 ms

PAUSE  last 4.0 ms, most 8.0 ms          SIZE  last 5.0 MiB, most 5.0 MiB
█                                        ▁█
██                                       ██

IMAGE                        AGE      VERDICT  WHERE     SIZE      PAUSE   NOTE
20261122T200005.000000Z-0001 3 s      good     hot, disk 5.0 MiB   8.0 ms
20261122T200003.000000Z-0001 3 s      good     disk      5.0 MiB   8.0 ms  pinne
EVENTS
20:00:02  counter       checkpoint-taken  image i1
20:00:03  counter       image-durable     image i1
20:00:04  counter       checkpoint-taken  image i2
20:00:05  counter       image-durable     image i2
20:00:06  counter       noticed           crashed: [2Jsignal 9 second line
20:00:07  counter       recovered         back by restore-latest (35.0 ms)




up/down images  esc back  c checkpoint  ? help  q quit
";
