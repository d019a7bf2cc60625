//! What is on the screen, as data: the last news, what is selected, what is being asked.
//!
//! Pure: the same inputs make the same model, and the view draws nothing but it. What changes something is asked twice.

use std::collections::{BTreeMap, VecDeque};

use super::keys::Key;
use crate::status::{EventRecord, ImageStatus, NodeStatus, ServiceStatus};

/// Events that are kept for the screen.
const EVENTS_MAX: usize = 200;
/// Checkpoints of each service that are drawn.
const POINTS_MAX: usize = 120;

/// What comes in.
#[derive(Debug)]
pub(super) enum Input {
    /// The node as it is, or why that is not known.
    Status(Result<NodeStatus, String>),
    /// Something happened.
    Happened(EventRecord),
    /// The images of a service.
    Images { service: String, images: Vec<ImageStatus> },
    /// Somebody pressed a key.
    Key(Key),
    /// What came of a request.
    Answered(Outcome),
}

/// What came of a request, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is under way.
    Asked(String),
    Done(String),
    Failed(String),
}

/// What somebody wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    /// Draw all of it anew.
    Redraw,
    /// A checkpoint of this service.
    Checkpoint(String),
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    Services,
    /// One service; the first of its images that is shown.
    Service(String, usize),
    Help,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) node: NodeStatus,
    /// Why that is not the newest.
    pub(super) away: Option<String>,
    pub(super) events: VecDeque<EventRecord>,
    pub(super) page: Page,
    pub(super) selected: usize,
    pub(super) images: Option<(String, Vec<ImageStatus>)>,
    /// Of which service a checkpoint is to be taken, if it is said once more.
    pub(super) asked: Option<String>,
    pub(super) outcome: Option<Outcome>,
    plots: BTreeMap<String, Plots>,
}

/// What is drawn of a service's checkpoints, oldest first.
#[derive(Debug, Default)]
pub(super) struct Plots {
    /// Pauses in microseconds.
    pub(super) pauses: VecDeque<u64>,
    /// Sizes in bytes.
    pub(super) sizes: VecDeque<u64>,
}

impl Model {
    /// The services of a node.
    pub(super) fn new(node: NodeStatus) -> Self {
        Self {
            node,
            away: None,
            events: VecDeque::new(),
            page: Page::Services,
            selected: 0,
            images: None,
            asked: None,
            outcome: None,
            plots: BTreeMap::new(),
        }
    }

    /// Takes one input in.
    pub(super) fn take(&mut self, input: Input) -> Option<Wish> {
        match input {
            Input::Status(Ok(node)) => {
                self.selected = self.selected.min(node.services.len().saturating_sub(1));
                self.node = node;
                self.away = None;
            }
            Input::Status(Err(why)) => self.away = Some(why),
            Input::Happened(record) => self.happened(record),
            Input::Images { service, images } => self.images = Some((service, images)),
            Input::Answered(outcome) => self.outcome = Some(outcome),
            Input::Key(key) => return self.pressed(key),
        }
        None
    }

    /// The service whose images are wanted.
    pub(super) fn looked_at(&self) -> Option<&str> {
        match &self.page {
            Page::Service(name, _) => Some(name),
            Page::Services | Page::Help => None,
        }
    }

    /// The service that a key acts on.
    pub(super) fn chosen(&self) -> Option<&ServiceStatus> {
        match &self.page {
            Page::Service(name, _) => self.service(name),
            Page::Services => self.node.services.get(self.selected),
            Page::Help => None,
        }
    }

    /// A service by its name; it may be gone.
    pub(super) fn service(&self, name: &str) -> Option<&ServiceStatus> {
        self.node.services.iter().find(|service| service.name == name)
    }

    /// The images of a service, as far as they are known.
    pub(super) fn images_of(&self, name: &str) -> &[ImageStatus] {
        match &self.images {
            Some((of, images)) if of == name => images,
            _ => &[],
        }
    }

    /// What is drawn of a service.
    pub(super) fn plots_of(&self, name: &str) -> Option<&Plots> {
        self.plots.get(name)
    }

    fn happened(&mut self, record: EventRecord) {
        if let Some(service) = &record.service {
            let plots = self.plots.entry(service.clone()).or_default();
            if let Some(pause) = record.pause_ms.filter(|_| record.kind == "checkpoint-taken") {
                push(&mut plots.pauses, (pause.max(0.0) * 1e3) as u64, POINTS_MAX);
            }
            if let Some(size) = record.size_bytes.filter(|_| record.kind == "image-durable") {
                push(&mut plots.sizes, size, POINTS_MAX);
            }
        }
        push(&mut self.events, record, EVENTS_MAX);
    }

