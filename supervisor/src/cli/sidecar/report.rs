//! Telling the node's supervisor. A supervisor that is away is told again and again, and nothing else waits for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::Report;
use policies::health::Verdict;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::client::{Client, encode, refusal};
use super::super::failure::Failure;
use super::watch::{Found, Watch};
use crate::api::{ReportAnswer, ReportBody};

/// How many intervals a report holds: one that is late, or lost, is no silence yet.
const HOLDS: u32 = 3;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What became of reports so far. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    counted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Reports {
    /// By what became of them.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { counted, refused, failed } = &*self.counts;
        [("counted", of(counted)), ("refused", of(refused)), ("failed", of(failed))]
    }
}

/// Whoever reports.
#[derive(Debug)]
pub(super) struct Reporter {
    to: Report,
    client: Client,
    watch: Watch,
    found: watch::Receiver<Found>,
    reports: Reports,
    /// The run that the probes look at, as the supervisor calls it.
    run: Option<String>,
    /// What went wrong last: said once.
    trouble: Option<String>,
}

impl Reporter {
    /// One that has not said anything yet.
    pub(super) fn new(to: Report, watch: Watch, found: watch::Receiver<Found>, reports: Reports) -> Self {
        let client = Client::new(to.socket.clone());
        Self { to, client, watch, found, reports, run: None, trouble: None }
    }

    /// Reports for ever.
    pub(super) async fn report_on(mut self) {
        loop {
            let next = Instant::now() + self.to.interval;
            let found = self.found.borrow_and_update().clone();
            let answer = self.send(&found).await;
            if self.heard(answer).await {
                continue;
            }
            let _ = tokio::time::timeout_at(next, self.another_verdict(found.verdict)).await;
        }
    }

    async fn send(&self, found: &Found) -> Result<ReportAnswer, Failure> {
        let report = ReportBody {
            healthy: match found.verdict {
                Verdict::Starting => None,
                Verdict::Healthy => Some(true),
                Verdict::Unhealthy => Some(false),
            },
            text: found.complaint(),
            holds_seconds: (self.to.interval * HOLDS).as_secs_f64(),
            run: self.run.clone(),
            probe: self.to.probe.clone(),
        };
        let path = format!("/v1/services/{}/report", encode(self.to.service.as_str()));
        let (status, body) = self.client.ask(&path, &report, ANSWER_MAX).await?;
        serde_json::from_slice(&body).map_err(|_| refusal(status, &body))
    }

    /// Whether the next report is due at once.
    async fn heard(&mut self, answer: Result<ReportAnswer, Failure>) -> bool {
        let counts = Arc::clone(&self.reports.counts);
        match answer {
            Ok(answer) if answer.outcome == "counted" => {
                counts.counted.fetch_add(1, Ordering::Relaxed);
                self.all_is_well();
                false
            }
            Ok(ReportAnswer { run: Some(run), .. }) if self.run.as_ref() != Some(&run) => {
                if self.run.replace(run).is_some() {
                    // What the probes have found was of the former one.
                    let former = self.found.borrow().of_run;
                    self.watch.begin_anew().await;
                    // As long as the watch goes on, which is for ever.
                    let _ = self.found.wait_for(|found| found.of_run > former).await;
                }
                true
            }
            Ok(answer) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                self.complain(answer.text);
                false
            }
            Err(failure) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                self.complain(failure.to_string());
                false
            }
        }
    }

    async fn another_verdict(&mut self, known: Verdict) {
        // As long as the watch goes on, which is for ever.
        let _ = self.found.wait_for(|found| found.verdict != known).await;
    }

    fn complain(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(service = %self.to.service, "the supervisor does not take the reports: {trouble}");
        }
        self.trouble = Some(trouble);
    }

    fn all_is_well(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!(service = %self.to.service, "the supervisor takes the reports again");
        }
    }
}
