//! Line charts as inline SVG. Colours come from the page, so that they suit light and dark.

use std::fmt::Write;

/// Size of a chart in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
/// Room for the labels of the axes.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;

/// A chart of lines over one axis.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// What is across, with its unit.
    pub(super) across: &'a str,
    /// What is up, with its unit.
    pub(super) up: &'a str,
    /// Each with its name, which is also its class.
    pub(super) lines: Vec<Line<'a>>,
    /// Labels across and where they are; without them the axis is labelled by its ends.
    pub(super) marks: Vec<(f64, &'a str)>,
}

pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    /// The figure; nothing if there are no points.
    pub(super) fn figure(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (first, last) = points().fold((f64::MAX, f64::MIN), |(first, last), (x, _)| (first.min(*x), last.max(*x)));
        if first > last {
            return String::new();
        }
        let most = nice(points().map(|(_, y)| *y).fold(0.0, f64::max));
        let across = |x: f64| LEFT + (x - first) / (last - first).max(1e-9) * (WIDTH - LEFT - RIGHT);
        let up = |y: f64| HEIGHT - BOTTOM - y / most * (HEIGHT - BOTTOM - TOP);
        let mut svg = String::new();
        for step in 0..=4 {
            let value = most * f64::from(step) / 4.0;
            let y = up(value);
            let end = WIDTH - RIGHT;
            let _ = write!(svg, "<line class=grid x1={LEFT} x2={end} y1={y:.1} y2={y:.1} />");
            let _ = write!(svg, "<text x={:.1} y={:.1} text-anchor=end>{}</text>", LEFT - 6.0, y + 4.0, number(value));
        }
        let ends = [(first, number(first)), (last, number(last))];
        let given = self.marks.iter().map(|(x, text)| (*x, (*text).to_owned()));
        let marks: Vec<(f64, String)> = if self.marks.is_empty() { ends.into() } else { given.collect() };
        for (x, text) in marks {
            let x = across(x);
            let _ = write!(svg, "<text x={x:.1} y={:.1} text-anchor=middle>{text}</text>", HEIGHT - 10.0);
        }
        for (index, line) in self.lines.iter().enumerate() {
            let points: Vec<String> =
                line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", across(*x), up(*y))).collect();
            let _ = write!(svg, "<polyline class=line{index} points=\"{}\" />", points.join(" "));
        }
        let mut legend = String::new();
        for (index, line) in self.lines.iter().enumerate() {
            let _ = write!(legend, "<span class=key{index}>{}</span> ", line.name);
        }
        let Self { title, across, up, .. } = self;
        format!(
            "<figure><figcaption><b>{title}</b> {legend}<small>{up} over {across}</small></figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{title}\">{svg}</svg></figure>\n"
        )
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(most: f64) -> f64 {
    let power = 10f64.powf(most.max(1e-3).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|nice| *nice >= most).unwrap_or(most)
}

fn number(value: f64) -> String {
    match value.abs() {
        abs if abs >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        abs if abs >= 10.0 || abs == 0.0 => format!("{value:.0}"),
        abs if abs >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.7, 1.0, 3.0, 7.5, 420.0].map(nice), [1.0, 1.0, 5.0, 10.0, 500.0]);
        assert_eq!([0.0, 0.25, 2.5, 40.0, 95_000.0].map(number), ["0", "0.25", "2.5", "40", "95k"]);
    }

    #[test]
    fn a_chart_has_a_line_for_each_name_and_none_without_points() {
        let line = |points: &[(f64, f64)]| Line { name: "p99", points: points.to_vec() };
        let chart = |lines| Chart { title: "Delay", across: "s", up: "ms", lines, marks: Vec::new() };
        let figure = chart(vec![line(&[(0.0, 0.0), (10.0, 5.0)])]).figure();
        assert!(figure.contains("points=\"64.0,212.0 708.0,12.0\""), "{figure}");
        assert_eq!(chart(vec![line(&[])]).figure(), "");
    }
}
