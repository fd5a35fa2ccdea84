//! The texts of a refusal: the log line, the message to the client, and the page in a browser.

use std::{fmt, time::Duration};

use super::{
    reason::{Refusal, RefusalKind},
    size::{Size, write_grouped, write_limit},
};

/// The capacity for the longest message, in bytes.
const MESSAGE_CAPACITY: usize = 160;

/// The text for logs, with exact numbers and without a full stop:
///
/// > the request body is 20 MiB (20971520 bytes); the limit is 4 MiB (4194304 bytes)
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind(), self.shown_limit()) {
            (RefusalKind::Declared { length }, limit) => {
                f.write_str("the request body is ")?;
                Size::nearest(length).write_with(f, length)?;
                match limit {
                    None => f.write_str(", which is over the limit"),
                    Some(0) => f.write_str("; none is accepted here"),
                    Some(limit) => {
                        f.write_str("; the limit is ")?;
                        write_limit(f, limit)
                    }
                }
            }
            // The number of bytes received would reveal a hidden limit.
            (RefusalKind::Streamed { .. }, None) => {
                f.write_str("the request body exceeds the limit")
            }
            (RefusalKind::Streamed { .. }, Some(0)) => {
                f.write_str("a request body was sent, and none is accepted here")
            }
            (RefusalKind::Streamed { received }, Some(limit)) => {
                f.write_str("reading the request body stopped after ")?;
                Size::Bytes(received).write(f)?;
                f.write_str("; the limit is ")?;
                write_limit(f, limit)
            }
            (RefusalKind::TooSlow { rate }, _) => {
                f.write_str("the request body arrived too slowly; the minimum is ")?;
                write_limit(f, rate)?;
                f.write_str(" per second")
            }
            (RefusalKind::IdleTimeout { timeout }, _) => {
                f.write_str("nothing of the request body arrived for ")?;
                write_time(f, timeout)
            }
            (RefusalKind::DeadlineExceeded { deadline }, _) => {
                f.write_str("the request body did not end within ")?;
                write_time(f, deadline)
            }
            (RefusalKind::OverBudget { retry_after }, _) => {
                f.write_str("the budget for request bodies has no room; the client may retry")?;
                write_delay(f, retry_after)
            }
            (RefusalKind::BadLength, _) => f.write_str("the Content-Length header is invalid"),
            (RefusalKind::LengthRequired, _) => {
                f.write_str("a Content-Length header is required, and the request has none")
            }
        }
    }
}

impl Refusal {
    /// Returns the text for the client: what went wrong, the limit, and what to do. Sizes are
    /// rounded to a tenth of a unit, unless length and limit would then read the same.
    ///
    /// ```
    /// use tower_bodyguard::{MIB, Refusal, limit::RefusalKind};
    ///
    /// let refusal = Refusal::new(RefusalKind::Declared { length: 20_000_000 }, 4 * MIB);
    /// let message = "Upload too large: 19.1 MiB. The limit is 4 MiB. Choose a smaller file.";
    /// assert_eq!(refusal.message(), message);
    /// ```
    #[must_use]
    pub fn message(&self) -> String {
        // `format!` would start with an empty string and reallocate it several times.
        let mut text = String::with_capacity(MESSAGE_CAPACITY);
        // Writing to a string does not fail.
        let _ = self.write_message(&mut text);
        text
    }

    fn write_message(&self, out: &mut impl fmt::Write) -> fmt::Result {
        match (self.kind(), self.shown_limit()) {
            (RefusalKind::Declared { .. } | RefusalKind::Streamed { .. }, Some(0)) => out
                .write_str(
                    "This address does not accept uploads. Send the request without a body.",
                ),
            (RefusalKind::Declared { length }, limit) => {
                out.write_str("Upload too large: ")?;
                write_sizes(out, length, limit, ". The limit is ")?;
                out.write_str(". Choose a smaller file.")
            }
            (RefusalKind::Streamed { .. }, limit) => {
                out.write_str("Upload too large")?;
                if let Some(limit) = limit {
                    out.write_str(": the limit is ")?;
                    Size::down(limit).write(out)?;
                }
                out.write_str(". Choose a smaller file.")
            }
            (RefusalKind::TooSlow { rate }, _) => {
                out.write_str("Upload too slow: the minimum is ")?;
                Size::down(rate).write(out)?;
                out.write_str(" per second. Try again over a faster connection.")
            }
            (RefusalKind::IdleTimeout { timeout }, _) => {
                out.write_str("Upload timed out: no data arrived for ")?;
                write_time(out, timeout)?;
                out.write_str(". Try again.")
            }
            (RefusalKind::DeadlineExceeded { deadline }, _) => {
                out.write_str("Upload timed out: it took more than ")?;
                write_time(out, deadline)?;
                out.write_str(". Choose a smaller file, or use a faster connection.")
            }
            (RefusalKind::OverBudget { retry_after }, _) => {
                out.write_str("The server is busy with other uploads. Try again")?;
                write_delay(out, retry_after)?;
                out.write_str(".")
            }
            (RefusalKind::BadLength, _) => out.write_str(
                "The Content-Length header is not valid. Send it once, with the length of the \
                 body in bytes.",
            ),
            (RefusalKind::LengthRequired, _) => out.write_str(
                "A Content-Length header is required. Send the length of the body in bytes.",
            ),
        }
    }

