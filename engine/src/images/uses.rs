//! Who works with which image right now, so that nothing in use is removed and no image is unpacked twice at once.
//!
//! Shared use (restoring, committing, reading) by many; removal by one when nobody uses it. Removal never waits: what is in
//! use stays for the next time. Unpacking of one image is done by one at a time, the others wait for its outcome.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use policies::id::ImageId;

#[derive(Debug, Default)]
pub(super) struct Uses {
    images: Mutex<HashMap<ImageId, State>>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct State {
    users: usize,
    removing: bool,
    unpacking: bool,
}

/// As long as this lives, the image stays.
#[derive(Debug)]
pub(super) struct Use(Held);

/// As long as this lives, nobody else begins to use the image.
#[derive(Debug)]
pub(super) struct Removal(Held);

/// As long as this lives, nobody else unpacks the image.
#[derive(Debug)]
pub(super) struct Unpacking(Held);

#[derive(Debug)]
struct Held {
    uses: Arc<Uses>,
    id: ImageId,
}

impl Uses {
    /// Waits while it is being removed (renames, no data), then holds it.
    pub(super) fn hold(self: &Arc<Self>, id: &ImageId) -> Use {
        let mut images = self.wait_while(id, |state| state.removing);
        images.entry(id.clone()).or_default().users += 1;
        Use(self.held(id))
    }

    /// `None` if anybody uses it.
    pub(super) fn remove(self: &Arc<Self>, id: &ImageId) -> Option<Removal> {
        let mut images = self.lock();
        let state = images.entry(id.clone()).or_default();
        if *state != State::default() {
            return None;
        }
        state.removing = true;
        Some(Removal(self.held(id)))
    }

    /// Waits while somebody else unpacks it.
    pub(super) fn unpack(self: &Arc<Self>, id: &ImageId) -> Unpacking {
        let mut images = self.wait_while(id, |state| state.unpacking);
        images.entry(id.clone()).or_default().unpacking = true;
        Unpacking(self.held(id))
    }

    fn held(self: &Arc<Self>, id: &ImageId) -> Held {
        Held { uses: Arc::clone(self), id: id.clone() }
    }

    fn wait_while(
        &self,
        id: &ImageId,
        busy: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, HashMap<ImageId, State>> {
        let waited = self.changed.wait_while(self.lock(), |images| images.get(id).is_some_and(&busy));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts are changed in single steps, so one who panicked while holding the lock left nothing half done.
    fn lock(&self) -> MutexGuard<'_, HashMap<ImageId, State>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn release(&self, change: impl Fn(&mut State)) {
        let mut images = self.uses.lock();
        if let Some(state) = images.get_mut(&self.id) {
            change(state);
            if *state == State::default() {
                images.remove(&self.id);
            }
        }
        self.uses.changed.notify_all();
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.release(|state| state.users -= 1);
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.0.release(|state| state.removing = false);
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        self.0.release(|state| state.unpacking = false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn id() -> ImageId {
        ImageId::try_from("20260101T000000Z-0").expect("an id")
    }

    #[test]
    fn what_is_used_is_not_removed_and_nothing_is_left_behind() {
        let uses = Arc::new(Uses::default());
        let (one, two) = (uses.hold(&id()), uses.hold(&id()));
        assert!(uses.remove(&id()).is_none());
        drop(one);
        assert!(uses.remove(&id()).is_none());
        drop(two);
        let removal = uses.remove(&id()).expect("nobody uses it");
        assert!(uses.remove(&id()).is_none(), "only one removes");
        drop(removal);
        assert!(uses.lock().is_empty());
    }

    #[test]
    fn others_wait_for_a_removal_and_for_an_unpacking() {
        let uses = Arc::new(Uses::default());
        let (removal, unpacking) = (uses.remove(&id()), uses.unpack(&ImageId::try_from("2").expect("an id")));
        let (sender, done) = mpsc::channel();
        let other = Arc::clone(&uses);
        let thread = std::thread::spawn(move || {
            let held = other.hold(&id());
            sender.send("held").expect("the test waits");
            let unpacking = other.unpack(&ImageId::try_from("2").expect("an id"));
            sender.send("unpacking").expect("the test waits");
            drop((held, unpacking));
        });
        assert!(done.try_recv().is_err());
        drop(removal);
        assert_eq!(done.recv_timeout(Duration::from_secs(20)), Ok("held"));
        assert!(done.try_recv().is_err());
        drop(unpacking);
        assert_eq!(done.recv_timeout(Duration::from_secs(20)), Ok("unpacking"));
        thread.join().expect("it ended well");
    }
}
