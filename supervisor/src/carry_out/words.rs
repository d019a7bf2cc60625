//! What the engine says, in the policies' words.

use engine::runtime::Ended;
use policies::service::{Exit, Failure, FailureKind};

/// An error in the policies' words.
pub(crate) fn failure(error: &engine::Error) -> Failure {
    let kind = match error {
        engine::Error::Unavailable(_) => FailureKind::Unavailable,
        engine::Error::Refused(_) => FailureKind::Refused,
        engine::Error::Corrupt(_) => FailureKind::Corrupt,
        engine::Error::Fenced(_) => FailureKind::Fenced,
        engine::Error::Invalid(_) => FailureKind::Invalid,
        engine::Error::Internal(_) => FailureKind::Internal,
    };
    Failure::new(kind, error.to_string())
}

/// A raw wait status in the policies' words.
pub(crate) fn exit(ended: Ended) -> Exit {
    match ended.status {
        Some(status) if libc::WIFEXITED(status) => Exit::Code(libc::WEXITSTATUS(status)),
        Some(status) if libc::WIFSIGNALED(status) => match libc::WTERMSIG(status) {
            libc::SIGKILL if ended.out_of_memory => Exit::OutOfMemory,
            signal => Exit::Signal(signal),
        },
        Some(_) | None => Exit::Unknown,
    }
}
