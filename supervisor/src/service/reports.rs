//! What a sidecar reports becomes the result of a probe.
//!
//! A report names the run that it was found of, as the answer to an earlier one has told it: what was found before a recovery says
//! nothing about what runs after it. It refuses to believe the first bad report after a freeze, since whoever asked may have met
//! the service standing still; the second one counts.

use std::time::Duration;

use policies::service::Event;

use super::Task;
use crate::api::{ReportAnswer, ReportBody};
use crate::assemble::Source;
use crate::carry_out::FreezeMark;
use crate::events::plain;

/// The reports of one run.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// From when the last one came.
    last: Option<FreezeMark>,
    /// That one was bad and not believed.
    doubted: bool,
    /// Whether people were told that the service is not well.
    told: bool,
}

impl Task {
    /// Counts a report, or says why not.
    pub(super) fn report(&mut self, report: &ReportBody) -> ReportAnswer {
        let (place, most) = match self.place_of(report.probe.as_deref()) {
            Ok(found) => found,
            Err(why) => return answer("denied", why, None),
        };
        let (Some(run), Some(name)) = (self.policy.status().run, self.actor.run_name()) else {
            return answer("denied", "the service does not run", None);
        };
        if report.run.as_ref() != Some(&name) {
            return answer("other-run", "this says nothing about the run that there is now", Some(name));
        }
        let Some(passed) = report.healthy else {
            return answer("counted", "nothing is known yet", Some(name));
        };
        let overlapped_freeze = self.is_doubtful(passed);
        self.tell_report(passed, &report.text);
        let holds = Duration::try_from_secs_f64(report.holds_seconds).unwrap_or(most).min(most);
        self.happen(Event::ProbeReported { run, probe: place, passed, overlapped_freeze, holds });
        answer("counted", "counted", Some(name))
    }

    /// The probe that takes the report, and how long that counts at most.
    fn place_of(&self, probe: Option<&str>) -> Result<(usize, Duration), String> {
        let reported = self.parts.probes.iter().enumerate().filter_map(|(place, own)| match own.source {
            Source::Reported(most) => Some((place, own.name.as_str(), most)),
            Source::Asked(_) => None,
        });
        let wanted: Vec<_> =
            reported.filter(|(_, name, _)| probe.is_none_or(|probe| probe == *name)).collect();
        match (wanted.as_slice(), probe) {
            ([(place, _, most)], _) => Ok((*place, *most)),
            ([], None) => Err(format!("{} has no probe of the kind `report`", self.name)),
            ([], Some(probe)) => Err(format!("{} has no probe {probe} of the kind `report`", self.name)),
            (_, _) => Err(format!("{} has several probes of the kind `report`: name one", self.name)),
        }
    }

    fn is_doubtful(&mut self, passed: bool) -> bool {
        let freezes = self.actor.freezes();
        let frozen = self.reports.last.is_some_and(|mark| freezes.any_since(mark));
        self.reports.last = Some(freezes.mark());
        self.reports.doubted = !passed && frozen && !self.reports.doubted;
        self.reports.doubted
    }

    /// People want to know why; once is enough.
    fn tell_report(&mut self, passed: bool, text: &str) {
        if !passed && !self.reports.told {
            let text = format!("not well, by a sidecar: {text}");
            self.events.record(plain(Some(self.name.as_str()), "reported", text));
        }
        self.reports.told = !passed;
    }
}

fn answer(outcome: &str, text: impl Into<String>, run: Option<String>) -> ReportAnswer {
    ReportAnswer { outcome: outcome.to_owned(), text: text.into(), run }
}
