//! Plots of how checkpoints went, as SVG. Colours are such that they can be read by day and in the dark.

use plotters::prelude::{
    AreaSeries, ChartBuilder, Circle, Color, IntoDrawingArea, IntoFont, RGBColor, SVGBackend,
};
use std::time::SystemTime;

use crate::status::EventRecord;

const LINE: RGBColor = RGBColor(56, 132, 255);
const TEXT: RGBColor = RGBColor(128, 128, 128);
const SIZE: (u32, u32) = (420, 200);

/// One plot.
pub(super) struct Plot {
    /// What it shows, with its unit.
    pub(super) title: &'static str,
    /// The picture.
    pub(super) svg: String,
}

/// Pause, image size and recovery point over time, as far as there is anything to be drawn.
pub(super) fn of(history: &[EventRecord]) -> Vec<Plot> {
    let now = engine::clock::wall();
    let of = |kind: &str, value: fn(&EventRecord) -> Option<f64>| -> Vec<(f64, f64)> {
        let wanted = history.iter().filter(|record| record.kind == kind);
        wanted.filter_map(|record| Some((-minutes_ago(record, now)?, value(record)?))).collect()
    };
    let pauses = of("checkpoint-taken", |record| record.pause_ms);
    let sizes = of("image-durable", |record| Some(record.size_bytes? as f64 / f64::from(1 << 20)));
    let durable = of("image-durable", |_| Some(0.0));
    let all = [
        ("pause, ms", pauses),
        ("image size, MiB", sizes),
        ("recovery point (age of the newest durable image), s", ages(&durable)),
    ];
    let drawn = all.into_iter().filter(|(_, points)| points.len() > 1);
    drawn.filter_map(|(title, points)| Some(Plot { title, svg: draw(&points)? })).collect()
}

fn minutes_ago(record: &EventRecord, now: SystemTime) -> Option<f64> {
    let at = humantime::parse_rfc3339_weak(&record.at).ok()?;
    Some(now.duration_since(at).unwrap_or_default().as_secs_f64() / 60.0)
}

/// The age grows until the next image is there, and falls to nothing then.
fn ages(durable: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let ends = durable.iter().skip(1).map(|(at, _)| *at).chain([0.0]);
    durable.iter().zip(ends).flat_map(|((from, _), to)| [(*from, 0.0), (to, (to - from) * 60.0)]).collect()
}

/// So many minutes, without zeros that say nothing.
fn label(minutes: f64) -> String {
    let text = format!("{minutes:.2}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        "0" | "-0" => "now".to_owned(),
        text => format!("{text} min"),
    }
}

/// `None` if the library cannot draw it, which is no reason to show no page.
fn draw(points: &[(f64, f64)]) -> Option<String> {
    let mut svg = String::new();
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max).max(1e-9) * 1.1;
    let first = points.first()?.0.min(-0.1);
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(24)
            .x_label_area_size(26)
            .y_label_area_size(46)
            .build_cartesian_2d(first..0.0, 0.0..highest)
            .ok()?;
        let font = ("sans-serif", 12).into_font().color(&TEXT);
        chart
            .configure_mesh()
            .light_line_style(TEXT.mix(0.0))
            .bold_line_style(TEXT.mix(0.25))
            .axis_style(TEXT)
            .label_style(font)
            .x_labels(5)
            .y_labels(4)
            .x_label_formatter(&|minutes| label(*minutes))
            .draw()
            .ok()?;
        chart
            .draw_series(AreaSeries::new(points.iter().copied(), 0.0, LINE.mix(0.2)).border_style(LINE))
            .ok()?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, LINE.filled()))).ok()?;
        area.present().ok()?;
    }
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn labels_are_short() {
        let labels = [-120.0, -1.5, -0.25, -0.0].map(label);
        assert_eq!(labels, ["-120 min", "-1.5 min", "-0.25 min", "now"]);
    }
}
