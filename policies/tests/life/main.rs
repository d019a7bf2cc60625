//! The life of one service, told as histories: given these events, these commands.

#![allow(clippy::unwrap_used)]

mod checkpoints;
mod faults;
mod requests;
mod rungs;
mod seen;
mod shutdown;
mod stage;
mod suspending;
