//! The supervisor stops: what becomes of the service.

use config::OnStop;
use policies::admission::{Admission, Request};
use policies::service::{Event, StateName};

use super::{AfterStop, Task};

/// Whether the service is ended once nothing is under way any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    /// It runs on, or does not run.
    #[default]
    Not,
    /// It is stopped.
    Stop,
}

impl Task {
    /// A service that still waits for others is simply not started.
    pub(super) fn shut_down(&mut self, on_stop: OnStop) {
        match on_stop {
            OnStop::Suspend if self.policy.admit(&Request::Suspend) == Admission::Accept => {
                self.after_stop = Some(AfterStop::ShutDown);
                self.actor.suspend_for_our_end();
                return self.happen(Event::SuspendRequested);
            }
            OnStop::Leave => {}
            OnStop::Stop | OnStop::Suspend => self.end = End::Stop,
        }
        self.happen(Event::ShutdownRequested);
    }

    /// It is suspended, or could not be: then it is stopped.
    pub(super) fn shut_down_suspended(&mut self) {
        let state = self.policy.status().state;
        if matches!(state, StateName::Suspending | StateName::Stopping) {
            return;
        }
        self.after_stop = None;
        self.end = if state == StateName::Suspended { End::Not } else { End::Stop };
        self.happen(Event::ShutdownRequested);
    }

    /// Nothing is under way any more.
    pub(super) async fn end_with_us(&self) {
        if self.end == End::Stop {
            self.actor.end().await;
        }
    }
}
