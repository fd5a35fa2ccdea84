//! A second HTTP/1 parser as a reference: finds the requests in a client's bytes, and the responses
//! in a server's.

/// A request according to its framing.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) is_http11: bool,
    pub(crate) declared: Option<u64>,
    pub(crate) expects_continue: bool,
    pub(crate) upgrades: bool,
    /// How many body bytes have arrived.
    pub(crate) came: u64,
    pub(crate) is_whole: bool,
    /// Whether no other request may follow.
    pub(crate) closes: bool,
}

impl Asked {
    /// Returns whether the remaining body is known and arrives by itself.
    pub(crate) fn is_cheap(&self) -> bool {
        self.came == self.declared.unwrap_or(0) && !self.expects_continue
    }
}

/// A final response.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) path: Option<String>,
    pub(crate) read: Option<u64>,
    pub(crate) closes: bool,
    pub(crate) is_whole: bool,
}

const FIELDS: usize = 100;

type Fields<'a, 'h> = &'a [httparse::Header<'h>];

fn lines<'a>(fields: Fields<'a, '_>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let fields = fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    fields.map(|field| field.value)
}

fn says(fields: Fields<'_, '_>, name: &str, word: &str) -> bool {
    let mut words = lines(fields, name).flat_map(|line| line.split(|byte| *byte == b','));
    words.any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

fn number(text: &[u8]) -> Option<u64> {
    let is_decimal = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_decimal.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

/// How a body ends.
enum Framing {
    Length(u64),
    Chunked,
    ToTheEnd,
}

/// The part of a body that has arrived.
struct Content<'a> {
    bytes: u64,
    end: End<'a>,
}

enum End<'a> {
    /// The body is whole. These bytes follow it.
    Here(&'a [u8]),
    NotYet,
    Malformed,
}

fn content<'a>(framing: &Framing, bytes: &'a [u8]) -> Content<'a> {
    let there = bytes.len() as u64;
    match framing {
        Framing::Chunked => chunked(bytes),
        Framing::ToTheEnd => Content {
            bytes: there,
            end: End::Here(&[]),
        },
        Framing::Length(length) if *length <= there => Content {
            bytes: *length,
            end: End::Here(&bytes[*length as usize..]),
        },
        Framing::Length(_) => Content {
            bytes: there,
            end: End::NotYet,
        },
    }
}

/// Parses the chunked coding (RFC 9112 §7.1).
fn chunked(mut bytes: &[u8]) -> Content<'_> {
    let mut came = 0;
    let end = loop {
        let (line, behind) = match line(bytes) {
            Ok(found) => found,
            Err(end) => break end,
        };
        let Some(size) = chunk_size(line) else {
            break End::Malformed;
        };
        bytes = behind;
        if size == 0 {
            break trailers(bytes);
        }
        let there = (bytes.len() as u64).min(size);
        came += there;
        bytes = &bytes[there as usize..];
        match bytes {
            [b'\r', b'\n', behind @ ..] if there == size => bytes = behind,
            [] | [b'\r'] => break End::NotYet,
            _ => break End::Malformed,
        }
    };
    Content { bytes: came, end }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    if !size.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

fn trailers(mut bytes: &[u8]) -> End<'_> {
    loop {
        match line(bytes) {
            Ok(([], behind)) => return End::Here(behind),
            Ok((_, behind)) => bytes = behind,
            Err(end) => return end,
        }
    }
}

/// Returns the next line without its line end, and the bytes after it.
fn line(bytes: &[u8]) -> Result<(&[u8], &[u8]), End<'_>> {
    let end = bytes.iter().position(|byte| *byte == b'\r');
    let (line, behind) = bytes.split_at(end.unwrap_or(bytes.len()));
    match behind {
        _ if line.contains(&b'\n') => Err(End::Malformed),
        [] | [_] => Err(End::NotYet),
        [_, b'\n', behind @ ..] => Ok((line, behind)),
        _ => Err(End::Malformed),
    }
}

