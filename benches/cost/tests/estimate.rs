//! Tests the confidence intervals that the report prints.

#[path = "../src/estimate.rs"]
mod estimate;

use estimate::Estimate;

/// By hand: the deviation is √2.5, and the quantile of 4 degrees of freedom is 2.7764.
#[test]
fn interval_is_that_of_students_t() {
    let figures = [1.0, 2.0, 3.0, 4.0, 5.0];
    let estimate = Estimate::of(&figures);
    assert_eq!(estimate.to_string(), "3.000 (1.037 to 4.963)");
    let Estimate { mean, low, high } = Estimate::of_ratios(&figures.map(f64::exp));
    let logarithms = [mean, low, high].map(f64::ln);
    let given = [estimate.mean, estimate.low, estimate.high];
    for (logarithm, given) in logarithms.into_iter().zip(given) {
        assert!((logarithm - given).abs() < 1e-9, "{logarithm} {given}");
    }
}

#[test]
fn ratio_is_not_printed_if_its_interval_contains_1() {
    let unclear = Estimate::of_ratios(&[0.9, 1.0, 1.1]).as_ratio();
    assert!(unclear.starts_with("no difference found"), "{unclear}");
    let clear = Estimate::of_ratios(&[1.09, 1.1, 1.11]);
    assert_eq!(clear.as_ratio(), clear.to_string());
}
