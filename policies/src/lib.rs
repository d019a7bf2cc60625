//! The decisions of the supervisor, and the words they are made in.
//!
//! Everything here is plain computation: a history goes in, a decision comes out. The crate reads no clock
//! (callers pass `now`), touches no file, starts no thread, knows no random order, and draws no random number
//! but from a seed given at construction. So it can be tested by the million and read by somebody who knows no
//! Linux.
//!
//! # Invariants
//!
//! Each is guarded by a test; the ones about [`service`] by a shadow model under random events.
//!
//! 1. The same seed and the same events give the same commands.
//! 2. `Restore`, and `Start` after anything that was not a clean stop, are commanded only after a `Kill` that was
//!    answered by `Killed`; nothing is in flight at that moment.
//! 3. Of the effects of one service only `Kill` may overlap a checkpoint; every other effect waits for its
//!    answer or its deadline.
//! 4. An answer that bears another attempt than the one awaited changes nothing.
//! 5. Every state that waits for an effect or for time has a deadline; handling a passed deadline moves it.
//! 6. The ladder is finite: with every effect failing it gives up, within
//!    `max_attempts * (images * attempts_per_image + 1)` rungs.
//! 7. An image is restored at most `attempts_per_image` times in a window without a stable run, and never when
//!    it is damaged or incompatible.
//! 8. Retention never plans to delete a pinned image, one in use, the parent of a kept one, the newest good
//!    durable one or the newest one.
//! 9. After a stop was asked for, nothing is started until a start is asked for.
//! 10. After `ShutdownRequested` nothing is commanded but one last checkpoint and its judgement, and the service
//!     runs on; only being fenced still kills it.
//! 11. After an answer says `Fenced`, nothing is commanded but `Kill`.
//! 12. A holder of a lease may act only until the instant it armed its fence for, and past that instant never again
//!     in its epoch; a standby takes over only with a higher epoch than the one it saw, and never with an older
//!     image than one acknowledged as replicated ([`lease`]; checked exhaustively in `tests/lease_protocol`).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admission;
pub mod backoff;
pub mod cadence;
mod dice;
pub mod failover;
pub mod failure;
pub mod health;
pub mod id;
pub mod image;
pub mod ladder;
pub mod lease;
pub mod reclaim;
pub mod retention;
pub mod service;
pub mod time;
pub mod word;
