//! Why a command did not do what was asked, by exit code.

/// Sorted by what a script does about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
    /// The command line or the configuration must change.
    #[error("{0}")]
    Invalid(String),
    /// Nobody answers on the socket.
    #[error("cannot reach the supervisor on {at}: {why}\n  {remedy}")]
    Unreachable {
        /// The socket or the URL.
        at: String,
        /// What the kernel says.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Not now, or not for such a thing.
    #[error("{0}")]
    Denied(String),
    /// It goes on without us.
    #[error("{0}")]
    Unfinished(String),
    /// It was looked at and is not in order.
    #[error("{0}")]
    Unhealthy(String),
    /// Whoever read our output has gone; that is no failure of ours.
    #[error("nobody reads the output")]
    Unread,
}

impl Failure {
    /// The exit code, as `--help` says.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Unread => 0,
            Self::Failed(_) => 1,
            Self::Invalid(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Denied(_) => 4,
            Self::Unfinished(_) => 5,
            Self::Unhealthy(_) => 6,
        }
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) {
        if !matches!(self, Self::Unread) {
            eprintln!("supervisor: {self}");
        }
    }
}
