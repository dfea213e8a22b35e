//! A plot of what has a baseline: a bar for each result, another for what it is compared with.

use std::fmt::Write as _;

use crate::report::Outcome;

const LABELS: f64 = 230.0;
const BARS: f64 = 430.0;
const FIGURES: f64 = 110.0;
const BAR: f64 = 13.0;
const ROW: f64 = 42.0;
const TITLE: f64 = 44.0;
const MARGIN: f64 = 16.0;

/// The plot, a panel for each unit.
pub fn svg(outcomes: &[Outcome]) -> String {
    let mut units: Vec<&str> = Vec::new();
    let compared: Vec<_> = outcomes.iter().filter(|outcome| outcome.baseline.is_some()).collect();
    for outcome in &compared {
        if !units.contains(&outcome.unit) {
            units.push(outcome.unit);
        }
    }
    let (mut body, mut y) = (String::new(), MARGIN);
    for unit in units {
        let rows: Vec<_> = compared.iter().filter(|outcome| outcome.unit == unit).collect();
        y = panel(&mut body, y, unit, &rows);
    }
    let (width, height) = (LABELS + BARS + FIGURES + 2.0 * MARGIN, y + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn panel(body: &mut String, top: f64, unit: &str, rows: &[&&Outcome]) -> f64 {
    let most = rows.iter().flat_map(|row| [Some(row.value), row.baseline.as_ref().map(|b| b.1)]);
    let most = most.flatten().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    text(
        body,
        MARGIN,
        top + 18.0,
        "start",
        "#202020",
        &format!("{unit} (dark), and its baseline (light)"),
    );
    let mut y = top + TITLE - 12.0;
    for row in rows {
        let x = MARGIN + LABELS;
        text(body, x - 10.0, y + BAR - 2.0, "end", "#202020", &row.name);
        bar(body, (x, y), row.value / most, "#1f5fa8");
        text(
            body,
            x + 6.0 + BARS * row.value / most,
            y + BAR - 2.0,
            "start",
            "#202020",
            &figure(row.value),
        );
        if let Some((name, value)) = &row.baseline {
            let y = y + BAR + 1.0;
            text(body, x - 10.0, y + BAR - 2.0, "end", "#707070", name);
            bar(body, (x, y), value / most, "#b9cfe8");
            text(
                body,
                x + 6.0 + BARS * value / most,
                y + BAR - 2.0,
                "start",
                "#707070",
                &figure(*value),
            );
        }
        y += ROW;
    }
    y
}

fn figure(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn bar(body: &mut String, (x, y): (f64, f64), share: f64, colour: &str) {
    let width = BARS * share;
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        body,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
    );
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, colour: &str, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{what}</text>"
    );
}
