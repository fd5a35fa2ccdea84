//! A client that writes everything before it reads, as browsers do.
//!
//! It blocks deliberately, because the result of each system call matters.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};
#[cfg(unix)]
use std::{os::unix::net::UnixStream, path::Path};

/// The longest time that a test waits for a socket.
pub const PATIENCE: Duration = Duration::from_secs(60);

const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    ContentLength,
    Chunked,
}

pub const FRAMINGS: [Framing; 2] = [Framing::ContentLength, Framing::Chunked];

/// How the server's side of the connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The server sent a FIN.
    Cleanly,
    /// The server reset the connection, or did not end it within [`PATIENCE`].
    Badly(io::Error),
}

/// The client's observations.
#[derive(Debug)]
pub struct Outcome {
    pub write_error: Option<io::Error>,
    pub received: Vec<u8>,
    pub ended: Ended,
}

/// A request whose body is `length` zeros.
#[derive(Clone, Debug)]
pub struct SendFirst {
    pub method: &'static str,
    pub path: &'static str,
    pub headers: String,
    pub framing: Framing,
    pub length: u64,
    /// The first bytes of the body.
    pub prefix: Vec<u8>,
}

impl SendFirst {
    pub fn post(path: &'static str, framing: Framing, length: u64) -> Self {
        Self {
            method: "POST",
            path,
            headers: String::new(),
            framing,
            length,
            prefix: Vec::new(),
        }
    }

    /// Returns a multipart form with one file that never ends.
    pub fn form(path: &'static str, framing: Framing, length: u64) -> Self {
        let mut form = Self::post(path, framing, length)
            .header("Content-Type: multipart/form-data; boundary=xyz");
        form.prefix = b"--xyz\r\nContent-Disposition: form-data; name=\"photopicker\"; \
            filename=\"a.jpg\"\r\n\r\n"
            .to_vec();
        form
    }

    pub fn header(mut self, line: &str) -> Self {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }

    pub fn head(&self) -> String {
        let framing = match self.framing {
            Framing::ContentLength => format!("Content-Length: {}", self.length),
            Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
        };
        let Self {
            method,
            path,
            headers,
            ..
        } = self;
        format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}{framing}\r\n\r\n")
    }

    /// Sends the request over a new connection.
    pub fn to(&self, addr: SocketAddr) -> Outcome {
        self.over(connect(addr))
    }

    /// Sends the request over a connection that has its own timeouts.
    pub fn over(&self, mut socket: impl Read + Write) -> Outcome {
        let write_error = self.write(&mut socket).err();
        let (received, ended) = read_to_end(&mut socket);
        Outcome {
            write_error,
            received,
            ended,
        }
    }

    pub fn write(&self, socket: &mut impl Write) -> io::Result<()> {
        socket.write_all(self.head().as_bytes())?;
        let zeros = [b'0'; CHUNK];
        let mut left = self.length;
        while left > 0 {
            let part = match left == self.length && !self.prefix.is_empty() {
                true => &self.prefix[..],
                false => &zeros[..left.min(CHUNK as u64) as usize],
            };
            match self.framing {
                Framing::ContentLength => socket.write_all(part)?,
                Framing::Chunked => write_chunk(socket, part)?,
            }
            left -= part.len() as u64;
        }
        match self.framing {
            Framing::ContentLength => Ok(()),
            Framing::Chunked => socket.write_all(b"0\r\n\r\n"),
        }
    }
}

pub fn write_chunk(socket: &mut impl Write, data: &[u8]) -> io::Result<()> {
    write!(socket, "{:x}\r\n", data.len())?;
    socket.write_all(data)?;
    socket.write_all(b"\r\n")
}

/// Reads everything up to the end of the connection, clean or not.
pub fn read_to_end(socket: &mut impl Read) -> (Vec<u8>, Ended) {
    let mut received = Vec::new();
    let ended = match socket.read_to_end(&mut received) {
        Ok(_) => Ended::Cleanly,
        Err(error) => Ended::Badly(error),
    };
    (received, ended)
}

