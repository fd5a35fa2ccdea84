//! Byte counts as text for people.

use std::fmt;

const UNITS: [&str; 7] = [" bytes", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];

/// A number of bytes as people read it: `1000 bytes`, `19.1 MiB`.
///
/// The formatting is written by hand, because `write!` costs more than twice the instructions. The
/// text is a large part of the cost of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Bytes(u64),
    /// Rounded to a tenth of a unit.
    Units {
        /// The unit: 1024 bytes to this power.
        power: u32,
        /// The number of units, times ten.
        tenths: u64,
    },
}

impl Size {
    /// Returns the size rounded to the nearest tenth of its unit.
    pub(super) fn nearest(bytes: u64) -> Self {
        Self::rounded(bytes, true)
    }

    /// Returns the size rounded down, so that a limit shown as 4 MiB admits 4 MiB.
    pub(super) fn down(bytes: u64) -> Self {
        Self::rounded(bytes, false)
    }

    fn rounded(bytes: u64, nearest: bool) -> Self {
        // The largest power of 1024 that is not larger than `bytes`.
        let power = bytes.checked_ilog2().unwrap_or(0) / 10;
        if power == 0 {
            return Self::Bytes(bytes);
        }
        let half = u128::from(nearest) << (10 * power - 1);
        // At most 1024 units, so the cast does not truncate.
        match ((u128::from(bytes) * 10 + half) >> (10 * power)) as u64 {
            // Rounded up to the next unit.
            10240 => Self::Units {
                power: power + 1,
                tenths: 10,
            },
            tenths => Self::Units { power, tenths },
        }
    }

    /// Returns a length and the smaller limit. Returns `None` if both read the same when rounded.
    pub(super) fn over(length: u64, limit: u64) -> Option<(Self, Self)> {
        let (length, limit) = (Self::nearest(length), Self::down(limit));
        (length != limit).then_some((length, limit))
    }

    pub(super) fn write(self, out: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => {
                write_decimal(out, bytes)?;
                out.write_str(unit_of(bytes))
            }
            Self::Units { power, tenths } => {
                write_decimal(out, tenths / 10)?;
                if tenths % 10 != 0 {
                    out.write_str(".")?;
                    write_decimal(out, tenths % 10)?;
                }
                out.write_str(UNITS[power as usize])
            }
        }
    }

    /// Writes the size, and the exact number behind it: `19.1 MiB (20000000 bytes)`.
    pub(super) fn write_with(self, out: &mut impl fmt::Write, bytes: u64) -> fmt::Result {
        self.write(out)?;
        if let Self::Bytes(_) = self {
            return Ok(());
        }
        out.write_str(" (")?;
        Self::Bytes(bytes).write(out)?;
        out.write_str(")")
    }
}

/// Writes a limit and its exact number: `4 MiB (4194304 bytes)`.
pub(super) fn write_limit(out: &mut impl fmt::Write, bytes: u64) -> fmt::Result {
    Size::down(bytes).write_with(out, bytes)
}

/// Writes the exact number in groups of three digits: `4,194,310 bytes`.
pub(super) fn write_grouped(out: &mut impl fmt::Write, bytes: u64) -> fmt::Result {
    // The first group holds the digits that are left over: `u64::MAX` has seven groups.
    let mut group = 1000_u64.pow(bytes.checked_ilog(1000).unwrap_or(0));
    write_decimal(out, bytes / group)?;
    while group > 1 {
        group /= 1000;
        let digits = bytes / group % 1000;
        out.write_str(match digits {
            0..10 => ",00",
            10..100 => ",0",
            _ => ",",
        })?;
        write_decimal(out, digits)?;
    }
    out.write_str(unit_of(bytes))
}

fn unit_of(bytes: u64) -> &'static str {
    match bytes {
        1 => " byte",
        _ => UNITS[0],
    }
}

fn write_decimal(out: &mut impl fmt::Write, mut number: u64) -> fmt::Result {
    // `u64::MAX` has 20 digits.
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.write_str(std::str::from_utf8(&digits[first..]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Size, write_grouped, write_limit};

    fn text(size: Size) -> String {
        let mut text = String::new();
        size.write(&mut text).unwrap();
        text
    }

    fn limit(bytes: u64) -> String {
        let mut text = String::new();
        write_limit(&mut text, bytes).unwrap();
        text
    }

    fn grouped(bytes: u64) -> String {
        let mut text = String::new();
        write_grouped(&mut text, bytes).unwrap();
        text
    }

    #[test]
    fn limit_has_its_exact_bytes() {
        assert_eq!(limit(4 << 20), "4 MiB (4194304 bytes)");
        assert_eq!(limit(1024), "1 KiB (1024 bytes)");
        assert_eq!(limit(100_000), "97.6 KiB (100000 bytes)");
        assert_eq!(limit(0), "0 bytes");
        assert_eq!(limit(1), "1 byte");
        assert_eq!(limit(1023), "1023 bytes");
        assert_eq!(limit((1 << 20) - 1), "1023.9 KiB (1048575 bytes)");
        assert_eq!(limit(u64::MAX), "15.9 EiB (18446744073709551615 bytes)");
    }

    #[test]
    fn length_is_rounded_to_the_nearest() {
        assert_eq!(text(Size::nearest(20_000_000)), "19.1 MiB");
        assert_eq!(text(Size::nearest(20 << 20)), "20 MiB");
        assert_eq!(text(Size::nearest(1)), "1 byte");
        assert_eq!(text(Size::nearest((1 << 20) - 1)), "1 MiB");
        assert_eq!(text(Size::nearest(u64::MAX)), "16 EiB");
    }

    #[test]
    fn length_and_limit_that_read_the_same_are_not_rounded() {
        let over = |length, limit| {
            let (length, limit) = Size::over(length, limit)?;
            Some((text(length), text(limit)))
        };
        let pair = |length: &str, limit: &str| Some((length.to_owned(), limit.to_owned()));
        assert_eq!(over(20_000_000, 4 << 20), pair("19.1 MiB", "4 MiB"));
        assert_eq!(over(4_300_000, 4 << 20), pair("4.1 MiB", "4 MiB"));
        assert_eq!(over(4_204_487, 4 << 20), None);
        assert_eq!(over((4 << 20) + 6, 4 << 20), None);
        assert_eq!(over(2000, 1000), pair("2 KiB", "1000 bytes"));
        assert_eq!(over(1001, 1000), pair("1001 bytes", "1000 bytes"));
    }

    #[test]
    fn exact_number_is_grouped() {
        assert_eq!(grouped(0), "0 bytes");
        assert_eq!(grouped(1), "1 byte");
        assert_eq!(grouped(999), "999 bytes");
        assert_eq!(grouped(1000), "1,000 bytes");
        assert_eq!(grouped(1_002_030), "1,002,030 bytes");
        assert_eq!(grouped((4 << 20) + 6), "4,194,310 bytes");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615 bytes");
    }

    proptest! {
        #[test]
        fn different_sizes_never_read_equal(limit: u64, more in 1_u64..5000) {
            let length = limit.saturating_add(more);
            prop_assume!(length > limit);
            match Size::over(length, limit) {
                Some((over, under)) => prop_assert_ne!(text(over), text(under)),
                None => prop_assert_ne!(grouped(length), grouped(limit)),
            }
        }

        #[test]
        fn grouping_keeps_the_digits(bytes: u64) {
            let digits = grouped(bytes).replace([',', ' '], "");
            prop_assert_eq!(digits, text(Size::Bytes(bytes)).replace(' ', ""));
        }
    }
}
