//! Means with confidence intervals.

use std::fmt;

use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// Returns the mean of independent figures.
    pub(crate) fn of(figures: &[f64]) -> Self {
        let (mean, half) = mean_and_half(figures);
        Self {
            mean,
            low: mean - half,
            high: mean + half,
        }
    }

    /// Returns the geometric mean of independent ratios.
    pub(crate) fn of_ratios(ratios: &[f64]) -> Self {
        let logarithms: Vec<_> = ratios.iter().map(|ratio| ratio.ln()).collect();
        let (mean, half) = mean_and_half(&logarithms);
        Self {
            mean: mean.exp(),
            low: (mean - half).exp(),
            high: (mean + half).exp(),
        }
    }

    /// Formats a ratio for the page. If the interval contains 1, the ratio itself is not printed.
    pub(crate) fn as_ratio(&self) -> String {
        if !(self.low..=self.high).contains(&1.0) {
            return self.to_string();
        }
        let within = (self.high - 1.0).max(1.0 - self.low) * 100.0;
        format!("no difference found (within ± {within:.1} %)")
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = f.precision().unwrap_or(3);
        let Self { mean, low, high } = self;
        write!(f, "{mean:.places$} ({low:.places$} to {high:.places$})")
    }
}

/// Returns the mean, and half of the width of its interval.
fn mean_and_half(figures: &[f64]) -> (f64, f64) {
    let count = figures.len() as f64;
    assert!(figures.len() > 1, "an interval needs two figures");
    let mean = figures.iter().sum::<f64>() / count;
    let squares = figures.iter().map(|figure| (figure - mean).powi(2));
    let deviation = (squares.sum::<f64>() / (count - 1.0)).sqrt();
    let quantile = StudentsT::new(0.0, 1.0, count - 1.0)
        .expect("degrees of freedom above zero")
        .inverse_cdf(0.975);
    (mean, quantile * deviation / count.sqrt())
}
