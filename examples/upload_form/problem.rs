//! Errors of an upload besides its size.

use std::fmt;
use std::io;

use axum::extract::multipart::MultipartError;
use axum::http::StatusCode;

/// The reason why nothing was stored. The client reads its `Display` text, which names no paths.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The request is not a form, or not a form that is accepted here.
    Form(String),
    /// A limit stopped the request. The limit layer replaces this response by its own. With
    /// `--plain`, nothing replaces it.
    Cut,
    /// The disk or its quota is full.
    Full,
    /// The disk fails in some other way.
    Disk,
}

impl Problem {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Form(_) => StatusCode::BAD_REQUEST,
            Self::Cut => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::Disk => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form(words) => words,
            Self::Cut => "Upload too large. Choose a smaller file, or send fewer files at once.",
            Self::Full => {
                "The server has no room left for these files. Try again later, or send smaller files."
            }
            Self::Disk => {
                "The server cannot write to its folder. Tell its operator, and try again later."
            }
        })
    }
}

impl From<MultipartError> for Problem {
    fn from(error: MultipartError) -> Self {
        match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::Cut,
            _ => Self::Form(format!(
                "The form cannot be read: {}. Check it, and the names of its files.",
                error.body_text()
            )),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        tracing::error!(%error, "cannot store an upload");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Disk,
        }
    }
}
