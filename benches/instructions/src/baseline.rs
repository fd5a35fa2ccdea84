//! The committed counts.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::count::Count;

/// How much more than the baseline is a regression.
pub(crate) const TOLERANCE: f64 = 0.02;

pub(crate) const HOW_TO_WRITE: &str = "`cargo run --release --manifest-path \
                                       benches/instructions/Cargo.toml -- --write` writes it, \
                                       and it is committed with the change.";

/// The counts of one environment. There are none if the file has no such environment.
pub(crate) struct Baseline {
    environment: String,
    counts: Option<BTreeMap<String, u64>>,
}

impl Baseline {
    /// Reads the counts of the compiler that built this program. The C library has a part in them
    /// because of its allocator.
    pub(crate) fn of_this_compiler() -> Self {
        let library = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
        let library = library.map_or_else(
            |_| "unknown-libc".to_owned(),
            |output| {
                String::from_utf8_lossy(&output.stdout)
                    .trim()
                    .replace(' ', "-")
            },
        );
        let (rustc, arch) = (env!("RUSTC_VERSION"), std::env::consts::ARCH);
        let mut baseline = Self {
            environment: format!("rustc-{rustc}-{arch}-{library}"),
            counts: None,
        };
        let text = fs::read_to_string(baseline.path()).ok();
        baseline.counts = text.map(|text| {
            let rows = text.lines().filter(|line| !line.starts_with('#'));
            rows.map(|row| {
                let (count, name) = row.trim_start().split_once(' ').expect("count and name");
                (name.to_owned(), count.parse().expect("a number"))
            })
            .collect()
        });
        baseline
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("baselines")
            .join(format!("{}.txt", self.environment))
    }

    pub(crate) fn is_known(&self) -> bool {
        self.counts.is_some()
    }

    pub(crate) fn write(&self, counts: &[Count]) {
        let mut text = format!("# Instructions of one request, {}.\n", self.environment);
        for Count {
            name, instructions, ..
        } in counts
        {
            text += &format!("{instructions:>8} {name}\n");
        }
        fs::write(self.path(), text).expect("the folder can be written");
        println!("{}", self.path().display());
    }

    pub(crate) fn row(&self, count: &Count) -> Row {
        Row {
            count: count.clone(),
            baseline: self
                .counts
                .as_ref()
                .and_then(|counts| counts.get(&count.name).copied()),
        }
    }
}

/// A count beside its baseline.
pub(crate) struct Row {
    count: Count,
    baseline: Option<u64>,
}

impl Row {
    /// Returns the part of the baseline by which the count is above it.
    fn above(&self) -> Option<f64> {
        let baseline = self.baseline? as f64;
        Some(self.count.instructions as f64 / baseline - 1.0)
    }

    pub(crate) fn is_more(&self) -> bool {
        self.count.is_compared && self.above().is_some_and(|above| above > TOLERANCE)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count {
            name,
            is_compared,
            instructions,
        } = &self.count;
        write!(f, "{instructions:>8} {name:<62}")?;
        match (self.baseline, self.above()) {
            (Some(baseline), Some(above)) => {
                write!(f, " {baseline:>8} {:+6.1} %", above * 100.0)?;
                f.write_str(match above {
                    _ if self.is_more() => "  MORE",
                    _ if *is_compared && above < -TOLERANCE => {
                        "  less: the baseline can be lowered"
                    }
                    _ => "",
                })
            }
            _ => f.write_str("  no baseline"),
        }
    }
}
