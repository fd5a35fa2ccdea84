//! Calls that get responses while they still send.

use std::iter::once;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use testkit::client::PATIENCE;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tower_bodyguard::Limit;

use super::stage::{
    CARELESS_COUNT, COUNT, Client, FORMS, LIMIT, PUT, SILENT, assert_refused, messages, serve,
};

/// The response has begun when the limit is exceeded. The messages sent so far arrive, and then the
/// status.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_in_progress_ends_with_the_refusal() {
    for form in FORMS {
        let client = Client::connect(serve(form, LIMIT).await).await;
        for method in [COUNT, CARELESS_COUNT, SILENT] {
            let (sender, sent) = mpsc::channel(1);
            let call = client.converse(method, ReceiverStream::new(sent));
            let send_first = sender.send(Bytes::from_static(b"ten bytes!"));
            let (call, first) = tokio::join!(call, send_first);
            first.expect("the call continues");
            let mut replies = call.expect("it is within the limit so far");
            let first = replies.message().await.expect("no refusal yet");
            assert_eq!(first, Some(if method == SILENT { 0 } else { 10 }));

            tokio::spawn(async move {
                for message in messages(20_000_000) {
                    if sender.send(message).await.is_err() {
                        break;
                    }
                }
            });
            let rest = timeout(PATIENCE, replies.try_collect::<Vec<_>>()).await;
            assert_refused(rest.expect("it comes to an end"));
        }
        // Each message up to the limit is counted, or the call is refused.
        let lengths = client.converse(COUNT, stream::iter(messages(1 << 20)));
        let lengths: Vec<u64> = lengths.await.unwrap().try_collect().await.unwrap();
        assert_eq!(lengths.iter().sum::<u64>(), 1 << 20);
    }
}

/// A method that never ends is exempt by its path.
#[tokio::test(flavor = "multi_thread")]
async fn an_exempt_method_is_not_limited() {
    let limit = Limit::from_fn(|head| match head.uri.path() {
        COUNT => Limit::unlimited(),
        _ => Limit::max(LIMIT),
    });
    for form in FORMS {
        let client = Client::connect(serve(form, limit.clone()).await).await;
        let sent = messages(20_000_000).chain(once(Bytes::from_static(b"the last")));
        let lengths = client.converse(COUNT, stream::iter(sent)).await.unwrap();
        let lengths: Vec<_> = lengths.map(Result::unwrap).collect().await;
        assert_eq!(lengths.iter().sum::<u64>(), 20_000_008);
        assert_eq!(lengths.last(), Some(&8));
        assert_refused(client.send(PUT, 20_000_000).await);
    }
}
