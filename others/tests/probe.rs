//! The probe judges actix-web, which discards what a refused client still sends, for 1 s.

use std::{process::Command, time::Duration};

use early_response_probe::{Client, Options, Outcome, Target, probe};
use testkit::outside::{Form, example};

#[tokio::test]
async fn responses_of_actix_web_arrive_on_loopback() {
    let actix = Form::start_with(Command::new(example("actix")), &[]);
    let options = Options {
        runs: 3,
        clients: vec![Client::SendsFirst, Client::Stops, Client::ExpectWaits],
        expected_status: Some(413),
        timeout: Duration::from_secs(20),
        ..Options::default()
    };
    let target = Target::new(&actix.url).await.unwrap();
    let report = probe(&target, &options, |_| {}).await.unwrap();
    for client in &report.clients {
        assert_eq!(client.count(Outcome::Whole), 3, "{client:#?}");
    }
}
