//! Values of the headers `Upload-Limit` and `Retry-After`.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// Draft-ietf-httpbis-resumable-upload, section "Upload Limit".
pub(super) const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");

/// The largest integer of a structured field (RFC 9651 §3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// Returns the value of the header for a limit in bytes. A limit that no structured field can express
/// counts as none, because no body is that long.
pub(super) fn upload_limit(limit: Option<u64>) -> HeaderValue {
    match limit.filter(|limit| *limit <= LARGEST) {
        Some(limit) => {
            let value = HeaderValue::try_from(format!("max-size={limit}"));
            value.expect("a name and a number are visible ASCII")
        }
        // The draft's value for no limits, because the header may not be empty.
        None => HeaderValue::from_static("min-size=0"),
    }
}

/// Rounds a delay up to the whole seconds of `Retry-After` (RFC 9110 §10.2.3).
pub(super) fn whole_seconds(delay: Duration) -> Duration {
    let part = u64::from(delay.subsec_nanos() > 0);
    Duration::from_secs(delay.as_secs().saturating_add(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_fit_are_integers_of_a_structured_field() {
        assert_eq!(upload_limit(Some(0)), "max-size=0");
        assert_eq!(upload_limit(Some(4 << 20)), "max-size=4194304");
        assert_eq!(upload_limit(Some(LARGEST)), "max-size=999999999999999");
        assert_eq!(upload_limit(Some(LARGEST + 1)), "min-size=0");
        assert_eq!(upload_limit(None), "min-size=0");
    }
}
