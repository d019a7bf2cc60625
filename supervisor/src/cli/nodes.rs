//! The cluster: `status --cluster`, `drain`, `undrain`, `forget`.

use std::time::Duration;

use super::act::GRACE;
use super::client::{ANSWER_MAX, Client, refusal};
use super::failure::Failure;
use super::screen::{Mood, Screen};
use super::words;
use crate::api::{ActionBody, DrainedService};
use crate::status::Answer;
use crate::tenure::NodeSeen;

/// Shows every node and what it says of each service.
pub(crate) async fn status(screen: &Screen, client: &Client) -> Result<(), Failure> {
    let nodes: Vec<NodeSeen> = client.get("/v1/nodes").await?;
    if screen.is_json() { screen.json(&nodes) } else { screen.print(&shown(screen, &nodes)) }
}

/// Sends the node's services elsewhere.
pub(crate) async fn drain(screen: &Screen, client: &Client, limit: Duration) -> Result<(), Failure> {
    let body = ActionBody { wait_seconds: limit.as_secs_f64(), ..ActionBody::default() };
    let (status, body) = client.ask("/v1/drain", &body, limit + GRACE).await?;
    let Ok(drained) = serde_json::from_slice::<Vec<DrainedService>>(&body) else {
        return Err(refusal(status, &body));
    };
    if screen.is_json() {
        screen.json(&drained)?;
    } else {
        for service in &drained {
            screen.line(&format!("{}: {}", service.service, service.text))?;
        }
    }
    let bad: Vec<_> = drained.iter().filter(|s| !["done", "stays"].contains(&s.outcome.as_str())).collect();
    if bad.is_empty() {
        return if screen.is_json() {
            Ok(())
        } else {
            screen.line("this node takes nothing over until `undrain`")
        };
    }
    let text = format!("{} still here", words::count(bad.len(), "service"));
    if bad.iter().all(|s| s.outcome == "accepted") {
        Err(Failure::Unfinished(text))
    } else {
        Err(Failure::Failed(text))
    }
}

/// Lets the node take services over again.
pub(crate) async fn undrain(screen: &Screen, client: &Client) -> Result<(), Failure> {
    let answer: Answer = client.post("/v1/undrain", ANSWER_MAX).await?;
    if screen.is_json() { screen.json(&answer) } else { screen.line(&answer.text) }
}

/// Has the node forget another that is gone.
pub(crate) async fn forget(screen: &Screen, client: &Client, node: &str) -> Result<(), Failure> {
    let answer: Answer = client.post(&format!("/v1/nodes/{node}/forget"), ANSWER_MAX).await?;
    if screen.is_json() {
        screen.json(&answer)?;
    }
    match answer.outcome.as_str() {
        "done" if screen.is_json() => Ok(()),
        "done" => screen.line(&answer.text),
        "denied" => Err(Failure::Denied(answer.text)),
        _ => Err(Failure::Failed(answer.text)),
    }
}

const HEADER: [&str; 8] = ["NODE", "HEARD", "LOAD", "SERVICE", "ROLE", "STATE", "EPOCH", "READY"];
const HEARD: usize = 1;

fn shown(screen: &Screen, nodes: &[NodeSeen]) -> String {
    let (mut rows, mut moods) = (Vec::new(), Vec::new());
    for node in nodes {
        let own = rows_of(node);
        moods.extend(own.iter().map(|_| if node.there { Mood::Plain } else { Mood::Bad }));
        rows.extend(own);
    }
    if rows.is_empty() {
        "no node has said anything yet\n".to_owned()
    } else {
        screen.table(&HEADER, &rows, (HEARD, &moods))
    }
}

fn rows_of(node: &NodeSeen) -> Vec<Vec<String>> {
    let heard = match (node.there, node.silent_seconds) {
        (true, _) if node.said.draining => "draining".to_owned(),
        (true, _) => "there".to_owned(),
        (false, Some(silent)) => format!("silent for {}", words::span(silent)),
        (false, None) => "silent".to_owned(),
    };
    let load = format!("{:.2}", f64::from(node.said.load) / 1000.0);
    let first = [node.node.clone(), heard, load];
    let services = node.said.services.iter().map(|(name, said)| {
        let ready = match (&said.not_ready, &said.prepared) {
            _ if said.role == "holder" => "-".to_owned(),
            (Some(why), _) => format!("no: {why}"),
            (None, Some(image)) => format!("yes, {image}"),
            (None, None) => "no image yet".to_owned(),
        };
        [name.clone(), said.role.clone(), said.state.clone(), said.epoch.to_string(), ready]
    });
    let mut rows: Vec<Vec<String>> = services.map(|own| first.iter().cloned().chain(own).collect()).collect();
    if rows.is_empty() {
        rows.push(first.into_iter().chain(std::iter::repeat_n("-".to_owned(), 5)).collect());
    }
    rows
}
