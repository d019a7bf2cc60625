//! From a row of probe results to a verdict.
//!
//! Results are counted consecutively: `failure_threshold` failures in a row make unhealthy, `success_threshold`
//! successes in a row make healthy, one result of the other sort begins the count anew. Failures within
//! `start_period` do not count until the first success. A failure of a probe that overlapped a freeze says nothing
//! about the service and is dropped.
//!
//! Over several probes: startup probes gate the others and are done for good once they passed; liveness decides
//! the verdict; readiness decides only `ready`. Without probes a running service is healthy.
//!
//! A probe whose results are reported from outside has a say only while a report holds: silence is no result, neither a good one nor a
//! bad one. When the last report is over, its row begins anew.

use std::time::Duration;

use crate::time::Instant;
use crate::word::words;

/// What a probe is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Is it alive? If not, it hangs and is recovered.
    Liveness,
    /// Can it serve now? If not, it is only reported.
    Readiness,
    /// Has it come up? Until then the others are not asked.
    Startup,
}

words!(Role { Liveness = "liveness", Readiness = "readiness", Startup = "startup" });

/// The judgement from a row of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Not known yet.
    Starting,
    /// Works.
    Healthy,
    /// Does not.
    Unhealthy,
}

words!(Verdict { Starting = "starting", Healthy = "healthy", Unhealthy = "unhealthy" });

/// How one probe is asked and counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What it is asked for.
    pub role: Role,
    /// From the beginning of one probe to the beginning of the next.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Failures in a row that make unhealthy; 0 is taken as 1.
    pub failure_threshold: u32,
    /// Successes in a row that make healthy; 0 is taken as 1.
    pub success_threshold: u32,
    /// How long after the service began its failures do not count.
    pub start_period: Duration,
    /// Its results are reported by somebody outside, who may fall silent; `interval` and `timeout` say nothing then.
    pub reported: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            role: Role::Liveness,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failure_threshold: 3,
            success_threshold: 1,
            start_period: Duration::ZERO,
            reported: false,
        }
    }
}

/// The health of one run of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    rows: Vec<Row>,
    began: Instant,
}

/// The results of one probe, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    settings: Settings,
    verdict: Verdict,
    passed_once: bool,
    passes: u32,
    failures: u32,
    /// How long its last report holds; nothing: none does.
    holds_until: Option<Instant>,
}

impl Health {
    /// The health of a service that began to run at `now`.
    #[must_use]
    pub fn new(probes: &[Settings], now: Instant) -> Self {
        Self { rows: probes.iter().cloned().map(Row::new).collect(), began: now }
    }

    /// Count one result. A probe that does not exist, is not asked yet or not any more changes nothing.
    ///
    /// Returns whether the result counted as one about the service.
    pub fn record(&mut self, now: Instant, probe: usize, passed: bool, overlapped_freeze: bool) -> bool {
        let gate_open = self.started();
        let Some(row) = self.rows.get_mut(probe) else { return false };
        let startup = row.settings.role == Role::Startup;
        let asked = if startup { row.verdict != Verdict::Healthy } else { gate_open };
        let says_nothing = overlapped_freeze && !passed;
        if !asked || says_nothing {
            return false;
        }
        let in_start_period = now.since(self.began) < row.settings.start_period;
        row.record(passed, in_start_period);
        true
    }

    /// The last result of a reported probe holds until then.
    pub fn hold(&mut self, probe: usize, until: Instant) {
        if let Some(row) = self.rows.get_mut(probe).filter(|row| row.settings.reported) {
            row.holds_until = Some(until);
        }
    }

    /// When the next report is over, if one holds.
    #[must_use]
    pub fn silent_at(&self) -> Option<Instant> {
        self.rows.iter().filter_map(|row| row.holds_until).min()
    }

    /// Forgets reports that are over; gives the places of their probes.
    pub fn hush(&mut self, now: Instant) -> Vec<usize> {
        let over = |row: &Row| row.holds_until.is_some_and(|until| until <= now);
        let silent: Vec<_> = (0..self.rows.len()).filter(|place| over(&self.rows[*place])).collect();
        for place in &silent {
            self.rows[*place] = Row::new(self.rows[*place].settings.clone());
        }
        silent
    }

    /// The judgement over all startup and liveness probes.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let gate = self.worst(Role::Startup);
        if gate == Verdict::Healthy { self.worst(Role::Liveness) } else { gate }
    }

    /// Healthy, and all readiness probes say so too.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.verdict() == Verdict::Healthy && self.worst(Role::Readiness) == Verdict::Healthy
    }

    /// The judgement of each probe, in the order of the settings.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.rows.iter().map(|row| row.verdict).collect()
    }

    /// The places of the liveness probes that have a say.
    pub fn liveness(&self) -> impl Iterator<Item = usize> + '_ {
        let of_role = |row: &Row| row.settings.role == Role::Liveness && row.has_a_say();
        self.rows.iter().enumerate().filter(move |(_, row)| of_role(row)).map(|(at, _)| at)
    }

    fn started(&self) -> bool {
        self.worst(Role::Startup) == Verdict::Healthy
    }

    fn worst(&self, role: Role) -> Verdict {
        let of_role = || {
            let rows = self.rows.iter().filter(|row| row.settings.role == role && row.has_a_say());
            rows.map(|row| row.verdict)
        };
        if of_role().any(|v| v == Verdict::Unhealthy) {
            Verdict::Unhealthy
        } else if of_role().any(|v| v == Verdict::Starting) {
            Verdict::Starting
        } else {
            Verdict::Healthy
        }
    }
}

