//! A gRPC call, told by its content type.

use http::{
    HeaderValue, Version,
    header::{ACCEPT, CONTENT_TYPE},
    request::Parts,
};

/// A call of gRPC's, as far as its answer depends on it.
#[derive(Clone, Debug)]
pub(crate) struct GrpcCall {
    /// The answer's.
    content_type: HeaderValue,
    form: GrpcFormat,
}

/// Where the trailers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcFormat {
    /// `application/grpc`: into the trailers of HTTP.
    Grpc,
    /// `application/grpc-web`: behind the messages in the body.
    Web,
    /// `application/grpc-web-text`: there too, in base64.
    WebText,
}

impl GrpcFormat {
    /// By the media type, whatever the messages are made of: `+proto`, `+json`.
    pub(crate) fn of(value: &HeaderValue) -> Option<Self> {
        let value = value.as_bytes();
        let end = value
            .iter()
            .position(|byte| matches!(byte, b';' | b'+' | b' ' | b','));
        let name = &value[..end.unwrap_or(value.len())];
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("application/grpc") {
            Some(Self::Grpc)
        } else if is("application/grpc-web") {
            Some(Self::Web)
        } else if is("application/grpc-web-text") {
            Some(Self::WebText)
        } else {
            None
        }
    }

    /// The answer's, by the request's: where that is a list, or has parameters, the plain
    /// name of the form.
    fn content_type(self, asked: &HeaderValue) -> HeaderValue {
        let is_plain = |byte: &u8| !matches!(byte, b',' | b';' | b' ');
        if asked.as_bytes().iter().all(is_plain) {
            return asked.clone();
        }
        HeaderValue::from_static(match self {
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        })
    }
}

impl GrpcCall {
    /// Returns `None` if the request is not a gRPC call. gRPC needs HTTP/2, and gRPC-Web does
    /// not.
    pub(crate) fn of(head: &Parts) -> Option<Self> {
        let headers = &head.headers;
        let asked = headers.get(CONTENT_TYPE)?;
        let is_spoken =
            |form: &GrpcFormat| *form != GrpcFormat::Grpc || head.version >= Version::HTTP_2;
        let form = GrpcFormat::of(asked).filter(is_spoken)?;
        // A client of gRPC-Web may ask for the other of its forms.
        let web =
            |accept: &HeaderValue| GrpcFormat::of(accept).filter(|form| *form != GrpcFormat::Grpc);
        let accepted = headers
            .get(ACCEPT)
            .filter(|_| form != GrpcFormat::Grpc)
            .and_then(|accept| Some((accept, web(accept)?)));
        let (content_type, form) = accepted.unwrap_or((asked, form));
        Some(Self {
            content_type: form.content_type(content_type),
            form,
        })
    }

    /// The answer's content type.
    pub(crate) fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }

    pub(crate) fn form(&self) -> GrpcFormat {
        self.form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(value: &'static str) -> Option<GrpcFormat> {
        GrpcFormat::of(&HeaderValue::from_static(value))
    }

    #[test]
    fn what_is_grpc() {
        assert_eq!(form("application/grpc"), Some(GrpcFormat::Grpc));
        assert_eq!(form("application/grpc+proto"), Some(GrpcFormat::Grpc));
        assert_eq!(form("Application/gRPC; charset=x"), Some(GrpcFormat::Grpc));
        assert_eq!(form("application/grpc-web+json"), Some(GrpcFormat::Web));
        assert_eq!(form("application/grpc-web-text"), Some(GrpcFormat::WebText));
        assert_eq!(form("application/grpcx"), None);
        assert_eq!(form("application/json"), None);
    }

    fn head(version: Version, content_type: &str, accept: &str) -> Parts {
        let request = http::Request::post("/").version(version);
        let request = request.header(CONTENT_TYPE, content_type);
        let request = request.header(ACCEPT, accept).body(()).unwrap();
        request.into_parts().0
    }

    #[test]
    fn grpc_over_http1_is_no_call() {
        let is_call = |version, kind| GrpcCall::of(&head(version, kind, "*/*")).is_some();
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(!is_call(version, "application/grpc"));
            assert!(!is_call(version, "application/grpc+proto"));
            assert!(is_call(version, "application/grpc-web"));
            assert!(is_call(version, "application/grpc-web-text"));
        }
        for version in [Version::HTTP_2, Version::HTTP_3] {
            assert!(is_call(version, "application/grpc"));
        }
    }

    #[test]
    fn a_client_of_the_web_may_ask_for_its_other_form() {
        let call = |content_type, accept| {
            let head = head(Version::HTTP_2, content_type, accept);
            GrpcCall::of(&head).map(|call| call.form)
        };
        let (web, text) = ("application/grpc-web", "application/grpc-web-text");
        assert_eq!(call(web, text), Some(GrpcFormat::WebText));
        assert_eq!(call(text, web), Some(GrpcFormat::Web));
        assert_eq!(call(text, "*/*"), Some(GrpcFormat::WebText));
        assert_eq!(
            call(web, "application/grpc-web-text;q=0.9, */*"),
            Some(GrpcFormat::WebText)
        );
        assert_eq!(call("application/grpc", text), Some(GrpcFormat::Grpc));
        assert_eq!(call("text/plain", text), None);
    }
}
