//! The course of a training, as CSV for programs and as SVG for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What was measured after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Steps that were done by then.
    pub step: u64,
    /// Tokens that were read so far.
    pub tokens: u64,
    /// Time that they took.
    pub seconds: f64,
    /// Learning rate of the step.
    pub rate: f32,
    /// Mean loss since the point before, in nats for each predicted token.
    pub loss: f64,
    /// Loss on other conversations of the same kind.
    pub validation: f64,
    /// Loss on questions in words that are not trained, each with one of its right answers.
    pub held_out: f64,
}

const HEADER: &str = "step,tokens,seconds,learning_rate,loss,validation_loss,held_out_loss";

/// Name, color and value of a line in the picture.
type Series = (&'static str, &'static str, fn(&Point) -> f64);

/// The points so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve(pub Vec<Point>);

impl Curve {
    /// Reads points up to `step` from a file that [`Curve::save`] wrote; none if there is no such file.
    pub fn load(path: &Path, step: u64) -> Result<Self> {
        let Ok(text) = fs::read_to_string(path) else { return Ok(Self::default()) };
        let points = text.lines().skip(1).map(point).collect::<Option<Vec<_>>>();
        let mut points = points.with_context(|| format!("{} is not a training curve", path.display()))?;
        points.retain(|point| point.step <= step);
        Ok(Self(points))
    }

    /// Writes both forms beside each other: `path` and the same with the extension `svg`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = |path: &Path, text: String| {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write(path, self.csv())?;
        write(&path.with_extension("svg"), self.svg())
    }

    fn csv(&self) -> String {
        let mut csv = format!("{HEADER}\n");
        for Point { step, tokens, seconds, rate, loss, validation, held_out } in &self.0 {
            let _ = writeln!(
                csv,
                "{step},{tokens},{seconds:.1},{rate:.3e},{loss:.5},{validation:.5},{held_out:.5}"
            );
        }
        csv
    }

    /// Losses over tokens; the axis of the losses is logarithmic.
    fn svg(&self) -> String {
        const WIDTH: f64 = 720.0;
        const HEIGHT: f64 = 400.0;
        const MARGIN: f64 = 56.0;
        let series: [Series; 3] = [
            ("training", "#8a8a8a", |point| point.loss),
            ("validation", "#0b62c4", |point| point.validation),
            ("held out", "#c2410c", |point| point.held_out),
        ];
        let all = || self.0.iter().flat_map(|point| series.iter().map(|(_, _, value)| value(point)));
        let least = all().fold(f64::INFINITY, f64::min).clamp(1e-4, 1.0).log10().floor();
        let most = all().fold(0.0, f64::max).clamp(1.0, 1e3).log10().ceil().max(least + 1.0);
        let end = self.0.last().map_or(1, |point| point.tokens).max(1) as f64;
        let x = |tokens: f64| MARGIN + (WIDTH - 2.0 * MARGIN) * tokens / end;
        let y = |loss: f64| {
            MARGIN + (HEIGHT - 2.0 * MARGIN) * (most - loss.max(1e-9).log10().max(least)) / (most - least)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let mut power = least;
        while power <= most {
            let (loss, height) = (10_f64.powf(power), y(10_f64.powf(power)));
            let _ = writeln!(
                svg,
                "<path d=\"M{MARGIN} {height:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{loss}</text>",
                WIDTH - MARGIN,
                MARGIN - 8.0,
                height + 4.0
            );
            power += 1.0;
        }
        for quarter in 0..=4 {
            let tokens = end * f64::from(quarter) / 4.0;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.1} M</text>",
                x(tokens),
                HEIGHT - MARGIN + 20.0,
                tokens / 1e6
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">tokens</text><text x=\"{MARGIN}\" y=\"24\">loss in nats per token</text>",
            WIDTH / 2.0,
            HEIGHT - 14.0
        );
        for (index, (name, color, value)) in series.iter().enumerate() {
            let points: Vec<String> = self
                .0
                .iter()
                .map(|point| format!("{:.1},{:.1}", x(point.tokens as f64), y(value(point))))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>\n\
                 <text x=\"{:.1}\" y=\"24\" fill=\"{color}\" text-anchor=\"end\">{name}</text>",
                points.join(" "),
                WIDTH - MARGIN - 90.0 * (series.len() - 1 - index) as f64
            );
        }
        svg + "</svg>\n"
    }
}

fn point(line: &str) -> Option<Point> {
    let mut cells = line.split(',');
    Some(Point {
        step: cells.next()?.parse().ok()?,
        tokens: cells.next()?.parse().ok()?,
        seconds: cells.next()?.parse().ok()?,
        rate: cells.next()?.parse().ok()?,
        loss: cells.next()?.parse().ok()?,
        validation: cells.next()?.parse().ok()?,
        held_out: cells.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_curve_comes_back_up_to_a_step() {
        let point = |step: u64| Point {
            step,
            tokens: step * 4_096,
            seconds: 0.5 * step as f64,
            rate: 0.001,
            loss: 7.5 / step as f64,
            validation: 7.25,
            held_out: 0.03125,
        };
        let folder = std::env::temp_dir().join(format!("bitnet-demo-curve-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("curve.csv");
        Curve(vec![point(1), point(2), point(4)]).save(&path).unwrap();
        assert_eq!(Curve::load(&path, 2).unwrap(), Curve(vec![point(1), point(2)]));
        let svg = fs::read_to_string(path.with_extension("svg")).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        fs::remove_dir_all(folder).unwrap();
    }
}
