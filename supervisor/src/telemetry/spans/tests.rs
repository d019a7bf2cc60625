//! Events in, spans out.

use super::*;
use crate::events::plain;

/// Tells the events of one service, a second apart; gives the spans, by their names.
fn traced(events: impl IntoIterator<Item = EventRecord>, room: usize) -> (Vec<Span>, u64) {
    let (queue, mut spans) = mpsc::channel(room);
    let dropped = Counter::default();
    let mut tracer = Tracer::new("n".to_owned(), queue, dropped.clone());
    for (second, record) in events.into_iter().enumerate() {
        let at = humantime::format_rfc3339_millis(at(second as f64 * 1e3)).to_string();
        tracer.hear(&EventRecord { seq: second as u64, at, service: Some("a".to_owned()), ..record });
    }
    (std::iter::from_fn(|| spans.try_recv().ok()).collect(), dropped.get())
}

fn at(milliseconds: f64) -> SystemTime {
    later(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), milliseconds)
}

fn event(kind: &str) -> EventRecord {
    plain(None, kind, kind)
}

fn shape(spans: &[Span]) -> Vec<(&str, f64, f64, bool)> {
    let since = |time: u64| (time - nanos(at(0.0))) as f64 / 1e6;
    let one = |span: &Span| {
        let is_error = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
        (since(span.start_time_unix_nano), since(span.end_time_unix_nano), is_error)
    };
    spans.iter().map(|span| (span.name.as_str(), one(span))).map(|(n, (b, e, f))| (n, b, e, f)).collect()
}

/// All below the root, in one trace, told apart.
fn is_one_tree(spans: &[Span], root: &str) {
    let root = spans.iter().find(|span| span.name == root).expect("a root");
    assert!(root.parent_span_id.is_empty());
    let mut ids = std::collections::BTreeSet::new();
    for span in spans {
        assert_eq!(span.trace_id, root.trace_id, "{}", span.name);
        assert!(ids.insert(span.span_id.clone()), "{} bears another's id", span.name);
        assert!(span.name == root.name || span.parent_span_id == root.span_id, "{}", span.name);
    }
}

#[test]
fn a_recovery_is_one_trace_with_each_rung_and_the_first_answer() {
    let events = [
        event("noticed"),
        event("rung-taken"),
        event("rung-failed"),
        event("rung-taken"),
        EventRecord { ran_after_ms: Some(3400.0), took_ms: Some(3950.5), ..event("recovered") },
    ];
    let (spans, dropped) = traced(events, 9);
    let wanted = [
        ("rung", 1000.0, 2000.0, true),
        ("rung", 3000.0, 3400.0, false),
        ("first-answer", 3400.0, 3950.5, false),
        ("recovery", 0.0, 3950.5, false),
    ];
    assert_eq!((shape(&spans), dropped), (wanted.to_vec(), 0));
    is_one_tree(&spans, "recovery");
}

#[test]
fn a_recovery_that_comes_to_nothing_is_an_error() {
    for end in ["gave-up", "stopped", "noticed"] {
        let (spans, _) = traced([event("noticed"), event("rung-taken"), event("rung-failed"), event(end)], 9);
        let wanted = [("rung", 1000.0, 2000.0, true), ("recovery", 0.0, 3000.0, true)];
        assert_eq!(shape(&spans), wanted, "{end}");
    }
    assert!(
        traced([event("rung-taken"), event("rung-failed"), event("recovered"), event("gave-up")], 9)
            .0
            .is_empty()
    );
}

#[test]
fn what_happens_to_an_image_later_belongs_to_its_checkpoint() {
    let of = |kind: &str, took: f64| EventRecord {
        image: Some("i1".to_owned()),
        took_ms: Some(took),
        ..event(kind)
    };
    let taken = EventRecord { pause_ms: Some(8.0), ran_after_ms: Some(30.0), ..of("checkpoint-taken", 50.0) };
    let replicated =
        |url: &str| EventRecord { replica: Some(url.to_owned()), ..of("image-replicated", 100.0) };
    let events = [event("started"), taken, of("image-durable", 20.0), replicated("one"), replicated("other")];
    let (spans, _) = traced(events, 9);
    let wanted = [
        ("pause", 972.0, 980.0, false),
        ("seal", 980.0, 1000.0, false),
        ("checkpoint", 950.0, 1000.0, false),
        ("commit", 1980.0, 2000.0, false),
        ("replicate", 2900.0, 3000.0, false),
        ("replicate", 3900.0, 4000.0, false),
    ];
    assert_eq!(shape(&spans), wanted);
    is_one_tree(&spans, "checkpoint");
}

#[test]
fn what_finds_no_room_is_counted() {
    let events = (0..5).map(|image| EventRecord { image: Some(image.to_string()), ..event("image-durable") });
    let (spans, dropped) = traced(events, 2);
    assert_eq!((spans.len(), dropped), (2, 3));
}
