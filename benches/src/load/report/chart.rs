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
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// What is across, with its unit.
    pub(crate) across: &'a str,
    /// What is up, with its unit.
    pub(crate) up: &'a str,
    /// Each with its name, which is also its class.
    pub(crate) lines: Vec<Line<'a>>,
    /// Labels across and where they are; without them the axis is labelled by its ends.
    pub(crate) marks: Vec<(f64, &'a str)>,
    /// Where something begins.
    pub(crate) borders: Vec<f64>,
}

pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    /// The figure; nothing if there are no points.
    pub(crate) fn figure(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across_all = || points().map(|(x, _)| *x).chain(self.marks.iter().map(|(x, _)| *x));
        let (first, last) = across_all().fold((f64::MAX, f64::MIN), |(first, last), x| (first.min(x), last.max(x)));
        if points().next().is_none() {
            return String::new();
        }
        let (most, steps) = nice(points().map(|(_, y)| *y).fold(0.0, f64::max));
        let across = |x: f64| LEFT + (x - first) / (last - first).max(1e-9) * (WIDTH - LEFT - RIGHT);
        let up = |y: f64| HEIGHT - BOTTOM - y / most * (HEIGHT - BOTTOM - TOP);
        let mut svg = String::new();
        for step in 0..=steps {
            let value = most * f64::from(step) / f64::from(steps);
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
            // At the right edge half of it would be cut off.
            let anchor = if x > WIDTH - RIGHT - 20.0 { "end" } else { "middle" };
            let _ = write!(svg, "<text x={x:.1} y={:.1} text-anchor={anchor}>{text}</text>", HEIGHT - 10.0);
        }
        for x in &self.borders {
            let x = across(*x);
            let _ = write!(svg, "<line class=border x1={x:.1} x2={x:.1} y1={TOP} y2={:.1} />", HEIGHT - BOTTOM);
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

/// The next of 1, 2, 5 times a power of ten, and into how many steps it parts well.
fn nice(most: f64) -> (f64, u32) {
    let power = 10f64.powf(most.max(1e-3).log10().floor());
    let steps = [(1.0, 4), (2.0, 4), (5.0, 5), (10.0, 4)].map(|(step, parts)| (step * power, parts));
    steps.into_iter().find(|(nice, _)| *nice >= most).unwrap_or((most, 4))
}

fn number(value: f64) -> String {
    match value.abs() {
        abs if abs >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        abs if abs == 0.0 || abs >= 10.0 && value.fract().abs() < 0.05 => format!("{value:.0}"),
        abs if abs >= 100.0 => format!("{value:.0}"),
        abs if abs >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.7, 1.0, 3.0, 7.5, 420.0].map(|most| nice(most).0), [1.0, 1.0, 5.0, 10.0, 500.0]);
        // Every tick says what it is: 12.5 is not 12.
        for most in [0.7, 1.0, 1.7, 3.0, 7.5, 42.0, 50.0, 99.0, 420.0, 1800.0] {
            let (most, steps) = nice(most);
            for step in 0..=steps {
                let value = most * f64::from(step) / f64::from(steps);
                let shown: f64 = number(value).parse().expect("a number");
                assert!((shown - value).abs() <= 1e-9 * most, "{value} is shown as {shown}");
            }
        }
        assert_eq!([0.0, 0.25, 2.5, 40.0, 95_000.0].map(number), ["0", "0.25", "2.5", "40", "95k"]);
    }

    #[test]
    fn marks_beyond_the_last_point_are_within_the_chart() {
        let lines = vec![Line { name: "p99", points: vec![(0.0, 1.0), (2.0, 2.0)] }];
        let marks = vec![(1.0, "90 %"), (4.0, "99.99 %")];
        let figure = Chart { title: "Delay", across: "share", up: "ms", lines, marks, borders: vec![1.0] }.figure();
        assert!(figure.contains("<text x=708.0") && figure.contains("text-anchor=end>99.99 %"), "{figure}");
        assert!(figure.contains("points=\"64.0,112.0 386.0,12.0\""), "{figure}");
        assert!(figure.contains("<line class=border x1=225.0 x2=225.0 y1=12"), "{figure}");
    }

    #[test]
    fn a_chart_has_a_line_for_each_name_and_none_without_points() {
        let line = |points: &[(f64, f64)]| Line { name: "p99", points: points.to_vec() };
        let chart =
            |lines| Chart { title: "Delay", across: "s", up: "ms", lines, marks: Vec::new(), borders: Vec::new() };
        let figure = chart(vec![line(&[(0.0, 0.0), (10.0, 5.0)])]).figure();
        assert!(figure.contains("points=\"64.0,212.0 708.0,12.0\""), "{figure}");
        assert_eq!(chart(vec![line(&[])]).figure(), "");
    }
}
