//! A strict parser of the `Content-Length` header (RFC 9110 §8.6).
//!
//! hyper checks the header for HTTP/1 and HTTP/2 before a service gets the request. Other
//! transports, and tests that call the service in process, may not.

use http::{HeaderMap, header::CONTENT_LENGTH};

/// The error for a header value that is not a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Returns the declared length, or `None` if there is no such header.
///
/// Repeated fields with the same number count as one, which RFC 9112 §6.3 allows and hyper does.
/// Anything else that is not one decimal number of at most 64 bits is an error. If two parsers
/// could read a length differently, an attacker would exploit that.
#[inline]
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    match headers.get(CONTENT_LENGTH) {
        None => Ok(None),
        // No header of the request is repeated.
        Some(value) if headers.len() == headers.keys_len() => {
            decimal(value.as_bytes()).map(Some).ok_or(Malformed)
        }
        Some(_) => of_several(headers),
    }
}

fn of_several(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut declared = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let length = decimal(value.as_bytes()).ok_or(Malformed)?;
        if declared.is_some_and(|earlier| earlier != length) {
            return Err(Malformed);
        }
        declared = Some(length);
    }
    Ok(declared)
}

/// Parses `1*DIGIT` and nothing else: `str::parse` would accept a leading `+`.
#[inline]
fn decimal(digits: &[u8]) -> Option<u64> {
    let mut number = None;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = Some(
            number
                .unwrap_or(0u64)
                .checked_mul(10)?
                .checked_add(digit.into())?,
        );
    }
    number
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header::CONTENT_LENGTH};
    use proptest::prelude::*;

    use super::{Malformed, content_length};

    fn inspect(values: &[&[u8]]) -> Result<Option<u64>, Malformed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_LENGTH, HeaderValue::from_bytes(value).unwrap());
        }
        content_length(&headers)
    }

    #[test]
    fn lengths() {
        assert_eq!(inspect(&[]), Ok(None));
        assert_eq!(inspect(&[b"0"]), Ok(Some(0)));
        assert_eq!(inspect(&[b"007"]), Ok(Some(7)));
        assert_eq!(inspect(&[b"18446744073709551615"]), Ok(Some(u64::MAX)));
        assert_eq!(inspect(&[b"5", b"5"]), Ok(Some(5)));
    }

    #[test]
    fn length_that_is_not_one_number_is_malformed() {
        let bad: [&[u8]; 12] = [
            b"",
            b" ",
            b"+5",
            b"-5",
            b"5 ",
            b"5, 5",
            b"5;5",
            b"0x10",
            b"1e3",
            b"5.0",
            b"\xb2",
            b"18446744073709551616",
        ];
        for value in bad {
            assert_eq!(inspect(&[value]), Err(Malformed), "{value:?}");
        }
        assert_eq!(inspect(&[b"5", b"6"]), Err(Malformed));
        assert_eq!(inspect(&[b"5", b""]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_reader(value in "[0-9+, -]{0,22}") {
            let naive = (!value.is_empty() && value.chars().all(|c| c.is_ascii_digit()))
                .then(|| value.parse::<u64>().ok())
                .flatten();
            prop_assert_eq!(inspect(&[value.as_bytes()]).ok(), naive.map(Some));
        }
    }
}
