//! Box plots as SVG.

use std::fmt::Write as _;

use super::statistics::quantile;

/// Boxes under one heading.
pub(super) struct Group {
    pub(super) title: String,
    /// Name and values of each box.
    pub(super) members: Vec<(String, Vec<f64>)>,
}

const HEIGHT: f64 = 320.0;
const TOP: f64 = 56.0;
const LEFT: f64 = 56.0;
/// Width of a box with its surroundings, and the space between groups.
const SLOT: f64 = 84.0;
const GAP: f64 = 28.0;
const COLOURS: [&str; 3] = ["#c44e52", "#dd8452", "#4c72b0"];
/// Lines of the scale.
const TICKS: usize = 5;

/// Every value as a dot, its group member's quartiles as a box with the median, and a line from the
/// least to the greatest; the scale begins at zero.
pub(super) fn box_plots(title: &str, groups: &[Group]) -> String {
    let values = || groups.iter().flat_map(|group| &group.members).flat_map(|(_, values)| values);
    let most = values().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let scale = round_up(most);
    let y = |value: f64| TOP + HEIGHT * (1.0 - value / scale);
    let boxes: usize = groups.iter().map(|group| group.members.len()).sum();
    let width = LEFT + boxes as f64 * SLOT + groups.len() as f64 * GAP;
    let height = TOP + HEIGHT + 48.0;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT:.0}\" y=\"20\" font-size=\"14\">{title}</text>\n"
    );
    let mut line = |text: String| {
        let _ = writeln!(svg, "{text}");
    };
    for tick in 0..=TICKS {
        let value = scale * tick as f64 / TICKS as f64;
        let (at, digits) = (y(value), if scale < 0.1 { 3 } else { 2 });
        line(format!(
            "<line x1=\"{LEFT:.0}\" x2=\"{width:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"
        ));
        line(format!(
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value:.digits$}</text>",
            LEFT - 6.0,
            at + 4.0
        ));
    }
    let mut left = LEFT + GAP / 2.0;
    for group in groups {
        let centre = left + group.members.len() as f64 * SLOT / 2.0;
        line(format!("<text x=\"{centre:.1}\" y=\"44\" text-anchor=\"middle\">{}</text>", group.title));
        for ((name, values), colour) in group.members.iter().zip(COLOURS.iter().cycle()) {
            let middle = left + SLOT / 2.0;
            let [least, low, median, high, most] =
                [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| y(quantile(values, share)));
            line(format!(
                "<line x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"{most:.1}\" y2=\"{least:.1}\" stroke=\"{colour}\"/>"
            ));
            line(format!(
                "<rect x=\"{:.1}\" y=\"{high:.1}\" width=\"28\" height=\"{:.1}\" fill=\"{colour}\" \
                 fill-opacity=\"0.35\" stroke=\"{colour}\"/>",
                middle - 14.0,
                low - high,
            ));
            line(format!(
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{median:.1}\" y2=\"{median:.1}\" stroke=\"{colour}\" \
                 stroke-width=\"2\"/>",
                middle - 14.0,
                middle + 14.0,
            ));
            for value in values {
                line(format!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.6\" fill=\"{colour}\"/>",
                    middle + 24.0,
                    y(*value)
                ));
            }
            let under = TOP + HEIGHT + 20.0;
            line(format!("<text x=\"{middle:.1}\" y=\"{under:.1}\" text-anchor=\"middle\">{name}</text>"));
            left += SLOT;
        }
        left += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

/// The least of 1, 2 and 5 times a power of ten that is not below `value`.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!([0.0, 1.0, 1.1, 3.0, 7.0].map(round_up), [1.0, 1.0, 2.0, 5.0, 10.0]);
        assert!((round_up(0.032) - 0.05).abs() < 1e-12);
    }

    #[test]
    fn values_lie_on_the_scale() {
        let members = vec![("a".to_owned(), vec![0.0, 0.5, 1.0])];
        let svg = box_plots("losses", &[Group { title: "one".into(), members }]);
        // 0 at the bottom, 1 at the top, the box from 0.25 to 0.75.
        for expected in
            ["cy=\"376.0\"", "cy=\"216.0\"", "cy=\"56.0\"", "y=\"136.0\" width=\"28\" height=\"160.0\""]
        {
            assert!(svg.contains(expected), "{expected} in {svg}");
        }
    }
}
