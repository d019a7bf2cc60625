//! Why an effect failed, told by what can be done about it.

use std::fmt;

use crate::word::words;

/// What can be done about a failure. A kind exists because somebody handles it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// It may work when tried again.
    Unavailable,
    /// The host or the container cannot do it; trying again is of no use.
    Refused,
    /// What was read is damaged.
    Corrupt,
    /// Another holds the right to act. Terminal: after it only `Kill`.
    Fenced,
    /// The input must be changed.
    Invalid,
    /// A mistake of ours.
    Internal,
}

words!(FailureKind {
    Unavailable = "unavailable",
    Refused = "refused",
    Corrupt = "corrupt",
    Fenced = "fenced",
    Invalid = "invalid",
    Internal = "internal",
});

/// A failed effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What can be done about it.
    pub kind: FailureKind,
    /// What was tried and what happened, for people.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.kind)
    }
}
