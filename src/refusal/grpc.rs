//! Recognizes gRPC calls by their content type.

use http::{
    HeaderValue, Version,
    header::{ACCEPT, CONTENT_TYPE},
    request::Parts,
};

/// The properties of a gRPC call that its response depends on.
#[derive(Clone, Debug)]
pub(crate) struct GrpcCall {
    /// The content type of the response.
    content_type: HeaderValue,
    form: GrpcFormat,
}

/// The form of a gRPC call, which determines where the trailers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcFormat {
    /// `application/grpc`: in the HTTP trailers.
    Grpc,
    /// `application/grpc-web`: after the messages in the body.
    Web,
    /// `application/grpc-web-text`: after the messages in the body, in base64.
    WebText,
}

impl GrpcFormat {
    /// Recognizes the form by the media type, with any message format such as `+proto` and
    /// `+json`.
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

    /// Returns the content type of the response: the requested type, or the plain name of the form
    /// if the requested type is a list or has parameters.
    fn content_type(self, requested: &HeaderValue) -> HeaderValue {
        let is_plain = |byte: &u8| !matches!(byte, b',' | b';' | b' ');
        if requested.as_bytes().iter().all(is_plain) {
            return requested.clone();
        }
        HeaderValue::from_static(match self {
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        })
    }
}

impl GrpcCall {
    /// Returns the gRPC call of a request, or `None` if it is not one. gRPC needs HTTP/2, and
    /// gRPC-Web does not.
    pub(crate) fn of(head: &Parts) -> Option<Self> {
        let headers = &head.headers;
        let sent = headers.get(CONTENT_TYPE)?;
        let is_possible =
            |form: &GrpcFormat| *form != GrpcFormat::Grpc || head.version >= Version::HTTP_2;
        let form = GrpcFormat::of(sent).filter(is_possible)?;
        // A gRPC-Web client may request the other gRPC-Web form.
        let web =
            |accept: &HeaderValue| GrpcFormat::of(accept).filter(|form| *form != GrpcFormat::Grpc);
        let accepted = headers
            .get(ACCEPT)
            .filter(|_| form != GrpcFormat::Grpc)
            .and_then(|accept| Some((accept, web(accept)?)));
        let (content_type, form) = accepted.unwrap_or((sent, form));
        Some(Self {
            content_type: form.content_type(content_type),
            form,
        })
    }

    /// Returns the content type of the response.
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
    fn grpc_content_types_are_recognized() {
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
