//! Authentication: with a token, only clients that have it may send. Anyone may view the page.

use std::fmt;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use headers::authorization::{Authorization, Bearer};
use headers::{HeaderMap, HeaderMapExt as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::page::{self, Format};

/// A secret, stored as its hash. Both sides of the comparison then have the same length, and its
/// timing reveals nothing about either.
#[derive(Clone)]
pub(crate) struct Token([u8; 32]);

impl Token {
    /// Accepts only characters that a header can carry unchanged.
    pub(crate) fn new(secret: &str) -> Result<Self, &'static str> {
        if secret.is_empty() {
            return Err("the token is empty; give one, or leave it out to let anyone send");
        }
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token has characters that no header carries; \
                 use ASCII letters, digits and punctuation, without spaces");
        }
        Ok(Self(Sha256::digest(secret).into()))
    }

    fn is(&self, secret: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(secret).into();
        self.0.ct_eq(&hash).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Puts the token check around an app and its limit. A client without the token gets only this
/// response, before any of the body is read.
pub(crate) fn protect(app: Router, token: &Token) -> Router {
    app.layer(from_fn_with_state(token.clone(), check))
}

async fn check(
    State(token): State<Token>,
    format: Format,
    request: Request,
    next: Next,
) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let words = match secret(request.headers()) {
        Some(secret) if token.is(&secret) => return next.run(request).await,
        Some(_) => "The token is wrong. Ask the server's operator for it.",
        None => {
            "A token is needed to upload here. Ask the server's operator, \
             and send it as `Authorization: Bearer <token>`."
        }
    };
    let mut response = page::problem(format, StatusCode::UNAUTHORIZED, words);
    // RFC 6750, section 3: at least one parameter follows the scheme. httplib2 and Guile cannot
    // parse a challenge without one.
    let challenge = HeaderValue::from_static("Bearer realm=\"upload\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn secret(headers: &HeaderMap) -> Option<String> {
    let authorization: Authorization<Bearer> = headers.typed_get()?;
    Some(authorization.token().to_owned())
}
