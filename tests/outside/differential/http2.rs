//! HTTP/2 over TLS: concurrent uploads on one connection, and one after them.

use proptest::{collection::vec, prelude::*};
use testkit::{
    client::PATIENCE,
    streams::{Client, Patience, Responses, Streams, Upload, clients, frames, play_streams},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    compare::{Tally, Version},
    script::{LIMIT, lengths},
};

/// An upload that finds the connection intact.
const LAST: Upload = Upload {
    path: "/raw",
    length: 1000,
    declares_length: true,
    frame: 1000,
    client: Client::Stops,
};

pub(crate) struct Http2;

impl Version for Http2 {
    type Script = Streams;
    type Seen = Responses;

    const ALPN: Option<&'static [u8]> = Some(b"h2");

    fn scripts() -> impl Strategy<Value = Streams> {
        let what = (lengths(), any::<bool>(), frames(), clients());
        let upload = what.prop_map(|(length, declares_length, frame, client)| Upload {
            path: "/raw",
            length,
            declares_length,
            frame,
            client,
        });
        vec(upload, 1..4)
    }

    async fn play<T>(streams: &Streams, socket: T, nginxs: Option<&Responses>) -> Responses
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let patience = match nginxs {
            None => Patience::SHORT,
            Some(nginxs) => Patience::for_what(PATIENCE, nginxs),
        };
        play_streams(streams, Some(&LAST), socket, &patience).await
    }

    fn difference(streams: &Streams, ours: &Responses, nginxs: &Responses) -> Option<&'static str> {
        let uploads = streams.iter().chain([&LAST]);
        let mut played = uploads.zip(ours.iter().zip(nginxs));
        played.find_map(|(upload, (ours, nginxs))| {
            let status = if upload.length > LIMIT { 413 } else { 200 };
            if nginxs.is_some_and(|nginxs| nginxs.status != status) {
                return Some("nginx's status does not match the limit");
            }
            // Every client is owed a response, even if nginx loses it.
            let Some(ours) = ours else {
                return Some("a response is missing");
            };
            if ours.status != status {
                return Some("another status");
            }
            if status == 200 && ours.counted != Some(upload.length) {
                return Some("not all of the body was read");
            }
            if nginxs.is_some_and(|nginxs| nginxs.early) && !ours.early {
                return Some("a response waits for the second half of the body");
            }
            None
        })
    }

    fn count(tally: &Tally, streams: &Streams, _: &Responses, nginxs: &Responses) {
        let refused = streams
            .iter()
            .filter(|upload| upload.length > LIMIT)
            .count();
        Tally::add(&tally.refused, refused);
        Tally::add(&tally.accepted, streams.len() - refused);
        let delivered = nginxs.iter().flatten();
        Tally::add(&tally.by_nginx, delivered.clone().count());
        Tally::add(&tally.nginx_lost, nginxs.len() - delivered.clone().count());
        Tally::add(
            &tally.early,
            delivered.filter(|response| response.early).count(),
        );
    }
}
