//! Runs all clients, one upload after the other.

use std::{io, sync::Arc};

use url::Url;

use crate::{
    client::{Client, Protocol},
    connection::{Connector, Properties},
    context::Context,
    finding::Severity,
    http1, http2, http3,
    options::Options,
    report::{ClientReport, Report, Run, summarize},
    target::Target,
    volume::Volume,
};

/// Bytes that an upload may need besides its body: heads, chunk sizes, TLS records.
const OVERHEAD: u64 = 1 << 20;

/// An upload that is about to start. A progress bar shows it.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The client that uploads.
    pub client: Client,
    /// How many uploads are over.
    pub done: u64,
    /// The number of all uploads.
    pub total: u64,
}

/// Why a server could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The first connection failed.
    #[error("cannot connect to {url}: {error}. {}", hint(.url))]
    NoConnection {
        /// The URL.
        url: Url,
        /// The reason.
        error: io::Error,
    },
}

fn hint(url: &Url) -> &'static str {
    match url.scheme() {
        "https" => "Does the server run, and is its certificate trusted? --insecure accepts any",
        _ => "Does the server run?",
    }
}

/// Uploads to the target as each client of the options, and judges what arrives.
///
/// `progress` is called before each upload. All connections go to the address of the target.
/// Redirects are not followed.
///
/// Cancel safe: if the future is dropped, its connection is closed.
///
/// # Errors
///
/// Fails if the first connection to the target fails. A later one that fails is a finding.
pub async fn probe(
    target: &Target,
    options: &Options,
    mut progress: impl FnMut(Progress),
) -> Result<Report, ProbeError> {
    let volume = Arc::new(Volume::new(options.max_volume));
    let connector = Connector::new(target, options.timeout, &volume, options.insecure);
    let first = connector.connect(Properties::default()).await.map(drop);
    let mut context = Context {
        target: target.clone(),
        options: options.clone(),
        connector,
        http3: Err("no HTTP/3 client was selected".to_owned()),
    };
    let is_http3 = |client: &Client| client.is_http3();
    // HTTP/3 clients alone need no TCP.
    let reaches = first.is_ok() || options.clients.iter().all(is_http3);
    if reaches && options.clients.iter().any(is_http3) {
        context.http3 = http3::offer(&context).await;
    }
    if let (Err(error), Err(why)) = (first, &context.http3) {
        let url = target.url().clone();
        let error = match reaches {
            true => io::Error::other(why.clone()),
            false => error,
        };
        return Err(ProbeError::NoConnection { url, error });
    }
    let refuses_http2 = match options.clients.iter().any(|client| client.is_http2()) {
        true => http2::refuses(&context).await,
        false => None,
    };
    let total = u64::from(options.runs) * options.clients.len() as u64;
    let mut done = 0;
    let mut clients = Vec::new();
    for client in options.clients.iter().copied() {
        let mut report = ClientReport::new(client);
        if client.is_http2() {
            report.skipped = refuses_http2.map(str::to_owned);
        } else if client.is_http3() {
            report.skipped = context.http3.as_ref().err().cloned();
        }
        for _ in 0..options.runs {
            if report.skipped.is_none() {
                progress(Progress {
                    client,
                    done,
                    total,
                });
                run(client, &context, &volume, &mut report).await;
            }
            done += 1;
        }
        clients.push(report);
    }
    if let Ok(endpoint) = &context.http3 {
        endpoint.finish().await;
    }
    Ok(judge(&context, &volume, clients))
}

/// Uploads once, if the volume allows it.
async fn run(client: Client, context: &Context, volume: &Volume, report: &mut ClientReport) {
    let options = &context.options;
    let mut needed = client.most_sent(options.size).saturating_add(OVERHEAD);
    if client.is_http3() {
        // Packets have heads, and some are lost and sent again.
        needed = needed.saturating_add(options.size / 8);
    }
    let mut skip = || {
        let why = format!("{VOLUME_IS_USED_UP}: {} bytes", options.max_volume);
        report.skipped = Some(why);
    };
    if volume.left() < needed {
        return skip();
    }
    let seen = match client.protocol() {
        Protocol::Http1(plan) => Ok(http1::run(plan, context).await),
        Protocol::Http2(http2) => http2::run(http2, context).await,
        Protocol::Http3(http3) => http3::run(http3, context).await,
    };
    let http3 = context.http3.as_ref();
    if http3.is_ok_and(|endpoint| endpoint.volume_is_used_up()) {
        return skip();
    }
    match seen {
        Ok(seen) => {
            let run = Run::new(seen, options.expected_status, client);
            report.runs.push(run);
        }
        Err(why) => report.skipped = Some(why),
    }
}

const VOLUME_IS_USED_UP: &str = "--max-volume is used up";

fn judge(context: &Context, volume: &Volume, clients: Vec<ClientReport>) -> Report {
    let findings = summarize(&clients);
    let is_used_up = |client: &ClientReport| {
        let reason = client.skipped.as_deref();
        reason.is_some_and(|reason| reason.starts_with(VOLUME_IS_USED_UP))
    };
    let runs = clients.iter().flat_map(|client| &client.runs);
    Report {
        version: env!("CARGO_PKG_VERSION"),
        url: context.target.url().to_string(),
        address: context.target.addr().to_string(),
        size: context.options.size,
        passed: findings.iter().all(|f| f.severity != Severity::Fault),
        judged: runs.clone().any(|run| run.seen.early == Some(true)),
        complete: !clients.iter().any(is_used_up),
        bytes_sent: volume.sent(),
        clients,
        findings,
    }
}
