use std::{error::Error, fmt};

use h3::error::StreamError;

/// An error of a [`RequestBody`](crate::RequestBody).
#[derive(Debug)]
pub struct RequestBodyError(Kind);

#[derive(Debug)]
enum Kind {
    Stream(StreamError),
    Length { declared: u64, received: u64 },
}

impl RequestBodyError {
    pub(crate) fn stream(error: StreamError) -> Self {
        Self(Kind::Stream(error))
    }

    pub(crate) fn length(declared: u64, received: u64) -> Self {
        Self(Kind::Length { declared, received })
    }

    /// Returns whether the body is not as long as its `Content-Length`. Such a request is malformed
    /// (RFC 9114 §4.1.2).
    #[must_use]
    pub fn is_length_mismatch(&self) -> bool {
        matches!(self.0, Kind::Length { .. })
    }
}

impl fmt::Display for RequestBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Stream(_) => f.write_str("the HTTP/3 stream of the request failed"),
            Kind::Length { declared, received } if received > declared => write!(
                f,
                "the request body is longer than its Content-Length of {declared} bytes: at least \
                 {received} bytes arrived"
            ),
            Kind::Length { declared, received } => write!(
                f,
                "the request body ended after {received} bytes, and its Content-Length is \
                 {declared} bytes"
            ),
        }
    }
}

impl Error for RequestBodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Kind::Stream(error) => Some(error),
            Kind::Length { .. } => None,
        }
    }
}
