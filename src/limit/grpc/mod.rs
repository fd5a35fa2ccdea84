//! gRPC: a refusal that its clients can read, told by the call's content type.
//!
//! They look for a status of gRPC's own in the trailers, and make UNKNOWN of a bare
//! 413. The forms are those of gRPC's documents PROTOCOL-HTTP2 and PROTOCOL-WEB.

mod messages;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, BufMut, Bytes};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, Version,
    header::{ACCEPT, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_LENGTH, CONTENT_TYPE},
    request::Parts,
};
use http_body::Frame;

use self::messages::{At, Messages};
use super::{Kind, Refusal, ResponseBody};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The first byte of a frame of gRPC-Web that holds trailers, uncompressed.
const TRAILERS: u8 = 0x80;

/// A call of gRPC's, as far as its answer depends on it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The answer's.
    content_type: HeaderValue,
    form: Form,
}

/// Where the trailers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `application/grpc`: into the trailers of HTTP.
    Grpc,
    /// `application/grpc-web`: behind the messages in the body.
    Web,
    /// `application/grpc-web-text`: there too, in base64.
    WebText,
}

impl Form {
    /// By the media type, whatever the messages are made of: `+proto`, `+json`.
    fn of(value: &HeaderValue) -> Option<Self> {
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

    /// The trailers as a frame of the body.
    fn in_body(self, refusal: &Refusal) -> Bytes {
        let lines = format!(
            "{GRPC_STATUS}:{}\r\n{GRPC_MESSAGE}:{refusal}\r\n",
            status(refusal)
        );
        let mut frame = Vec::with_capacity(5 + lines.len());
        frame.put_u8(TRAILERS);
        frame.put_u32(lines.len() as u32);
        frame.put_slice(lines.as_bytes());
        match self {
            Self::WebText => STANDARD.encode(frame).into(),
            Self::Grpc | Self::Web => frame.into(),
        }
    }
}

impl Call {
    /// Returns `None` if the request is not a gRPC call. gRPC needs HTTP/2, and gRPC-Web does
    /// not.
    pub(super) fn of(head: &Parts) -> Option<Self> {
        let headers = &head.headers;
        let asked = headers.get(CONTENT_TYPE)?;
        let is_spoken = |form: &Form| *form != Form::Grpc || head.version >= Version::HTTP_2;
        let form = Form::of(asked).filter(is_spoken)?;
        // A client of gRPC-Web may ask for the other of its forms.
        let web = |accept: &HeaderValue| Form::of(accept).filter(|form| *form != Form::Grpc);
        let accepted = headers
            .get(ACCEPT)
            .filter(|_| form != Form::Grpc)
            .and_then(|accept| Some((accept, web(accept)?)));
        let (content_type, form) = accepted.unwrap_or((asked, form));
        Some(Self {
            content_type: form.content_type(content_type),
            form,
        })
    }

    /// The whole answer: the status alone, where no message was sent.
    pub(super) fn refuse<B>(&self, refusal: &Refusal) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.extend(trailers(refusal));
        if self.form == Form::Grpc {
            return response;
        }
        // Clients of gRPC-Web read the one or the other, and those in browsers what
        // is exposed to scripts.
        let exposed = HeaderValue::from_static("grpc-status,grpc-message");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        let body = self.form.in_body(refusal);
        headers.insert(CONTENT_LENGTH, body.len().into());
        response.map(|_| ResponseBody::from(body))
    }
}

/// A response of gRPC's that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    form: Form,
    messages: Messages,
}

/// How such a response is to end.
pub(super) enum End<D> {
    /// With the refusal.
    Refused(Frame<D>),
    /// As the service has ended it: a second status would be none.
    Ended,
    /// It cannot: a message is half sent.
    BrokenOff,
}

impl Begun {
    /// By what the service has chosen. `None` for a response that is none of gRPC's.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let form = Form::of(headers.get(CONTENT_TYPE)?)?;
        let mut messages = Messages::new(form == Form::WebText);
        // Trailers only, and these in the head.
        if headers.contains_key(GRPC_STATUS) {
            messages.end();
        }
        Some(Self { form, messages })
    }

    /// A frame that is handed on.
    pub(super) fn sent<D: Buf>(&mut self, frame: &Frame<D>) {
        match (self.form, frame.data_ref()) {
            (Form::Web | Form::WebText, Some(data)) => self.messages.follow(data),
            (Form::Grpc, None) => self.messages.end(),
            _ => {}
        }
    }

    pub(super) fn end<D: From<Bytes>>(&self, refusal: &Refusal) -> End<D> {
        match (self.messages.at(), self.form) {
            (At::End, _) => End::Ended,
            (At::Within, _) => End::BrokenOff,
            (At::Boundary, Form::Grpc) => End::Refused(Frame::trailers(trailers(refusal))),
            (At::Boundary, form) => End::Refused(Frame::data(form.in_body(refusal).into())),
        }
    }
}

fn trailers(refusal: &Refusal) -> HeaderMap {
    // Our own words and numbers: no character of them needs an escape.
    let message = HeaderValue::try_from(refusal.to_string());
    let message = message.expect("a refusal is said in printable ASCII");
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, status(refusal).into());
    trailers.insert(GRPC_MESSAGE, message);
    trailers
}

/// The code of gRPC's for the kind of refusal.
fn status(refusal: &Refusal) -> u16 {
    const INVALID_ARGUMENT: u16 = 3;
    const DEADLINE_EXCEEDED: u16 = 4;
    const RESOURCE_EXHAUSTED: u16 = 8;
    match refusal.kind() {
        Kind::Declared { .. } | Kind::Streamed { .. } => RESOURCE_EXHAUSTED,
        Kind::TooSlow { .. } => DEADLINE_EXCEEDED,
        Kind::BadLength | Kind::LengthRequired => INVALID_ARGUMENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(value: &'static str) -> Option<Form> {
        Form::of(&HeaderValue::from_static(value))
    }

    #[test]
    fn what_is_grpc() {
        assert_eq!(form("application/grpc"), Some(Form::Grpc));
        assert_eq!(form("application/grpc+proto"), Some(Form::Grpc));
        assert_eq!(form("Application/gRPC; charset=x"), Some(Form::Grpc));
        assert_eq!(form("application/grpc-web+json"), Some(Form::Web));
        assert_eq!(form("application/grpc-web-text"), Some(Form::WebText));
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
        let is_call = |version, kind| Call::of(&head(version, kind, "*/*")).is_some();
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
            Call::of(&head).map(|call| call.form)
        };
        let (web, text) = ("application/grpc-web", "application/grpc-web-text");
        assert_eq!(call(web, text), Some(Form::WebText));
        assert_eq!(call(text, web), Some(Form::Web));
        assert_eq!(call(text, "*/*"), Some(Form::WebText));
        assert_eq!(
            call(web, "application/grpc-web-text;q=0.9, */*"),
            Some(Form::WebText)
        );
        assert_eq!(call("application/grpc", text), Some(Form::Grpc));
        assert_eq!(call("text/plain", text), None);
    }
}