    /// Returns the heading of a page for a browser.
    pub(crate) fn heading(&self) -> &'static str {
        match self.kind() {
            RefusalKind::Declared { .. } | RefusalKind::Streamed { .. } => {
                match self.shown_limit() {
                    Some(0) => "Uploads are not accepted here",
                    _ => "Upload too large",
                }
            }
            RefusalKind::TooSlow { .. } => "Upload too slow",
            RefusalKind::IdleTimeout { .. } | RefusalKind::DeadlineExceeded { .. } => {
                "Upload timed out"
            }
            RefusalKind::OverBudget { .. } => "The server is busy",
            RefusalKind::BadLength => "Invalid length",
            RefusalKind::LengthRequired => "Length required",
        }
    }

    /// Returns the paragraph of a page for a browser, whose user can go back and try again.
    pub(crate) fn paragraph(&self) -> String {
        let mut text = String::with_capacity(MESSAGE_CAPACITY);
        // Writing to a string does not fail.
        let _ = self.write_paragraph(&mut text);
        text
    }

    fn write_paragraph(&self, out: &mut impl fmt::Write) -> fmt::Result {
        match (self.kind(), self.shown_limit()) {
            (RefusalKind::Declared { .. } | RefusalKind::Streamed { .. }, Some(0)) => {
                out.write_str("This address does not accept files. Go back to the previous page.")
            }
            (RefusalKind::Declared { length }, limit) => {
                out.write_str("Your upload is ")?;
                write_sizes(out, length, limit, ", but the limit here is ")?;
                out.write_str(match limit {
                    None => ", which is too large",
                    Some(_) => "",
                })?;
                out.write_str(SMALLER)
            }
            (RefusalKind::Streamed { .. }, limit) => {
                out.write_str("Your upload is larger than ")?;
                match limit {
                    None => out.write_str("the limit here")?,
                    Some(limit) => {
                        Size::down(limit).write(out)?;
                        out.write_str(", the limit here")?;
                    }
                }
                out.write_str(SMALLER)
            }
            (RefusalKind::TooSlow { rate }, _) => {
                out.write_str("Your upload was slower than ")?;
                Size::down(rate).write(out)?;
                out.write_str(
                    " per second, the minimum here. Go back and try again over a faster \
                     connection.",
                )
            }
            (RefusalKind::IdleTimeout { timeout }, _) => {
                out.write_str("Nothing of your upload arrived for ")?;
                write_time(out, timeout)?;
                out.write_str(". Go back and try again.")
            }
            (RefusalKind::DeadlineExceeded { deadline }, _) => {
                out.write_str("Your upload took more than ")?;
                write_time(out, deadline)?;
                out.write_str(
                    ", the limit here. Go back and choose a smaller file, or use a faster \
                     connection.",
                )
            }
            (RefusalKind::OverBudget { retry_after }, _) => {
                out.write_str("It is receiving other uploads. Go back and try again")?;
                write_delay(out, retry_after)?;
                out.write_str(".")
            }
            (RefusalKind::BadLength, _) => out.write_str(
                "Your browser sent a length of the upload that is not valid (the header \
                 Content-Length). Go back and try again.",
            ),
            (RefusalKind::LengthRequired, _) => out.write_str(
                "Your browser did not send the length of the upload, which is needed here (the \
                 header Content-Length). Go back and try again.",
            ),
        }
    }
}

const SMALLER: &str = ". Go back and choose a smaller file, or send fewer files at once.";

/// Writes a length, and the limit if it is not hidden. If the two would read the same, their exact
/// numbers are added.
fn write_sizes(
    out: &mut impl fmt::Write,
    length: u64,
    limit: Option<u64>,
    between: &str,
) -> fmt::Result {
    let Some(limit) = limit else {
        // No digit may depend on a hidden limit.
        return Size::nearest(length).write(out);
    };
    match Size::over(length, limit) {
        Some((length, limit)) => {
            length.write(out)?;
            out.write_str(between)?;
            limit.write(out)
        }
        None => {
            write_grouped(out, length)?;
            out.write_str(between)?;
            Size::down(limit).write(out)?;
            out.write_str(" (")?;
            write_grouped(out, limit)?;
            out.write_str(")")
        }
    }
}

