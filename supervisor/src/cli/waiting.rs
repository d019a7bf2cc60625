//! What is seen of a request that takes long: a line with the time and with what happens to the service meanwhile, on standard error, if that is
//! a terminal. It refuses to hold up the answer: whatever goes wrong with it shows nothing.

use std::future::Future;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::client::Client;
use super::events::{Lines, Since, Wanted, read};
use super::failure::Failure;

/// Waits for the answer to a request that does something to a service.
pub(super) async fn seen<T>(
    client: &Client,
    (action, service): (&str, &str),
    request: impl Future<Output = T>,
) -> T {
    if !io::stderr().is_terminal() {
        return request.await;
    }
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}");
    line.set_style(style.expect("the template is right"));
    line.set_prefix(format!("{action} {service}"));
    line.enable_steady_tick(Duration::from_millis(100));
    let showing = async {
        // The answer says what is wrong, if anything is.
        let _ = show(client, service, &line).await;
        std::future::pending().await
    };
    let answer = tokio::select! {
        answer = request => answer,
        never = showing => never,
    };
    line.finish_and_clear();
    answer
}

async fn show(client: &Client, service: &str, line: &ProgressBar) -> Result<(), Failure> {
    let now = engine::clock::wall();
    let wanted = Wanted { follow: true, since: Some(Since::At(now)), service: Some(service.to_owned()) };
    let mut events = Lines::open(client, &wanted.path(now)).await?;
    while let Some(event) = events.next().await? {
        let text = read(&event)?.text;
        line.set_message(text.lines().next().unwrap_or_default().to_owned());
    }
    Ok(())
}
