//! Points at which a test makes this process die, so that what the next start finds can be looked at.
//!
//! With the cargo feature `failpoints`, and in this crate's own tests, [`fail_point`] sends SIGKILL to ourselves when the environment variable
//! `SUPERVISOR_FAILPOINT` holds the point's name: no destructor runs and nothing is flushed, as in a real kill.
//! `NAME@3` dies when the point is passed for the third time. Without the feature it is an empty function. It refuses to be a
//! way to inject errors: those come from real causes (a full disk, a flipped byte).

/// The environment variable that names the point to die at.
pub const VARIABLE: &str = "SUPERVISOR_FAILPOINT";

/// Dies here if the environment says so; compiled to nothing without the feature `failpoints`.
#[inline]
pub fn fail_point(name: &str) {
    #[cfg(any(test, feature = "failpoints"))]
    armed::pass(name);
    #[cfg(not(any(test, feature = "failpoints")))]
    let _ = name;
}

#[cfg(any(test, feature = "failpoints"))]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static CHOSEN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn pass(name: &str) {
        let chosen = CHOSEN.get_or_init(|| std::env::var(super::VARIABLE).ok().map(|text| parse(&text)));
        let Some((wanted, turn)) = chosen else { return };
        if wanted == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *turn {
            die();
        }
    }

    fn parse(text: &str) -> (String, u64) {
        match text.split_once('@').map(|(name, turn)| (name, turn.parse())) {
            Some((name, Ok(turn))) => (name.to_owned(), turn),
            Some(_) | None => (text.to_owned(), 1),
        }
    }

    fn die() {
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        // SIGKILL is delivered before kill() returns to user space; an abort is for the impossible.
        std::process::abort();
    }
}
