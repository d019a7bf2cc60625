//! What is said is played by the test; who hears it is the shim's business.

use std::time::Duration;

use tokio::sync::watch;

use super::*;

const PLENTY: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

fn heard(notify: Notify) -> (watch::Sender<Said>, Notify) {
    let (says, said) = watch::channel(Said::default());
    (says, notify.hearing(Some(Some(said))))
}

#[tokio::test]
async fn ready_is_waited_for_and_stays() {
    let (says, probe) = heard(Notify::ready());
    let silent = probe.listen(SHORT).await;
    assert!(silent.unwrap_err().starts_with("READY=1 was not said"));
    let (answer, ()) =
        tokio::join!(probe.listen(PLENTY), async { says.send_modify(|said| said.ready = true) });
    assert!(answer.is_ok());
    assert!(probe.listen(SHORT).await.is_ok(), "said once is said");
    says.send_modify(|said| said.ready = false);
    assert!(probe.listen(SHORT).await.is_err(), "and may be taken back");
}

#[tokio::test]
async fn each_sign_of_life_counts_for_one_check() {
    let (says, probe) = heard(Notify::life());
    says.send_modify(|said| said.alive = 2);
    assert!(probe.listen(SHORT).await.is_ok(), "from before the check");
    assert!(probe.listen(SHORT).await.is_err(), "it has counted");
    let (answer, ()) = tokio::join!(probe.listen(PLENTY), async { says.send_modify(|said| said.alive = 3) });
    assert!(answer.is_ok());
}

#[tokio::test]
async fn a_call_for_help_fails_at_once() {
    let (says, probe) = heard(Notify::life());
    says.send_modify(|said| (said.alive, said.sick) = (1, true));
    probe.asks_for_help().await;
    assert_eq!(probe.listen(PLENTY).await.unwrap_err(), "it said WATCHDOG=trigger");
    let (_says, ready) = heard(Notify::ready());
    assert!(tokio::time::timeout(SHORT, ready.asks_for_help()).await.is_err());
}

#[tokio::test]
async fn after_a_freeze_only_what_is_said_then_is_waited_for() {
    let (says, probe) = heard(Notify::life());
    says.send_modify(|said| said.alive = 1);
    assert!(tokio::time::timeout(SHORT, probe.speaks_again()).await.is_err(), "that was before");
    tokio::join!(probe.speaks_again(), async { says.send_modify(|said| said.alive = 2) });
    heard(Notify::ready()).1.speaks_again().await;
}

#[tokio::test]
async fn who_was_told_nothing_is_not_blamed_and_who_does_not_run_is_not_well() {
    let untold = Notify::life().hearing(Some(None));
    assert!(untold.listen(SHORT).await.unwrap().contains("not asked"));
    assert!(Notify::life().listen(SHORT).await.is_err());
    let (says, probe) = heard(Notify::life());
    drop(says);
    assert_eq!(probe.listen(PLENTY).await.unwrap_err(), "its shim has gone");
}
