//! Numbers as people read them.

use std::time::Duration;

/// `0.4 s`, `3 s`, `5 min`, `2 h 10 min`, `3 d 4 h`.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 1.0 {
        return format!("{seconds:.1} s");
    }
    let whole = Duration::from_secs_f64(seconds.min(1e12)).as_secs();
    match whole {
        0..120 => format!("{whole} s"),
        120..3600 => format!("{} min", whole / 60),
        3600..86400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86400, whole % 86400 / 3600),
    }
}

/// `0.42 ms`, `8.1 ms`, `230 ms`, `2.9 s`.
pub(crate) fn milliseconds(ms: f64) -> String {
    if ms < 1.0 {
        format!("{ms:.2} ms")
    } else if ms < 100.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// `512 B`, `3.4 KiB`, `118.2 MiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const STEPS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let step = STEPS.iter().find(|(unit, _)| bytes >= *unit);
    match step {
        // Exact enough: three digits are shown.
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// ` (8.1 ms)` behind a text, unless the text tells a time itself.
pub(crate) fn took(text: &str, took_ms: Option<f64>) -> String {
    match took_ms.filter(|_| !text.contains(" ms")) {
        Some(took) => format!(" ({})", milliseconds(took)),
        None => String::new(),
    }
}

/// The cell of something that may be absent.
pub(crate) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// A duration of the configuration.
pub(crate) fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// `1 image`, `2 images`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_sizes_and_counts_are_short() {
        let spans = [0.0, 0.44, 3.9, 119.0, 120.0, 3599.0, 7800.0, 273_600.0, -1.0, f64::NAN];
        let expected =
            ["0.0 s", "0.4 s", "3 s", "119 s", "2 min", "59 min", "2 h 10 min", "3 d 4 h", "-", "-"];
        assert_eq!(spans.map(span), expected);
        assert_eq!([0.421, 8.14, 230.4, 2900.0].map(milliseconds), ["0.42 ms", "8.1 ms", "230 ms", "2.9 s"]);
        assert_eq!(
            [took("done", Some(8.0)), took("took 8 ms", Some(8.0)), took("done", None)],
            [" (8.0 ms)", "", ""]
        );
        let sizes = [0, 1023, 3500, 123_900_000, 3 << 29];
        assert_eq!(sizes.map(size), ["0 B", "1023 B", "3.4 KiB", "118.2 MiB", "1.5 GiB"]);
        assert_eq!([count(0, "image"), count(1, "image")], ["0 images", "1 image"]);
    }
}