/// How long a service may take to turn healthy before it counts as sick, though no probe ever said so.
///
/// Nothing without startup and liveness probes. The slowest startup probe and then the slowest liveness probe:
/// `start_period` and as many intervals as its thresholds need.
#[must_use]
pub fn settle_limit(probes: &[Settings]) -> Option<Duration> {
    let slowest = |role| {
        let one = |p: &Settings| {
            let rounds = p.failure_threshold.max(p.success_threshold).max(1);
            let rounds = p.interval.max(p.timeout).saturating_mul(rounds);
            p.start_period.saturating_add(rounds).saturating_add(p.timeout)
        };
        probes.iter().filter(|p| p.role == role && !p.reported).map(one).max()
    };
    match (slowest(Role::Startup), slowest(Role::Liveness)) {
        (None, None) => None,
        (startup, liveness) => Some(startup.unwrap_or_default().saturating_add(liveness.unwrap_or_default())),
    }
}

impl Row {
    const fn new(settings: Settings) -> Self {
        let verdict = Verdict::Starting;
        Self { settings, verdict, passed_once: false, passes: 0, failures: 0, holds_until: None }
    }

    /// Of what is reported only a judgement counts: a service is not waited for because somebody might say something.
    fn has_a_say(&self) -> bool {
        !self.settings.reported || (self.holds_until.is_some() && self.verdict != Verdict::Starting)
    }

