//! Metrics as OTLP has them, of the very text that is scraped: there is one tally, and both ways tell the same.
//!
//! It refuses to understand more of Prometheus' text than we write ourselves: no timestamps, no exemplars.

use std::collections::BTreeMap;
use std::time::SystemTime;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};

use super::{spans::nanos, text};

/// One line of a metric.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

/// A metric of the text, being gathered.
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    samples: Vec<Sample<'a>>,
}

/// All metrics of a scrape; counters count since then.
pub(super) fn of(scraped: &str, since: SystemTime, now: SystemTime) -> Vec<Metric> {
    let (since, now) = (nanos(since), nanos(now));
    families(scraped).into_iter().map(|family| family.metric(since, now)).collect()
}

fn families(scraped: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in scraped.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            families.push(Family { name, help, kind: "gauge", samples: Vec::new() });
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let kind = rest.split_once(' ').map_or("gauge", |(_, kind)| kind);
            families.iter_mut().rev().take(1).for_each(|family| family.kind = kind);
        } else if let (Some(sample), Some(family)) = (sample(line), families.last_mut()) {
            family.samples.push(sample);
        }
    }
    families
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let (before, value) = line.rsplit_once(' ')?;
    let (name, labels) = match before.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)?),
        None => (before, Vec::new()),
    };
    Some(Sample { name, labels, value: value.parse().ok()? })
}

/// `a="b",c="d\"e"`
fn labels(mut rest: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"")?;
        let (mut value, mut end, mut escaped) = (String::new(), None, false);
        for (at, letter) in quoted.char_indices() {
            match (escaped, letter) {
                (true, 'n') => value.push('\n'),
                (true, letter) => value.push(letter),
                (false, '\\') => {}
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (false, letter) => value.push(letter),
            }
            escaped = !escaped && letter == '\\';
        }
        labels.push((name, value));
        rest = quoted[end? + 1..].trim_start_matches(',');
    }
    Some(labels)
}

impl Family<'_> {
    fn metric(&self, since: u64, now: u64) -> Metric {
        let temporality = AggregationTemporality::Cumulative.into();
        let data = match self.kind {
            "counter" => Data::Sum(Sum {
                data_points: self.numbers(since, now),
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: self.histograms(since, now),
                aggregation_temporality: temporality,
            }),
            _ => Data::Gauge(Gauge { data_points: self.numbers(0, now) }),
        };
        Metric {
            name: self.name.to_owned(),
            description: self.help.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn numbers(&self, since: u64, now: u64) -> Vec<NumberDataPoint> {
        let point = |sample: &Sample<'_>| NumberDataPoint {
            attributes: attributes(&sample.labels),
            start_time_unix_nano: since,
            time_unix_nano: now,
            value: Some(Value::AsDouble(sample.value)),
            ..NumberDataPoint::default()
        };
        self.samples.iter().map(point).collect()
    }

    fn histograms(&self, since: u64, now: u64) -> Vec<HistogramDataPoint> {
        let mut points: BTreeMap<Vec<(&str, String)>, HistogramDataPoint> = BTreeMap::new();
        for sample in &self.samples {
            let (bounds, labels): (Vec<_>, Vec<_>) =
                sample.labels.iter().cloned().partition(|(name, _)| *name == "le");
            let point = points.entry(labels.clone()).or_insert_with(|| HistogramDataPoint {
                attributes: attributes(&labels),
                start_time_unix_nano: since,
                time_unix_nano: now,
                ..HistogramDataPoint::default()
            });
            match sample.name.strip_prefix(self.name) {
                Some("_sum") => point.sum = Some(sample.value),
                Some("_count") => point.count = sample.value as u64,
                _ => {
                    add_bucket(point, bounds.first().map_or("+Inf", |(_, bound)| bound), sample.value as u64)
                }
            }
        }
        points.into_values().collect()
    }
}

/// There each bucket holds those before it too; here it holds its own.
fn add_bucket(point: &mut HistogramDataPoint, bound: &str, up_to: u64) {
    let before: u64 = point.bucket_counts.iter().sum();
    point.bucket_counts.push(up_to.saturating_sub(before));
    if let Some(bound) = bound.parse().ok().filter(|bound: &f64| bound.is_finite()) {
        point.explicit_bounds.push(bound);
    }
}

fn attributes(labels: &[(&str, String)]) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| text(name, value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPED: &str = "\
# HELP supervisor_faults_total Faults.
# TYPE supervisor_faults_total counter
supervisor_faults_total{service=\"a\",cause=\"crashed\"} 3
# HELP supervisor_pause_seconds Pauses.
# TYPE supervisor_pause_seconds histogram
supervisor_pause_seconds_sum{service=\"a\"} 0.75
supervisor_pause_seconds_count{service=\"a\"} 4
supervisor_pause_seconds_bucket{service=\"a\",le=\"0.1\"} 1
supervisor_pause_seconds_bucket{service=\"a\",le=\"0.5\"} 3
supervisor_pause_seconds_bucket{service=\"a\",le=\"+Inf\"} 4
# HELP supervisor_ready Ready.
# TYPE supervisor_ready gauge
supervisor_ready{replica=\"file:///\\\"r\\\\\\n,}\"} 1.0
supervisor_alone 7
";

    #[test]
    fn counters_histograms_and_gauges_are_what_they_were() {
        let metrics = of(SCRAPED, SystemTime::UNIX_EPOCH, engine::clock::wall());
        let [faults, pauses, ready] = &metrics[..] else { panic!("{metrics:?}") };
        let Some(Data::Sum(sum)) = &faults.data else { panic!("{faults:?}") };
        assert!(sum.is_monotonic && sum.data_points[0].value == Some(Value::AsDouble(3.0)));
        assert_eq!(sum.data_points[0].attributes, [text("service", "a"), text("cause", "crashed")]);
        let Some(Data::Histogram(histogram)) = &pauses.data else { panic!("{pauses:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (4, Some(0.75)));
        assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 2, 1][..], &[0.1, 0.5][..]));
        let Some(Data::Gauge(gauge)) = &ready.data else { panic!("{ready:?}") };
        assert_eq!(gauge.data_points[0].attributes, [text("replica", "file:///\"r\\\n,}")]);
        assert_eq!(gauge.data_points.len(), 2);
    }
}
