//! Calls whose client only sends, and whose response comes at the end.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Server};
use tower_bodyguard::{BodyGuardLayer, Linger};

use super::stage::{
    CARELESS_PUT, Client, FORMS, Form, LIMIT, PUT, assert_refused, assert_total, messages,
    on_the_wire, serve, serve_by, tries,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_read() {
    for form in FORMS {
        let client = Client::connect(serve(form, LIMIT).await).await;
        for _ in 0..tries() {
            assert_refused(client.send(PUT, 20_000_000).await);
        }
        assert_total(client.send(PUT, 1 << 20).await, 1 << 20);
    }
}

/// The handler maps the decoder's error to a status of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_own_word_is_replaced() {
    for form in FORMS {
        let client = Client::connect(serve(form, LIMIT).await).await;
        for _ in 0..tries() {
            assert_refused(client.send(CARELESS_PUT, 20_000_000).await);
        }
    }
}

/// The limit counts the bytes on the wire, prefixes and tags included.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_itself_passes() {
    let limit = on_the_wire(messages(1_000_000));
    for form in FORMS {
        let client = Client::connect(serve(form, limit).await).await;
        assert_total(client.send(PUT, 999_999).await, 999_999);
        assert_total(client.send(PUT, 1_000_000).await, 1_000_000);
        let refused = client.send(PUT, 1_000_001).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let limit = format!("({limit} bytes)");
        assert!(refused.message().contains(&limit), "{refused:?}");
    }
}

/// A call sends one message, and the next one after another call was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_goes_on_is_unharmed() {
    for form in FORMS {
        let client = Client::connect(serve(form, LIMIT).await).await;
        let (sender, slow) = mpsc::channel(1);
        let slow = tokio::spawn({
            let client = client.clone();
            async move { client.stream(PUT, ReceiverStream::new(slow)).await }
        });
        for message in messages(20 * 64 * 1024) {
            sender.send(message).await.expect("the call continues");
            assert_refused(client.send(PUT, 20_000_000).await);
        }
        drop(sender);
        assert_total(slow.await.unwrap(), 20 * 64 * 1024);
    }
}

/// Several calls are refused concurrently on one connection.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_at_once_do_no_harm() {
    let client = Client::connect(serve(Form::Layered, LIMIT).await).await;
    let calls = (0..20).map(|n| {
        let client = client.clone();
        let length = if n % 2 == 0 { 20_000_000 } else { 1 << 20 };
        (
            length,
            tokio::spawn(async move { client.send(PUT, length).await }),
        )
    });
    for (length, call) in calls.collect::<Vec<_>>() {
        let result = call.await.unwrap();
        match length > LIMIT {
            true => assert_refused(result),
            false => assert_total(result, length),
        }
    }
}

/// Connects a client to a server with these settings.
async fn client_of(guard: BodyGuardLayer) -> Client {
    let linger = Linger::default();
    Client::connect(serve_by(Server::builder(), &linger, Form::Layered, guard).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_limit_is_not_told() {
    let client = client_of(BodyGuardLayer::new(LIMIT).hide_limit()).await;
    let refused = client.send(PUT, 20_000_000).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(!refused.message().is_empty());
    assert!(!refused.message().contains("4194304"), "{refused:?}");
}

/// gRPC clients declare no length for a stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_length_is_an_invalid_argument() {
    let client = client_of(BodyGuardLayer::new(LIMIT).require_content_length()).await;
    let refused = client.send(PUT, 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn handler_may_keep_its_own_response() {
    let client = client_of(BodyGuardLayer::new(LIMIT).keep_handler_response()).await;
    let refused = client.send(CARELESS_PUT, 20_000_000).await.unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss, "{refused:?}");
}