    fn record(&mut self, passed: bool, in_start_period: bool) {
        if passed {
            self.passed_once = true;
            self.failures = 0;
            self.passes = self.passes.saturating_add(1);
        } else {
            self.passes = 0;
            if in_start_period && !self.passed_once {
                return;
            }
            self.failures = self.failures.saturating_add(1);
        }
        if self.passes >= self.settings.success_threshold.max(1) {
            self.verdict = Verdict::Healthy;
        } else if self.failures >= self.settings.failure_threshold.max(1) {
            self.verdict = Verdict::Unhealthy;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Health, Role, Settings, Verdict, settle_limit};
    use crate::time::Instant;
    use Verdict::{Healthy, Starting, Unhealthy};

    fn probe(role: Role, failures: u32, successes: u32, start_period: u64) -> Settings {
        Settings {
            role,
            failure_threshold: failures,
            success_threshold: successes,
            start_period: Duration::from_secs(start_period),
            ..Settings::default()
        }
    }

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    /// Feeds a row, one result a second from second 0: `+` passed, `-` failed, `p` and `f` the same over a freeze.
    fn feed(health: &mut Health, probe: usize, row: &str) -> Vec<Verdict> {
        let one = |(second, result): (usize, char)| {
            let (passed, overlapped) = (matches!(result, '+' | 'p'), matches!(result, 'p' | 'f'));
            health.record(at(second as u64), probe, passed, overlapped);
            health.verdict()
        };
        row.chars().enumerate().map(one).collect()
    }

    #[test]
    fn rows_of_one_liveness_probe() {
        let (s, h, u) = (Starting, Healthy, Unhealthy);
        let cases: &[(u32, u32, u64, &str, &[Verdict])] = &[
            (3, 1, 0, "+", &[h]),
            (3, 1, 0, "---", &[s, s, u]),
            (3, 1, 0, "--+--+---", &[s, s, h, h, h, h, h, h, u]),
            (1, 1, 0, "-+-", &[u, h, u]),
            (3, 2, 0, "+-++", &[s, s, s, h]),
            (2, 2, 0, "++--+-++", &[s, h, h, u, u, u, u, h]),
            // Within the start period failures do not count before the first success, successes do.
            (2, 1, 3, "-----", &[s, s, s, s, u]),
            (2, 1, 9, "----+--", &[s, s, s, s, h, h, u]),
            // What overlapped a freeze counts only if it passed.
            (2, 1, 0, "+-f-", &[h, h, h, u]),
            (2, 1, 0, "fffffp", &[s, s, s, s, s, h]),
            (2, 1, 0, "+-p-", &[h, h, h, h]),
            // Thresholds of 0 are 1.
            (0, 0, 0, "+-", &[h, u]),
        ];
        for (failures, successes, start_period, row, wanted) in cases {
            let settings = probe(Role::Liveness, *failures, *successes, *start_period);
            let mut health = Health::new(&[settings], at(0));
            assert_eq!(feed(&mut health, 0, row), *wanted, "{row}");
        }
    }

    #[test]
    fn without_probes_healthy_and_ready_at_once() {
        let mut health = Health::new(&[], at(0));
        assert_eq!((health.verdict(), health.ready()), (Healthy, true));
        assert!(!health.record(at(0), 0, false, false), "no such probe");
        assert_eq!(health.verdict(), Healthy);
        assert_eq!(settle_limit(&[]), None);
    }

    #[test]
    fn readiness_only_affects_ready() {
        let probes = [probe(Role::Liveness, 1, 1, 0), probe(Role::Readiness, 1, 1, 0)];
        let mut health = Health::new(&probes, at(0));
        health.record(at(1), 0, true, false);
        assert_eq!((health.verdict(), health.ready()), (Healthy, false));
        health.record(at(1), 1, true, false);
        assert_eq!((health.verdict(), health.ready()), (Healthy, true));
        health.record(at(2), 1, false, false);
        assert_eq!((health.verdict(), health.ready()), (Healthy, false));
        health.record(at(2), 1, true, false);
        health.record(at(3), 0, false, false);
        assert_eq!((health.verdict(), health.ready()), (Unhealthy, false));
        assert_eq!(health.verdicts(), [Unhealthy, Healthy]);
        assert_eq!(health.liveness().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn startup_gates_the_others_and_is_done_once_passed() {
        let probes = [probe(Role::Liveness, 1, 1, 0), probe(Role::Startup, 2, 1, 0)];
        let mut health = Health::new(&probes, at(0));
        assert!(!health.record(at(0), 0, false, false), "liveness is not asked yet");
        assert_eq!(health.verdict(), Starting);
        assert!(health.record(at(1), 1, true, false));
        assert_eq!(health.verdict(), Starting, "now liveness must speak");
        assert!(health.record(at(2), 0, true, false));
        assert_eq!(health.verdict(), Healthy);
        assert!(!health.record(at(3), 1, false, false) && !health.record(at(3), 1, false, false));
        assert_eq!(health.verdict(), Healthy, "startup is not asked any more");

        let mut health = Health::new(&probes, at(0));
        assert_eq!(feed(&mut health, 1, "--"), [Starting, Unhealthy]);
    }

    #[test]
    fn what_is_reported_counts_while_it_holds() {
        let outside = Settings { reported: true, ..probe(Role::Liveness, 2, 1, 0) };
        let mut health = Health::new(&[probe(Role::Liveness, 1, 1, 0), outside.clone()], at(0));
        assert_eq!(settle_limit(std::slice::from_ref(&outside)), None);
        health.record(at(0), 0, true, false);
        assert_eq!((health.verdict(), health.silent_at()), (Healthy, None), "silence is no result");
        let report = |health: &mut Health, second: u64, passed: bool| {
            health.record(at(second), 1, passed, false);
            health.hold(1, at(second + 5));
            health.verdict()
        };
        assert_eq!(report(&mut health, 1, false), Healthy, "one failure of two");
        assert_eq!(health.liveness().collect::<Vec<_>>(), [0]);
        assert_eq!(report(&mut health, 2, false), Unhealthy);
        assert_eq!(health.silent_at(), Some(at(7)));
        assert!(health.hush(at(6)).is_empty());
        assert_eq!(health.verdict(), Unhealthy);
        assert_eq!(health.hush(at(7)), [1]);
        assert_eq!(
            (health.verdict(), health.silent_at()),
            (Healthy, None),
            "whoever fell silent kills nobody"
        );
        assert_eq!(report(&mut health, 8, false), Healthy, "and is counted anew");
        assert_eq!(report(&mut health, 9, true), Healthy);
        assert_eq!(health.liveness().collect::<Vec<_>>(), [0, 1]);
        health.record(at(10), 0, false, false);
        assert_eq!(health.verdict(), Unhealthy, "nor does it keep anybody healthy");
        health.hold(0, at(20));
        assert!(health.hush(at(30)).len() == 1, "only what is reported is forgotten");

        let mut alone = Health::new(&[outside], at(0));
        assert_eq!((alone.verdict(), alone.ready()), (Healthy, true), "as without probes");
        alone.record(at(1), 0, false, false);
        alone.record(at(2), 0, false, false);
        alone.hold(0, at(3));
        assert_eq!(alone.verdict(), Unhealthy);
    }

    #[test]
    fn the_limit_to_settle_is_startup_and_then_liveness() {
        let of = |role, start_period| Settings {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            ..probe(role, 3, 1, start_period)
        };
        let limit = |probes: &[Settings]| settle_limit(probes).map(|d| d.as_secs());
        assert_eq!(limit(&[of(Role::Liveness, 5)]), Some(5 + 30 + 1));
        assert_eq!(limit(&[of(Role::Liveness, 5), of(Role::Liveness, 50)]), Some(81));
        assert_eq!(limit(&[of(Role::Startup, 0), of(Role::Liveness, 5)]), Some(31 + 36));
        assert_eq!(limit(&[of(Role::Readiness, 5)]), None);
        let slow = Settings { timeout: Duration::from_secs(20), ..of(Role::Liveness, 0) };
        assert_eq!(limit(&[slow]), Some(3 * 20 + 20));
    }
}