impl Outcome {
    /// Asserts the guarantee: no write failed, one whole response arrived, and the end was clean.
    #[track_caller]
    pub fn assert_delivered(&self, status: u16) -> Response {
        if let Some(error) = &self.write_error {
            panic!("a write failed: {error}; received {}", self.text());
        }
        if let Ended::Badly(error) = &self.ended {
            panic!("the end was not clean: {error}; received {}", self.text());
        }
        let (response, rest) = Response::parse(&self.received)
            .unwrap_or_else(|| panic!("no whole response in {}", self.text()));
        assert_eq!(response.status, status, "{}", self.text());
        assert!(rest.is_empty(), "more than one response: {}", self.text());
        response
    }

    /// Returns whether the client saw a reset.
    pub fn was_reset(&self) -> bool {
        self.write_error.is_some() || matches!(self.ended, Ended::Badly(_))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received[..self.received.len().min(2000)]).into_owned()
    }
}

/// A response with a length, with chunked coding, or without a body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The bytes of the body, which may not be text.
    pub content: Vec<u8>,
}

impl Response {
    /// Returns the first response and the bytes after it. Returns `None` if it is not whole.
    pub fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let field = |field| headers.iter().find(|(name, _)| name == field);
        let rest = &bytes[end + 4..];
        let (content, rest) = if field("transfer-encoding").is_some() {
            chunks(rest)?
        } else {
            let length = field("content-length").map_or(Some(0), |(_, value)| value.parse().ok());
            let (content, rest) = rest.split_at_checked(length?)?;
            (content.to_vec(), rest)
        };
        let response = Self {
            status,
            headers,
            body: String::from_utf8_lossy(&content).into_owned(),
            content,
        };
        Some((response, rest))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Returns the content of chunks without trailers, and the bytes after the last chunk.
fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut content = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        let (chunk, rest) = bytes[end + 2..].split_at_checked(size)?;
        content.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some((content, bytes));
        }
    }
}

/// A client's socket as on Windows and macOS: when the server resets the connection, the client loses
/// what it has received and not read. Linux keeps that data readable.
#[derive(Debug)]
pub struct LosesUnread {
    socket: TcpStream,
    is_reset: bool,
}

impl LosesUnread {
    pub fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            is_reset: false,
        }
    }

    fn fail<T>(&mut self, error: io::Error) -> io::Result<T> {
        self.is_reset |= matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        );
        Err(error)
    }
}

impl Read for LosesUnread {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // A reset that has arrived is pending as an error, even if data is before it in the queue.
        if let Some(error) = self.socket.take_error()? {
            return self.fail(error);
        }
        if self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        match self.socket.read(buf) {
            Ok(read) => Ok(read),
            Err(error) => self.fail(error),
        }
    }
}

impl Write for LosesUnread {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.socket.write(buf) {
            Ok(written) => Ok(written),
            Err(error) => self.fail(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Connects with timeouts.
pub fn connect(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Connects to a Unix socket, with the same timeouts.
#[cfg(unix)]
pub fn connect_unix(path: &Path) -> UnixStream {
    let socket = UnixStream::connect(path).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a GET request over a new connection, and reads its response.
pub fn get(addr: SocketAddr, path: &str) -> Response {
    let mut socket = connect(addr);
    let get = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    socket.write_all(get.as_bytes()).unwrap();
    read_response(&mut socket).unwrap()
}

/// Reads a head, and no byte after it.
pub fn read_head(socket: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a whole head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("heads are text")
}

/// Reads until one response is whole.
pub fn read_response(socket: &mut impl Read) -> io::Result<Response> {
    let mut received = Vec::new();
    loop {
        if let Some((response, rest)) = Response::parse(&received) {
            assert!(rest.is_empty(), "more than one response");
            return Ok(response);
        }
        let mut buffer = [0; CHUNK];
        match socket.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => received.extend_from_slice(&buffer[..read]),
        }
    }
}