    fn pressed(&mut self, key: Key) -> Option<Wish> {
        if key == Key::Nothing {
            return None;
        }
        if let Some(service) = self.asked.take() {
            return self.answered_once_more(key, service);
        }
        self.outcome = None;
        match key {
            Key::Interrupt | Key::Character('q') => return Some(Wish::Quit),
            Key::Refresh => return Some(Wish::Redraw),
            Key::Character('?' | 'h') => {
                self.page = if self.page == Page::Help { Page::Services } else { Page::Help };
            }
            Key::Character('c') => self.asked = self.chosen().map(|service| service.name.clone()),
            Key::Back => self.page = Page::Services,
            Key::Enter if self.page == Page::Services => {
                if let Some(service) = self.chosen() {
                    self.page = Page::Service(service.name.clone(), 0);
                }
            }
            Key::Up | Key::Character('k') => self.go_to(|at, _| at.saturating_sub(1)),
            Key::Down | Key::Character('j') => self.go_to(|at, last| (at + 1).min(last)),
            Key::First => self.go_to(|_, _| 0),
            Key::Last => self.go_to(|_, last| last),
            Key::Enter | Key::Character(_) | Key::Nothing => {}
        }
        None
    }

    fn answered_once_more(&mut self, key: Key, service: String) -> Option<Wish> {
        match key {
            Key::Character('c' | 'y') => {
                self.outcome = Some(Outcome::Asked(format!("{service}: a checkpoint is being taken")));
                Some(Wish::Checkpoint(service))
            }
            Key::Interrupt => Some(Wish::Quit),
            _ => None,
        }
    }

    /// Moves in the list of the page, whose last place is given.
    fn go_to(&mut self, place: impl Fn(usize, usize) -> usize) {
        let last_service = self.node.services.len().saturating_sub(1);
        let images = self.looked_at().map_or(0, |name| self.images_of(name).len());
        match &mut self.page {
            Page::Services => self.selected = place(self.selected, last_service),
            Page::Service(_, first) => *first = place(*first, images.saturating_sub(1)),
            Page::Help => {}
        }
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    if list.len() == most {
        list.pop_front();
    }
    list.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let service = |name: &str| ServiceStatus { name: name.to_owned(), ..Default::default() };
        let services = vec![service("a"), service("b"), service("c")];
        Model::new(NodeStatus { services, ..crate::api::tests::node_status() })
    }

    fn press(model: &mut Model, keys: &str) -> Vec<Wish> {
        let key = |letter| match letter {
            '^' => Key::Up,
            'v' => Key::Down,
            '<' => Key::Back,
            '>' => Key::Enter,
            other => Key::Character(other),
        };
        keys.chars().filter_map(|letter| model.take(Input::Key(key(letter)))).collect()
    }

    #[test]
    fn what_changes_something_is_asked_twice() {
        let mut model = model();
        assert_eq!(press(&mut model, "vc"), []);
        assert_eq!(model.asked.as_deref(), Some("b"));
        assert_eq!(press(&mut model, "c"), [Wish::Checkpoint("b".to_owned())]);
        assert_eq!(model.asked, None);
        assert_eq!(press(&mut model, "cy"), [Wish::Checkpoint("b".to_owned())], "y says yes too");
        for no in ["cn", "cv", "c<", "cq"] {
            assert_eq!(press(&mut model, no), [], "{no}");
            assert_eq!((model.asked.as_deref(), model.selected), (None, 1), "{no}: nothing else is done");
        }
        assert_eq!(press(&mut model, "q"), [Wish::Quit]);
    }

    #[test]
    fn the_selection_stays_in_the_list() {
        let mut model = model();
        press(&mut model, "vvvvv");
        assert_eq!(model.selected, 2);
        press(&mut model, "^^^^^v");
        assert_eq!(model.selected, 1);
        let fewer = NodeStatus { services: model.node.services[..1].to_vec(), ..model.node.clone() };
        model.take(Input::Status(Ok(fewer)));
        assert_eq!(model.selected, 0);
        let none = NodeStatus { services: Vec::new(), ..model.node.clone() };
        model.take(Input::Status(Ok(none)));
        assert_eq!(press(&mut model, "v>c"), [], "there is nothing to choose");
        assert_eq!((model.page.clone(), model.asked), (Page::Services, None));
    }

    #[test]
    fn pages_are_entered_and_left() {
        let mut model = model();
        press(&mut model, "v>");
        assert_eq!((model.page.clone(), model.looked_at()), (Page::Service("b".to_owned(), 0), Some("b")));
        press(&mut model, "<?");
        assert_eq!(model.page, Page::Help);
        press(&mut model, "?");
        assert_eq!(model.page, Page::Services);
    }

    #[test]
    fn who_is_away_leaves_the_last_picture() {
        let mut model = model();
        model.take(Input::Status(Err("gone".to_owned())));
        assert_eq!((model.away.as_deref(), model.node.services.len()), (Some("gone"), 3));
        let node = model.node.clone();
        model.take(Input::Status(Ok(node)));
        assert_eq!(model.away, None);
    }

    #[test]
    fn of_events_and_checkpoints_the_newest_are_kept() {
        let mut model = model();
        for seq in 0..300 {
            model.take(Input::Happened(EventRecord {
                seq,
                service: Some("a".to_owned()),
                kind: "checkpoint-taken".to_owned(),
                pause_ms: Some(seq as f64),
                ..EventRecord::default()
            }));
        }
        assert_eq!((model.events.len(), model.events[0].seq), (EVENTS_MAX, 100));
        let plots = model.plots_of("a").expect("it was checkpointed");
        assert_eq!((plots.pauses.len(), plots.pauses.back()), (POINTS_MAX, Some(&299_000)));
        assert!(plots.sizes.is_empty() && model.plots_of("b").is_none());
    }
}