/// Writes ` in 5 seconds`, as in `Retry-After`, which has whole seconds.
fn write_delay(out: &mut impl fmt::Write, delay: Duration) -> fmt::Result {
    match delay.as_secs() {
        0 => out.write_str(" soon"),
        1 => out.write_str(" in 1 second"),
        seconds => write!(out, " in {seconds} seconds"),
    }
}

/// Writes a time in minutes or seconds: `10 minutes`, `1.5 seconds`.
fn write_time(out: &mut impl fmt::Write, time: Duration) -> fmt::Result {
    let seconds = time.as_secs_f64();
    match seconds / 60.0 {
        minutes if minutes > 1.0 && minutes.fract() == 0.0 => write!(out, "{minutes} minutes"),
        _ if seconds == 1.0 => out.write_str("1 second"),
        _ => write!(out, "{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 4 << 20;

    /// Returns the text for logs, the message, and heading and paragraph of the page.
    fn texts(refusal: &Refusal) -> [String; 3] {
        let page = format!("{}: {}", refusal.heading(), refusal.paragraph());
        [refusal.to_string(), refusal.message(), page]
    }

    fn assert_says(kind: RefusalKind, limit: u64, expected: [&str; 3]) {
        assert_eq!(texts(&Refusal::new(kind, limit)), expected);
        #[cfg(feature = "metrics")]
        assert!(RefusalKind::LABELS.contains(&kind.as_str()));
    }

    #[test]
    fn declared_length_over_the_limit_is_rounded_for_people() {
        assert_says(
            RefusalKind::Declared { length: 20_000_000 },
            LIMIT,
            [
                "the request body is 19.1 MiB (20000000 bytes); the limit is 4 MiB (4194304 bytes)",
                "Upload too large: 19.1 MiB. The limit is 4 MiB. Choose a smaller file.",
                "Upload too large: Your upload is 19.1 MiB, but the limit here is 4 MiB. \
                 Go back and choose a smaller file, or send fewer files at once.",
            ],
        );
    }

    #[test]
    fn declared_length_that_reads_like_the_limit_is_exact() {
        assert_says(
            RefusalKind::Declared { length: LIMIT + 6 },
            LIMIT,
            [
                "the request body is 4 MiB (4194310 bytes); the limit is 4 MiB (4194304 bytes)",
                "Upload too large: 4,194,310 bytes. The limit is 4 MiB (4,194,304 bytes). \
                 Choose a smaller file.",
                "Upload too large: Your upload is 4,194,310 bytes, but the limit here is \
                 4 MiB (4,194,304 bytes). Go back and choose a smaller file, or send fewer files at once.",
            ],
        );
    }

    #[test]
    fn streamed_body_over_the_limit_names_the_limit() {
        assert_says(
            RefusalKind::Streamed {
                received: 4_209_204,
            },
            LIMIT,
            [
                "reading the request body stopped after 4209204 bytes; \
                 the limit is 4 MiB (4194304 bytes)",
                "Upload too large: the limit is 4 MiB. Choose a smaller file.",
                "Upload too large: Your upload is larger than 4 MiB, the limit here. \
                 Go back and choose a smaller file, or send fewer files at once.",
            ],
        );
    }

    #[test]
    fn limit_of_zero_says_that_no_body_is_accepted() {
        const MESSAGE: &str =
            "This address does not accept uploads. Send the request without a body.";
        const PAGE: &str = "Uploads are not accepted here: This address does not accept files. \
                            Go back to the previous page.";
        let declared = "the request body is 5 bytes; none is accepted here";
        let kind = RefusalKind::Declared { length: 5 };
        assert_says(kind, 0, [declared, MESSAGE, PAGE]);
        let streamed = "a request body was sent, and none is accepted here";
        let kind = RefusalKind::Streamed { received: 5 };
        assert_says(kind, 0, [streamed, MESSAGE, PAGE]);
    }

    #[test]
    fn slow_body_names_the_minimum_rate() {
        assert_says(
            RefusalKind::TooSlow { rate: 100_000 },
            LIMIT,
            [
                "the request body arrived too slowly; the minimum is 97.6 KiB (100000 bytes) per \
                 second",
                "Upload too slow: the minimum is 97.6 KiB per second. Try again over a faster \
                 connection.",
                "Upload too slow: Your upload was slower than 97.6 KiB per second, the minimum \
                 here. Go back and try again over a faster connection.",
            ],
        );
    }

    #[test]
    fn silent_or_late_body_names_the_time() {
        assert_says(
            RefusalKind::IdleTimeout {
                timeout: Duration::from_secs(30),
            },
            LIMIT,
            [
                "nothing of the request body arrived for 30 seconds",
                "Upload timed out: no data arrived for 30 seconds. Try again.",
                "Upload timed out: Nothing of your upload arrived for 30 seconds. \
                 Go back and try again.",
            ],
        );
        let late = |deadline| RefusalKind::DeadlineExceeded { deadline };
        assert_says(
            late(Duration::from_secs(600)),
            LIMIT,
            [
                "the request body did not end within 10 minutes",
                "Upload timed out: it took more than 10 minutes. Choose a smaller file, or use a \
                 faster connection.",
                "Upload timed out: Your upload took more than 10 minutes, the limit here. \
                 Go back and choose a smaller file, or use a faster connection.",
            ],
        );
        let log = |millis| Refusal::new(late(Duration::from_millis(millis)), LIMIT).to_string();
        assert!(log(1500).ends_with("within 1.5 seconds"));
        assert!(log(1000).ends_with("within 1 second"));
        assert!(log(90_000).ends_with("within 90 seconds"));
    }

    #[test]
    fn full_budget_says_when_to_retry() {
        let kind = |seconds| RefusalKind::OverBudget {
            retry_after: Duration::from_secs(seconds),
        };
        assert_says(
            kind(5),
            LIMIT,
            [
                "the budget for request bodies has no room; the client may retry in 5 seconds",
                "The server is busy with other uploads. Try again in 5 seconds.",
                "The server is busy: It is receiving other uploads. Go back and try again in 5 \
                 seconds.",
            ],
        );
        let message = |seconds| Refusal::new(kind(seconds), LIMIT).message();
        assert!(message(1).ends_with("Try again in 1 second."));
        assert!(message(0).ends_with("Try again soon."));
    }

    #[test]
    fn bad_or_missing_length_names_the_header() {
        assert_says(
            RefusalKind::BadLength,
            LIMIT,
            [
                "the Content-Length header is invalid",
                "The Content-Length header is not valid. Send it once, with the length of the \
                 body in bytes.",
                "Invalid length: Your browser sent a length of the upload that is not valid (the \
                 header Content-Length). Go back and try again.",
            ],
        );
        assert_says(
            RefusalKind::LengthRequired,
            LIMIT,
            [
                "a Content-Length header is required, and the request has none",
                "A Content-Length header is required. Send the length of the body in bytes.",
                "Length required: Your browser did not send the length of the upload, which is \
                 needed here (the header Content-Length). Go back and try again.",
            ],
        );
    }

    #[test]
    fn hidden_limit_is_in_no_text() {
        let says = |kind, expected: [&str; 3]| {
            assert_eq!(texts(&Refusal::new(kind, LIMIT).secret(true)), expected);
        };
        says(
            // Exact bytes in the message would show that the limit is close.
            RefusalKind::Declared { length: 4_200_000 },
            [
                "the request body is 4 MiB (4200000 bytes), which is over the limit",
                "Upload too large: 4 MiB. Choose a smaller file.",
                "Upload too large: Your upload is 4 MiB, which is too large. \
                 Go back and choose a smaller file, or send fewer files at once.",
            ],
        );
        says(
            // The number at which reading stopped would reveal the limit.
            RefusalKind::Streamed {
                received: 4_194_305,
            },
            [
                "the request body exceeds the limit",
                "Upload too large. Choose a smaller file.",
                "Upload too large: Your upload is larger than the limit here. \
                 Go back and choose a smaller file, or send fewer files at once.",
            ],
        );
    }

    #[test]
    fn longest_message_fits_the_capacity() {
        for kind in [
            RefusalKind::Declared { length: u64::MAX },
            RefusalKind::TooSlow { rate: u64::MAX },
            RefusalKind::IdleTimeout {
                timeout: Duration::MAX,
            },
            RefusalKind::DeadlineExceeded {
                deadline: Duration::MAX,
            },
            RefusalKind::OverBudget {
                retry_after: Duration::MAX,
            },
            RefusalKind::BadLength,
            RefusalKind::LengthRequired,
        ] {
            let message = Refusal::new(kind, u64::MAX - 1).message();
            // `PlainText` adds a line end.
            assert!(message.len() < MESSAGE_CAPACITY, "{message}");
        }
    }
}
