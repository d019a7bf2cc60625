//! Telling somebody outside: a command with the message on its standard input, or a webhook.
//!
//! It refuses to decide who is told of what, and to try again: each call is one attempt, within its time limit, that leaves
//! neither a process nor a connection behind.

mod command;
mod webhook;

pub use command::HookCommand;
pub use webhook::Webhook;

#[cfg(test)]
mod tests;
