//! Figures from several runs.

use std::fmt;

/// The figures of several runs, in order.
#[derive(Clone, Debug)]
pub(crate) struct Runs(Vec<f64>);

impl Runs {
    pub(crate) fn new(mut runs: Vec<f64>) -> Self {
        assert!(!runs.is_empty(), "a figure needs a run");
        runs.sort_by(f64::total_cmp);
        Self(runs)
    }

    /// Returns the ratios of figures that were taken round by round. A disturbance affects both
    /// figures of a round, so it affects their ratio less than the ratio of the medians.
    pub(crate) fn ratios(figures: &[f64], to: &[f64]) -> Self {
        assert_eq!(figures.len(), to.len(), "they are of the same rounds");
        let pairs = figures.iter().zip(to);
        Self::new(pairs.map(|(figure, to)| figure / to).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        let (middle, odd) = (self.0.len() / 2, self.0.len() % 2 == 1);
        match odd {
            true => self.0[middle],
            false => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }

    pub(crate) fn least(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn most(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = f.precision().unwrap_or(1);
        let (median, least, most) = (self.median(), self.least(), self.most());
        write!(f, "{median:.places$} ({least:.places$}–{most:.places$})")
    }
}

/// Runs each of `subjects` in turn, `rounds` times. A disturbance of one run then affects its
/// neighbours, too. The order reverses with each round, and another one begins after two rounds.
pub(crate) fn in_turn<const N: usize>(
    rounds: usize,
    mut subjects: [&mut dyn FnMut() -> f64; N],
) -> [Runs; N] {
    let figures = rounds_of(rounds, &mut subjects);
    let mut figures = figures.into_iter().map(Runs::new);
    std::array::from_fn(|_| figures.next().expect("there is one of each"))
}

/// Runs like [`in_turn`], and returns the figures in the order of the rounds.
pub(crate) fn rounds_of<T>(rounds: usize, subjects: &mut [&mut dyn FnMut() -> T]) -> Vec<Vec<T>> {
    let mut figures: Vec<_> = subjects
        .iter()
        .map(|_| Vec::with_capacity(rounds))
        .collect();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let turn = match round % 2 {
                0 => turn,
                _ => subjects.len() - 1 - turn,
            };
            let subject = (round / 2 + turn) % subjects.len();
            figures[subject].push(subjects[subject]());
        }
    }
    figures
}
