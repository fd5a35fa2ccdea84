//! Servers of HTTP/3 that are broken in one way each. In all other ways they are good.

use std::{
    future::{Future, pending},
    net::SocketAddr,
    sync::mpsc,
    thread,
};

use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use testkit::tls::Certificate;
use tokio::runtime::Runtime;

use crate::stage::quic;

pub(crate) const H3_NO_ERROR: u32 = 0x100;
const H3_INTERNAL_ERROR: u32 = 0x102;
pub(crate) const H3_REQUEST_CANCELLED: u32 = 0x10c;

/// A `HEADERS` frame with the status 413, in QPACK without Huffman codes (RFC 9204 §4.5).
const REFUSAL: &[u8] = b"\x01\x08\0\0\x5f\x09\x03413";
/// The same with a `Content-Length` of 9, and a `DATA` frame of 5 bytes.
const CUT_REFUSAL: &[u8] = b"\x01\x0b\0\0\x5f\x09\x03413\x54\x019\0\x05short";

/// An interim response with the status 103.
const EARLY_HINTS: &[u8] = b"\x01\x08\0\0\x5f\x09\x03103";
/// The refusal with a `Content-Length` of 5, an empty `DATA` frame, another one, and trailers.
const PIECES: &[u8] = b"\x01\x0b\0\0\x5f\x09\x03413\x54\x015\0\0\0\x05large\x01\x06\0\0\x21x\x011";
/// The refusal with a `Content-Length` of 5, and two empty `DATA` frames before the body.
const EMPTY_FRAMES_AND_BODY: &[u8] = b"\x01\x0b\0\0\x5f\x09\x03413\x54\x015\0\0\0\0\0\x05large";
/// Two empty `DATA` frames.
const EMPTY_FRAMES: &[u8] = b"\0\0\0\0";
/// The refusal with a field whose name has an upper-case letter (RFC 9114 §4.2).
const MALFORMED_REFUSAL: &[u8] = b"\x01\x0c\0\0\x5f\x09\x03413\x21X\x011";

/// The stream of a request.
struct Request {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Request {
    /// Sends the whole response, and waits until the client has it.
    async fn refuse(&mut self) -> Result<(), WriteError> {
        self.send.write_all(REFUSAL).await?;
        // It is an error if the client has gone.
        let _ = self.send.finish();
        let _ = self.send.stopped().await;
        Ok(())
    }

    async fn read_everything(&mut self) {
        while let Ok(Some(_)) = self.receive.read_chunk(usize::MAX, true).await {}
    }
}

/// Accepts connections and streams. Returns the address.
fn serve<F>(handle: impl Fn(Request) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = Result<(), WriteError>> + Send + 'static,
{
    let runtime = Runtime::new().unwrap();
    let endpoint = runtime.block_on(async { quic(&Certificate::new()) });
    let addr = endpoint.local_addr().unwrap();
    thread::spawn(move || {
        runtime.block_on(async {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else {
                    continue;
                };
                tokio::spawn(converse(connection, handle.clone()));
            }
        });
    });
    addr
}

async fn converse<F>(connection: Connection, handle: impl Fn(Request) -> F) -> Option<()>
where
    F: Future<Output = Result<(), WriteError>> + Send + 'static,
{
    // The control stream, with empty settings.
    let mut control = connection.open_uni().await.ok()?;
    control.write_all(&[0, 4, 0]).await.ok()?;
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(handle(Request {
            connection: connection.clone(),
            send,
            receive,
        }));
    }
    Some(())
}

/// The ends of a client's stream and connection.
pub(crate) type Ends = (ReadError, ConnectionError);

/// Refuses, and reads the upload. Sends what it sees of the client's end.
pub(crate) fn notes_the_end(ends: mpsc::Sender<Ends>) -> SocketAddr {
    serve(move |mut request| {
        let ends = ends.clone();
        async move {
            request.refuse().await?;
            let stream_end = loop {
                match request.receive.read_chunk(usize::MAX, true).await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(()),
                    Err(error) => break error,
                }
            };
            let connection_end = request.connection.closed().await;
            // The test may have failed.
            let _ = ends.send((stream_end, connection_end));
            Ok(())
        }
    })
}

pub(crate) fn stops_uploads<const CODE: u32>() -> SocketAddr {
    serve(|mut request| async move {
        request.refuse().await?;
        let _ = request.receive.stop(CODE.into());
        Ok(())
    })
}

pub(crate) fn resets_its_response() -> SocketAddr {
    serve(|mut request| async move {
        request.send.write_all(REFUSAL).await?;
        let _ = request.send.reset(H3_INTERNAL_ERROR.into());
        request.read_everything().await;
        Ok(())
    })
}

pub(crate) fn cuts_its_response() -> SocketAddr {
    serve(|mut request| async move {
        request.send.write_all(CUT_REFUSAL).await?;
        let _ = request.send.finish();
        request.read_everything().await;
        Ok(())
    })
}

/// Sends an interim response before its refusal. Has no fault.
pub(crate) fn responds_in_pieces() -> SocketAddr {
    serve(|mut request| async move {
        let both = [EARLY_HINTS, PIECES].concat();
        request.send.write_all(&both).await?;
        let _ = request.send.finish();
        request.read_everything().await;
        Ok(())
    })
}

/// Sends empty `DATA` frames before its body. Has no fault.
pub(crate) fn responds_with_empty_frames() -> SocketAddr {
    serve(|mut request| async move {
        request.send.write_all(EMPTY_FRAMES_AND_BODY).await?;
        let _ = request.send.finish();
        request.read_everything().await;
        Ok(())
    })
}

/// Sends a head and empty `DATA` frames, and does not end its response.
pub(crate) fn never_ends_behind_empty_frames() -> SocketAddr {
    serve(|mut request| async move {
        let both = [REFUSAL, EMPTY_FRAMES].concat();
        request.send.write_all(&both).await?;
        request.read_everything().await;
        pending().await
    })
}

/// Sends an interim response before one that is malformed, and does not end it.
pub(crate) fn responds_malformed() -> SocketAddr {
    serve(|mut request| async move {
        let both = [EARLY_HINTS, MALFORMED_REFUSAL].concat();
        request.send.write_all(&both).await?;
        request.read_everything().await;
        Ok(())
    })
}

pub(crate) fn closes_the_connection() -> SocketAddr {
    serve(|request| async move {
        request.connection.close(H3_INTERNAL_ERROR.into(), b"");
        Ok(())
    })
}

pub(crate) fn neither_reads_nor_stops() -> SocketAddr {
    serve(|mut request| async move {
        request.refuse().await?;
        pending().await
    })
}

pub(crate) fn neither_reads_nor_responds() -> SocketAddr {
    serve(|request| async move {
        let _open = request;
        pending().await
    })
}

pub(crate) fn never_ends_its_response() -> SocketAddr {
    serve(|mut request| async move {
        request.send.write_all(REFUSAL).await?;
        request.read_everything().await;
        pending().await
    })
}
