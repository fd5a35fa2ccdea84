//! Byte counts as text for people.

use std::fmt;

const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes in one unit: `19.1 MiB`.
///
/// The formatting is written by hand, because `write!` costs more than twice the instructions. The
/// text is a large part of the cost of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// The unit: 1024 bytes to this power.
    power: u32,
    /// The number of units, times 10 to the power of `digits`.
    scaled: u64,
    digits: u32,
}

impl Size {
    /// Returns the exact number.
    pub(super) fn bytes(bytes: u64) -> Self {
        Self {
            power: 0,
            scaled: bytes,
            digits: 0,
        }
    }

    /// Returns the size rounded to the nearest tenth of its unit.
    pub(super) fn nearest(bytes: u64) -> Self {
        Self::rounded(bytes, 1, true)
    }

    /// Returns the size rounded down, so that a limit shown as 4 MiB admits 4 MiB.
    fn down(bytes: u64) -> Self {
        Self::rounded(bytes, 1, false)
    }

    fn rounded(bytes: u64, digits: u32, nearest: bool) -> Self {
        // The largest power of 1024 that is not larger than `bytes`.
        let power = bytes.checked_ilog2().unwrap_or(0) / 10;
        if power == 0 {
            return Self::bytes(bytes);
        }
        let half = u128::from(nearest) << (10 * power - 1);
        let scaled = (u128::from(bytes) * 10_u128.pow(digits) + half) >> (10 * power);
        Self {
            power,
            // At most 1024 units, so the cast does not truncate.
            scaled: scaled as u64,
            digits,
        }
    }

    /// Returns a length and the smaller limit, with enough digits to tell them apart. Returns
    /// `None` if only the exact numbers differ.
    pub(super) fn over(length: u64, limit: u64) -> Option<(Self, Self)> {
        (1..=3)
            .map(|digits| {
                let limit = Self::rounded(limit, digits, false);
                (Self::rounded(length, digits, true), limit)
            })
            .find(|(length, limit)| length != limit)
    }

    pub(super) fn write(self, out: &mut impl fmt::Write) -> fmt::Result {
        let one = 10_u64.pow(self.digits);
        write_decimal(out, self.scaled / one)?;
        let (mut fraction, mut digits) = (self.scaled % one, self.digits);
        while digits > 0 && fraction % 10 == 0 {
            fraction /= 10;
            digits -= 1;
        }
        if digits > 0 {
            out.write_str(".")?;
            (1..digits)
                .filter(|place| fraction < 10_u64.pow(*place))
                .try_for_each(|_| out.write_str("0"))?;
            write_decimal(out, fraction)?;
        }
        out.write_str(" ")?;
        out.write_str(match self {
            Self {
                power: 0,
                scaled: 1,
                ..
            } => "byte",
            Self { power, .. } => UNITS[power as usize],
        })
    }
}

/// Writes a short size and the exact number: `4 MiB (4194304 bytes)`.
pub(crate) fn write_limit(out: &mut impl fmt::Write, bytes: u64) -> fmt::Result {
    let size = Size::down(bytes);
    size.write(out)?;
    if size.power == 0 {
        return Ok(());
    }
    out.write_str(" (")?;
    Size::bytes(bytes).write(out)?;
    out.write_str(")")
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

    use super::{Size, write_limit};

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
        assert_eq!(text(Size::nearest(u64::MAX)), "16 EiB");
    }

    #[test]
    fn length_over_a_limit_has_the_digits_that_tell_them_apart() {
        let over = |length, limit| {
            let (length, limit) = Size::over(length, limit)?;
            Some((text(length), text(limit)))
        };
        let pair = |length: &str, limit: &str| Some((length.to_owned(), limit.to_owned()));
        assert_eq!(over(20_000_000, 4 << 20), pair("19.1 MiB", "4 MiB"));
        assert_eq!(over(4_204_487, 4 << 20), pair("4.01 MiB", "4 MiB"));
        assert_eq!(over((4 << 20) + 4200, 4 << 20), pair("4.004 MiB", "4 MiB"));
        assert_eq!(over((4 << 20) + 1, 4 << 20), None);
        assert_eq!(over(2000, 1000), pair("2 KiB", "1000 bytes"));
    }

    proptest! {
        #[test]
        fn different_sizes_never_read_equal(limit: u64, more in 1_u64..5000) {
            let length = limit.saturating_add(more);
            prop_assume!(length > limit);
            if let Some((over, under)) = Size::over(length, limit) {
                prop_assert_ne!(text(over), text(under));
            }
        }
    }
}