/// Returns the requests in a client's bytes, and whether no other bytes are left.
pub(crate) fn requests(mut bytes: &[u8]) -> (Vec<Asked>, bool) {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let Some((asked, behind)) = request(bytes) else {
            return (requests, false);
        };
        let goes_on = asked.is_whole && !asked.closes;
        requests.push(asked);
        bytes = behind;
        if !goes_on {
            break;
        }
    }
    let is_all = bytes.is_empty() && requests.iter().all(|asked| asked.is_whole);
    (requests, is_all)
}

fn request(bytes: &[u8]) -> Option<(Asked, &[u8])> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else {
        return None;
    };
    let is_http11 = head.version == Some(1);
    let fields = &*head.headers;
    let coded: Vec<_> = lines(fields, "transfer-encoding").collect();
    let lengths: Vec<_> = lines(fields, "content-length").collect();
    let mut declared = None;
    let framing = if let Some(last) = coded.last() {
        let last = last.rsplit(|byte| *byte == b',').next()?.trim_ascii();
        if !is_http11 || !last.eq_ignore_ascii_case(b"chunked") {
            return None;
        }
        Framing::Chunked
    } else {
        for length in &lengths {
            let length = number(length)?;
            if declared.is_some_and(|declared| declared != length) {
                return None;
            }
            declared = Some(length);
        }
        Framing::Length(declared.unwrap_or(0))
    };
    let keeps = is_http11 || says(fields, "connection", "keep-alive");
    let closes =
        !keeps || says(fields, "connection", "close") || !(coded.is_empty() || lengths.is_empty());
    let mut asked = Asked {
        method: head.method?.to_owned(),
        path: head.path?.to_owned(),
        is_http11,
        declared,
        expects_continue: says(fields, "expect", "100-continue"),
        upgrades: lines(fields, "upgrade").next().is_some() || head.method == Some("CONNECT"),
        came: 0,
        is_whole: false,
        closes,
    };
    let content = content(&framing, &bytes[length..]);
    asked.came = content.bytes;
    let End::Here(behind) = content.end else {
        return Some((asked, &[]));
    };
    asked.is_whole = true;
    Some((asked, behind))
}

/// Returns the responses to these requests, and whether there are no other bytes.
pub(crate) fn answers(mut bytes: &[u8], requests: &[Asked]) -> (Vec<Answered>, bool) {
    let mut responses: Vec<Answered> = Vec::new();
    while !bytes.is_empty() {
        if responses.iter().any(|response| response.closes) {
            return (responses, false);
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => break,
            Err(_) => return (responses, false),
        };
        bytes = &bytes[length..];
        let status = head.code.expect("a status");
        let request = requests.get(responses.len());
        if status < 200 {
            let expects = request.is_some_and(|request| request.expects_continue);
            assert!(status == 100 && expects, "{status} was not requested");
            continue;
        }
        let fields = &*head.headers;
        let keeps = head.version == Some(1) || says(fields, "connection", "keep-alive");
        let lengths: Vec<_> = lines(fields, "content-length").collect();
        let is_chunked = says(fields, "transfer-encoding", "chunked");
        assert!(
            lengths.len() + usize::from(is_chunked) <= 1,
            "two lengths contradict each other"
        );
        let framing = match (lengths.first(), request) {
            (_, Some(request)) if request.method == "HEAD" => Framing::Length(0),
            _ if is_chunked => Framing::Chunked,
            (Some(length), _) => Framing::Length(number(length).expect("a length")),
            (None, _) => Framing::ToTheEnd,
        };
        let (is_whole, behind) = match content(&framing, bytes).end {
            End::Here(behind) => (true, behind),
            End::NotYet => (false, &[][..]),
            End::Malformed => return (responses, false),
        };
        bytes = behind;
        responses.push(Answered {
            status,
            path: lines(fields, "x-path").next().map(text),
            read: lines(fields, "x-read").next().and_then(number),
            closes: !keeps || says(fields, "connection", "close") || !is_whole,
            is_whole,
        });
    }
    (responses, true)
}
