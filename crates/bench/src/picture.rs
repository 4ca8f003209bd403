//! Drawings of what was measured, as SVG.

use std::fmt::Write;
use std::path::Path;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 48.0;

/// A drawing: curves, mostly over time, perhaps with a part of the time set off.
pub struct Picture {
    title: String,
    across: &'static str,
    up: &'static str,
    curves: Vec<Curve>,
    /// A part of the time, and what happened in it.
    span: Option<(f64, f64, &'static str)>,
    /// Round values above which something is drawn too.
    lines: Vec<(f64, &'static str)>,
}

/// A line through points, in a colour of its own.
struct Curve {
    /// Nothing if it is the only one.
    name: &'static str,
    points: Vec<(f64, f64)>,
}

const COLOURS: [&str; 4] = ["#1f6f8b", "#c05a1c", "#4c8c3f", "#7a4fa0"];

fn alone(points: impl Iterator<Item = (f64, f64)>) -> Vec<Curve> {
    vec![Curve {
        name: "",
        points: points.collect(),
    }]
}

/// Outputs over time around a checkpoint that took so many milliseconds.
pub fn throughput(shape: &str, complete_ms: f64, series: &[(f64, f64)]) -> Picture {
    Picture {
        title: format!("Outputs around a checkpoint of {shape} (each point 10 ms)"),
        across: "milliseconds after the freeze",
        up: "million outputs a second",
        curves: alone(series.iter().map(|(ms, rate)| (*ms, rate / 1e6))),
        span: Some((0.0, complete_ms, "checkpoint under way")),
        lines: vec![],
    }
}

/// The slowest event over time, with a checkpoint every second.
pub fn latency(rate: u64, series: &[(f64, f64)]) -> Picture {
    let last = series.len().saturating_sub(500);
    Picture {
        title: format!("Slowest of each 10 ms at {rate} events a second, checkpoints every second"),
        across: "milliseconds",
        up: "milliseconds from event to output",
        curves: alone(series[last..].iter().map(|(ms, us)| (*ms, us / 1e3))),
        span: None,
        lines: vec![(1.0, "1 ms")],
    }
}

/// How long checkpoints took in some modes, the shortest of each first.
pub fn durations(modes: &[(&'static str, Vec<f64>)]) -> Picture {
    let curves = modes.iter().map(|(name, times)| {
        let share = |at: usize| 100.0 * at as f64 / (times.len().max(2) - 1) as f64;
        Curve {
            name,
            points: times
                .iter()
                .enumerate()
                .map(|(at, ms)| (share(at), *ms))
                .collect(),
        }
    });
    Picture {
        title: "Checkpoints behind a sink at a hundredth of its speed".to_owned(),
        across: "per cent of the checkpoints",
        up: "took at most so many milliseconds",
        curves: curves.collect(),
        span: None,
        lines: vec![],
    }
}

impl Picture {
    /// Writes the drawing; its folder is made if it is not there.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| std::fs::write(path, self.svg()));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }

    fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let xs = || points().map(|point| point.0);
        let (first, last) = (
            xs().fold(f64::INFINITY, f64::min),
            xs().fold(f64::NEG_INFINITY, f64::max),
        );
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        let highest = self.lines.iter().map(|line| line.0).fold(highest, f64::max);
        if first >= last || highest <= 0.0 {
            return "<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n".to_owned();
        }
        let step_up = round_step(highest / 5.0);
        let top = (highest / step_up).ceil() * step_up;
        let x = |value: f64| LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut svg = String::new();
        let mut line = |text: String| {
            let _ = writeln!(svg, "{text}");
        };
        line(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"#333\">"
        ));
        line(format!(
            "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>"
        ));
        line(format!(
            "<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>",
            self.title
        ));
        if let Some((from, to, what)) = self.span {
            let (from, to) = (x(from.max(first)), x(to.min(last)));
            line(format!(
                "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f3e3c3\"/>",
                to - from,
                HEIGHT - TOP - BOTTOM
            ));
            line(format!(
                "<text x=\"{from:.1}\" y=\"{:.1}\" fill=\"#96691a\">{what}</text>",
                TOP - 6.0
            ));
        }
        for at in steps(0.0, top, step_up) {
            line(format!(
                "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{at}</text>",
                y(at),
                WIDTH - RIGHT,
                LEFT - 8.0,
                y(at) + 4.0
            ));
        }
        for at in steps(first, last, round_step((last - first) / 10.0)) {
            line(format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{at}</text>",
                x(at),
                HEIGHT - BOTTOM + 18.0
            ));
        }
        line(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 10.0,
            self.across
        ));
        line(format!(
            "<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (TOP + HEIGHT - BOTTOM) / 2.0,
            self.up
        ));
        for (value, what) in &self.lines {
            line(format!(
                "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#b33\" stroke-dasharray=\"5 4\"/><text x=\"{1}\" y=\"{2:.1}\" \
                 fill=\"#b33\" text-anchor=\"end\">{what}</text>",
                y(*value),
                WIDTH - RIGHT,
                y(*value) - 4.0
            ));
        }
        for (at, Curve { name, points }) in self.curves.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let path = points.iter().enumerate().map(|(i, (across, up))| {
                let to = if i == 0 { 'M' } else { 'L' };
                format!("{to}{:.1} {:.1}", x(*across), y(*up))
            });
            line(format!(
                "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                path.collect::<String>()
            ));
            line(format!(
                "<text x=\"{:.1}\" y=\"22\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>",
                WIDTH - RIGHT - 80.0 * (self.curves.len() - 1 - at) as f64
            ));
        }
        line("</svg>".to_owned());
        svg
    }
}

/// 1, 2 or 5 times a power of ten, at least `wanted`.
fn round_step(wanted: f64) -> f64 {
    let power = 10f64.powf(wanted.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= wanted);
    factor.unwrap_or(10.0) * power
}

/// The multiples of a step between two values.
fn steps(from: f64, to: f64, step: f64) -> impl Iterator<Item = f64> {
    let first = (from / step).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    // Twelve digits, so that 3 * 0.1 is shown as 0.3.
    (first..=last).map(move |i| (i as f64 * step * 1e12).round() / 1e12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(round_step(0.7), 1.0);
        assert_eq!(round_step(13.0), 20.0);
        assert_eq!(round_step(60.0), 100.0);
        assert_eq!(
            steps(-35.0, 20.0, 10.0).collect::<Vec<_>>(),
            [-30.0, -20.0, -10.0, 0.0, 10.0, 20.0]
        );
        assert_eq!(steps(0.0, 0.3, 0.1).collect::<Vec<_>>(), [0.0, 0.1, 0.2, 0.3]);
    }

    #[test]
    fn a_drawing_has_its_points() {
        let series: Vec<(f64, f64)> = (0..10)
            .map(|i| (f64::from(i) * 10.0, 1e6 * f64::from(i)))
            .collect();
        let svg = throughput("3x16B", 40.0, &series).svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches('L').count(), 9);
        let modes = [("slow", vec![1.0, 5.0, 9.0]), ("fast", vec![1.0, 2.0])];
        let svg = durations(&modes).svg();
        assert_eq!(
            (svg.matches('L').count(), svg.matches("slow</text>").count()),
            (3, 1)
        );
    }
}
