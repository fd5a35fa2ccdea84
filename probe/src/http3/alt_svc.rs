//! The UDP port that a server names in `Alt-Svc` (RFC 7838).

use std::io;

use httparse::{EMPTY_HEADER, Response, Status};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{connection::Properties, context::Context, http1};

/// The longest head that is read, in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;

/// Returns the UDP port for h3 on the same host that the response to a GET names, or why none is
/// known.
///
/// Asks for the URL, and then for `/`: some servers send `Alt-Svc` only with a success.
pub(super) async fn port(context: &Context) -> Result<u16, String> {
    let path = context.target.path();
    let root = Some("/").filter(|root| *root != path);
    let mut why = "no Alt-Svc names h3".to_owned();
    for path in [Some(path), root].into_iter().flatten() {
        let asked = timeout(context.options.timeout, ask(context, path)).await;
        let values = match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(values) => values,
            Err(error) => {
                why = format!("Alt-Svc could not be read from {path}: {error}");
                continue;
            }
        };
        let host = context.target.url().host_str().unwrap_or_default();
        let mut ports = values.iter().filter_map(|value| h3_port(value, host));
        if let Some(port) = ports.next() {
            return Ok(port);
        }
    }
    Err(why)
}

/// Sends a GET. Returns the values of `Alt-Svc` in its response.
async fn ask(context: &Context, path: &str) -> io::Result<Vec<String>> {
    let mut connection = context.connector.connect(Properties::default()).await?;
    let request = http1::get(context, path);
    connection.stream.write_all(&request).await?;
    connection.stream.flush().await?;
    let mut bytes = Vec::new();
    loop {
        if let Some(values) = values(&bytes) {
            return Ok(values);
        }
        let read = connection.stream.read_buf(&mut bytes).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes.len() > MAX_HEAD {
            return Err(io::Error::other("the response head is too long"));
        }
    }
}

/// Returns the values of `Alt-Svc` in the final head, or `None` if that has not come.
fn values(mut bytes: &[u8]) -> Option<Vec<String>> {
    loop {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut head = Response::new(&mut headers);
        let Ok(Status::Complete(length)) = head.parse(bytes) else {
            return None;
        };
        if head.code.is_some_and(|code| code >= 200) {
            let fields = head.headers.iter();
            let fields = fields.filter(|field| field.name.eq_ignore_ascii_case("alt-svc"));
            let values = fields.map(|field| String::from_utf8_lossy(field.value).into_owned());
            return Some(values.collect());
        }
        bytes = &bytes[length..];
    }
}

/// Returns the port of the first alternative that is h3 on this host.
fn h3_port(value: &str, host: &str) -> Option<u16> {
    // Neither an authority nor a parameter in use has a comma or a semicolon.
    value.split(',').find_map(|alternative| {
        let (protocol, rest) = alternative.trim().split_once('=')?;
        let authority = rest.split(';').next()?.trim().trim_matches('"');
        let (other, port) = authority.rsplit_once(':')?;
        let same_host = other.is_empty() || other.eq_ignore_ascii_case(host);
        let port = port.parse().ok()?;
        (protocol == "h3" && same_host).then_some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_h3_alternative_on_the_same_host_counts() {
        for (value, port) in [
            ("h3=\":443\"; ma=3600", Some(443)),
            (
                "h2=\":1\", h3-29=\":2\", h3=\":8443\";ma=60;persist=1",
                Some(8443),
            ),
            ("h3=\"other.example:1\", h3=\"Localhost:2\"", Some(2)),
            ("h3=\"[::1]:3\"", None),
            ("h3-29=\":443\"", None),
            ("clear", None),
            ("h3=\":x\"", None),
        ] {
            assert_eq!(h3_port(value, "localhost"), port, "{value}");
        }
        assert_eq!(h3_port("h3=\"[::1]:3\"", "[::1]"), Some(3));
    }

    #[test]
    fn only_the_final_head_counts() {
        let interim = "HTTP/1.1 103 Early Hints\r\nAlt-Svc: a\r\n\r\n";
        let last = "HTTP/1.1 405 X\r\nalt-svc: b\r\nAlt-Svc: c\r\n\r\n";
        assert_eq!(values(interim.as_bytes()), None);
        assert_eq!(values(&last.as_bytes()[..last.len() - 1]), None);
        let both = [interim, last].concat();
        assert_eq!(values(both.as_bytes()).unwrap(), ["b", "c"]);
    }
}
