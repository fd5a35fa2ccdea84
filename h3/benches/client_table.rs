//! Prints the table of docs/HTTP3.md: how many of several tries (`TRIES`, 5 if not set) each client
//! had its responses, by the loop that serves them. A missing client is an error.

#[path = "../tests/support/clients.rs"]
mod clients;
#[path = "../tests/support/h3_client.rs"]
mod h3_client;
#[path = "../tests/support/servers.rs"]
mod servers;

use std::env;

use clients::{CLIENTS, Client, LOOPS, PATIENCE};

fn main() {
    // `cargo test --benches` asks for the list of tests.
    if env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let tries = env::var("TRIES").map_or(5, |tries| tries.parse().expect("TRIES is a number"));
    for client in CLIENTS {
        let missing = client.needs().into_iter().find(|need| need.missing);
        assert!(missing.is_none(), "{}", missing.unwrap().name);
    }
    println!("| client | request | h3-axum | h3-axum and `DeliveryLayer` | `tower-bodyguard-h3` |");
    println!("| --- | --- | --- | --- | --- |");
    for client in CLIENTS {
        let columns = LOOPS.map(|which| {
            let scenarios = client.scenarios().repeat(tries);
            let seen = client.play(which, &scenarios, PATIENCE);
            seen.unwrap_or_else(|error| panic!("{client:?} {which:?}: {error}"))
        });
        for (number, scenario) in client.scenarios().iter().enumerate() {
            let step = client.scenarios().len();
            let had = |column: &Vec<clients::Seen>| {
                let tries = column.iter().skip(number).step_by(step);
                tries.filter(|seen| seen.is_ok()).count()
            };
            let [alone, with_layer, ours] = columns.each_ref().map(had);
            let request = words(client, scenario);
            println!(
                "| {} | {request} | {alone}/{tries} | {with_layer}/{tries} | {ours}/{tries} |",
                client.name()
            );
        }
    }
}

/// Returns the name of a scenario for readers.
fn words(client: Client, scenario: &str) -> String {
    match (client, scenario) {
        (_, "413_declared") => "413, declared length, 20 MB".to_owned(),
        (_, "413_streamed") => "413, no length, 20 MB".to_owned(),
        (_, "401" | "404") => format!("{scenario}, 20 MB"),
        (_, "accepted") => "accepted, 3 MB".to_owned(),
        (_, "get") => "GET".to_owned(),
        (_, "twenty_on_one") => "20 requests on a connection".to_owned(),
        (_, "ten_at_once") => "10 uploads at once, 5 refused".to_owned(),
        (_, "413_stream_20MB") => "413, fetch from a stream, 20 MB".to_owned(),
        _ => scenario
            .replace('_', ", ")
            .replace("kB", " kB")
            .replace("MB", " MB"),
    }
}
