//! Plots that are readable on light and on dark pages: no background, and medium colours.

use plotters::{coord::Shift, prelude::*};

use crate::report::Plot;

const SIZE: (u32, u32) = (760, 420);
const GREY: RGBColor = RGBColor(128, 128, 128);
const COLOURS: [RGBColor; 4] = [
    RGBColor(46, 134, 222),
    RGBColor(238, 108, 30),
    RGBColor(34, 166, 96),
    RGBColor(190, 75, 219),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&GREY)
}

fn drawn(
    file: &'static str,
    shows: &'static str,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Plot {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&area).expect("it is drawn");
        area.present().expect("it is written");
    }
    Plot { file, shows, svg }
}

/// Draws a bar for each name and each group of figures. Figures that are not numbers are left out.
pub(crate) fn bars<const N: usize>(
    file: &'static str,
    shows: &'static str,
    names: &[&str; N],
    groups: &[(&str, [f64; N])],
) -> Plot {
    let figures = |at: usize| {
        groups
            .iter()
            .enumerate()
            .map(move |(group, of)| (group, of, at))
    };
    let bars: Vec<_> = (0..N)
        .flat_map(figures)
        .filter(|(_, of, at)| of.1[*at].is_finite())
        .map(|(group, of, at)| (group, format!("{}, {}", names[at], of.0), of.1[at]))
        .collect();
    let most = bars.iter().map(|(.., value)| *value).fold(0.0, f64::max);
    drawn(file, shows, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(shows, text(18))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(190)
            .build_cartesian_2d(0.0..most * 1.1, (0..bars.len() - 1).into_segmented())?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .label_style(text(13))
            .y_labels(bars.len())
            .y_label_formatter(&|at| match at {
                SegmentValue::CenterOf(at) if *at < bars.len() => {
                    bars[bars.len() - 1 - at].1.clone()
                }
                _ => String::new(),
            })
            .draw()?;
        let upwards = bars.iter().rev().enumerate();
        chart.draw_series(upwards.map(|(at, (group, _, value))| {
            let corners = [
                (0.0, SegmentValue::Exact(at)),
                (*value, SegmentValue::Exact(at + 1)),
            ];
            let mut bar = Rectangle::new(corners, COLOURS[group % COLOURS.len()].filled());
            bar.set_margin(4, 4, 0, 0);
            bar
        }))?;
        Ok(())
    })
}

/// Draws lines over a number of connections, with both axes logarithmic.
pub(crate) fn growth(
    file: &'static str,
    shows: &'static str,
    unit: &str,
    lines: &[(&str, Vec<(f64, f64)>)],
) -> Plot {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let least = points().map(of).fold(f64::INFINITY, f64::min);
        let most = points().map(of).fold(0.0, f64::max);
        (least * 0.7..most * 1.6).log_scale()
    };
    drawn(file, shows, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(shows, text(18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(bounds(|point| point.0), bounds(|point| point.1))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.3))
            .axis_style(GREY)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .x_label_formatter(&f64::to_string)
            .y_label_formatter(&f64::to_string)
            .x_desc("connections that linger")
            .y_desc(unit)
            .draw()?;
        for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(3));
            chart
                .draw_series(line.point_size(4))?
                .label(*name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .border_style(GREY)
            .label_font(text(14))
            .draw()?;
        Ok(())
    })
}
