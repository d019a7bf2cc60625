//! Handing a service over: into an image here, to a replica, and then the lease is free.

use policies::lease::holder;

use super::{Answer, HAND_OVER_MAX, LOOK_EVERY, Task, new_standby};
use crate::status::{Action, Answer as Answered};

impl Task {
    /// Somebody wants the service elsewhere: it is put into an image here, and when a replica has that, the lease is let go.
    pub(super) fn hand_over(&mut self) {
        if !self.holds() || std::mem::replace(&mut self.leaving, true) {
            return;
        }
        self.tell("handing-over", "the service is put into an image for a standby".to_owned());
        let (control, replicas) = (self.ground.control.clone(), self.sources.pushed.clone());
        let service = self.service.to_string();
        self.ask(move |_| async move {
            let suspended = control.ask(&service, Action::Suspend, HAND_OVER_MAX).await;
            let image = match suspended.map_err(|e| e.to_string()) {
                Ok(Answered { outcome, image: Some(image), .. }) if outcome == "done" => image,
                Ok(answer) => return Some(Answer::LeftIn(Err(answer.text))),
                Err(why) => return Some(Answer::LeftIn(Err(why))),
            };
            let begun = tokio::time::Instant::now();
            while !replicas.has(&image) {
                if begun.elapsed() > HAND_OVER_MAX {
                    let _ = control.ask(&service, Action::Resume, HAND_OVER_MAX).await;
                    return Some(Answer::LeftIn(Err("no replica has taken its image".to_owned())));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Some(Answer::LeftIn(Ok(image)))
        });
    }

    /// The image is at a replica. That goes into the lease with one more renewal; then it is let go.
    pub(super) fn left_in(&mut self, image: Result<String, String>) {
        match (image, &self.holder) {
            (Ok(image), Some((_, held))) => {
                let held = held.clone();
                self.tell("handed-over", format!("the service is handed over in image {image}"));
                self.renew(held);
                self.letting_go = true;
            }
            (Ok(_), None) => {}
            (Err(why), _) => {
                self.leaving = false;
                self.tell("hand-over-failed", format!("the service stays here: {why}"));
            }
        }
    }

    pub(super) async fn let_go(&mut self) {
        self.letting_go = false;
        self.end("it was handed over").await;
        self.standby = new_standby(&self.ground.cluster, &self.failover, self.failover.standby.len() + 1);
        self.resumed = false;
        self.holder_event(holder::Event::GivenUp).await;
    }
}
