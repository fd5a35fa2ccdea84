//! How byte counts are written for people.

use std::fmt;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Writes `4194304 bytes (4 MiB)`: the exact number, and one to remember.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl Size {
    /// Not by `write!`, whose formatting costs more than twice the instructions: of what a
    /// refusal costs here, words are a good part.
    pub(super) fn write(self, out: &mut impl fmt::Write) -> fmt::Result {
        let Self(bytes) = self;
        let noun = if bytes == 1 { " byte" } else { " bytes" };
        write_decimal(out, bytes)?;
        out.write_str(noun)?;
        // The largest power of 1024 that is not larger than the number.
        let power = bytes.checked_ilog2().unwrap_or(0) / 10;
        let Some(unit) = (power as usize).checked_sub(1).map(|i| UNITS[i]) else {
            return Ok(());
        };
        let whole = bytes >> (10 * power);
        out.write_str(" (")?;
        write_decimal(out, whole)?;
        if whole << (10 * power) != bytes {
            // Cut, not rounded: 1048575 bytes must not read as 1024.00 KiB.
            let hundredths = (u128::from(bytes) * 100) >> (10 * power);
            // Of 1024 units at most.
            let hundredths = hundredths as u64 % 100;
            out.write_str(if hundredths < 10 { ".0" } else { "." })?;
            write_decimal(out, hundredths)?;
        }
        out.write_str(" ")?;
        out.write_str(unit)?;
        out.write_str(")")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

fn write_decimal(out: &mut impl fmt::Write, mut number: u64) -> fmt::Result {
    // As many digits as `u64::MAX` has.
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
    use super::Size;

    #[test]
    fn exact_multiples_have_no_fraction() {
        assert_eq!(Size(4 << 20).to_string(), "4194304 bytes (4 MiB)");
        assert_eq!(Size(1024).to_string(), "1024 bytes (1 KiB)");
        assert_eq!(Size(100 << 30).to_string(), "107374182400 bytes (100 GiB)");
    }

    #[test]
    fn small_numbers_stand_alone() {
        assert_eq!(Size(0).to_string(), "0 bytes");
        assert_eq!(Size(1).to_string(), "1 byte");
        assert_eq!(Size(1023).to_string(), "1023 bytes");
    }

    #[test]
    fn others_are_cut_to_a_hundredth() {
        assert_eq!(Size(4_200_000).to_string(), "4200000 bytes (4.00 MiB)");
        assert_eq!(Size(1_048_575).to_string(), "1048575 bytes (1023.99 KiB)");
        assert_eq!(
            Size(u64::MAX).to_string(),
            "18446744073709551615 bytes (15.99 EiB)"
        );
    }
}
