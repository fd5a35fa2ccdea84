//! Uploads a file and prints the response.
//!
//! ```text
//! upload-clients CLIENT form|raw URL FILE
//! ```
//!
//! Prints the status and the version in the first line, and the body after it. Exits with 0 if a
//! whole response was read, otherwise with 1 and the error. Any certificate is accepted.

use std::{env, error::Error, fs, process::ExitCode, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, Uri, Version};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use reqwest::multipart;
use tokio_rustls::rustls::crypto::ring;
use ureq::{tls::TlsConfig, unversioned::multipart as ureq_multipart};

const TIMEOUT: Duration = Duration::from_secs(120);
const RAW_TYPE: &str = "application/octet-stream";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Upload {
    is_form: bool,
    url: String,
    content: Bytes,
}

struct Response {
    status: StatusCode,
    version: Version,
    text: String,
}

fn main() -> ExitCode {
    ring::default_provider()
        .install_default()
        .expect("it is the first");
    match run() {
        Ok(Response {
            status,
            version,
            text,
        }) => {
            println!("{} over {version:?}\n{text}", status.as_u16());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("{error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Response> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [client, shape, url, file] = arguments.as_slice() else {
        return Err("usage: upload-clients CLIENT form|raw URL FILE".into());
    };
    let upload = Upload {
        is_form: shape == "form",
        url: url.clone(),
        content: fs::read(file)?.into(),
    };
    match client.as_str() {
        "hyper" => block_on(by_hyper(upload, false)),
        "hyper-h2" => block_on(by_hyper(upload, true)),
        "reqwest" => block_on(by_reqwest(upload, Version::HTTP_11)),
        "reqwest-h2" => block_on(by_reqwest(upload, Version::HTTP_2)),
        "reqwest-blocking" => by_blocking_reqwest(upload),
        "ureq" => by_ureq(&upload),
        other => Err(format!("there is no client {other}").into()),
    }
}

fn block_on(upload: impl Future<Output = Result<Response>>) -> Result<Response> {
    tokio::runtime::Runtime::new()?.block_on(upload)
}

/// hyper makes no forms.
async fn by_hyper(upload: Upload, http2: bool) -> Result<Response> {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(http2)
        .build_http();
    let request = Request::builder()
        .method(Method::POST)
        .uri(upload.url.parse::<Uri>()?)
        .header("content-type", RAW_TYPE)
        .body(Full::new(upload.content))?;
    let response = client.request(request).await?;
    let (status, version) = (response.status(), response.version());
    let text = response.into_body().collect().await?.to_bytes();
    Ok(Response {
        status,
        version,
        text: String::from_utf8(text.into())?,
    })
}

async fn by_reqwest(upload: Upload, version: Version) -> Result<Response> {
    let builder = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .timeout(TIMEOUT);
    let client = match (version, upload.url.starts_with("https:")) {
        (Version::HTTP_2, false) => builder.http2_prior_knowledge(),
        (Version::HTTP_2, true) => builder,
        _ => builder.http1_only(),
    };
    let request = client.build()?.post(&upload.url);
    let request = if upload.is_form {
        let part = multipart::Part::stream(upload.content).file_name("a.bin");
        request.multipart(multipart::Form::new().part("photopicker", part))
    } else {
        request
            .header("content-type", RAW_TYPE)
            .body(upload.content)
    };
    let response = request.send().await?;
    Ok(Response {
        status: response.status(),
        version: response.version(),
        text: response.text().await?,
    })
}

fn by_blocking_reqwest(upload: Upload) -> Result<Response> {
    use reqwest::blocking::{Client, multipart};
    let client = Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .http1_only()
        .timeout(TIMEOUT)
        .build()?;
    let request = client.post(&upload.url);
    let request = if upload.is_form {
        let part = multipart::Part::bytes(upload.content.to_vec()).file_name("a.bin");
        request.multipart(multipart::Form::new().part("photopicker", part))
    } else {
        request
            .header("content-type", RAW_TYPE)
            .body(upload.content)
    };
    let response = request.send()?;
    Ok(Response {
        status: response.status(),
        version: response.version(),
        text: response.text()?,
    })
}

fn by_ureq(upload: &Upload) -> Result<Response> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .tls_config(TlsConfig::builder().disable_verification(true).build())
        .build()
        .into();
    let request = agent.post(&upload.url);
    let mut response = if upload.is_form {
        let part = ureq_multipart::Part::bytes(&upload.content).file_name("a.bin");
        request.send(ureq_multipart::Form::new().part("photopicker", part))?
    } else {
        request
            .content_type(RAW_TYPE)
            .send(upload.content.as_ref())?
    };
    Ok(Response {
        status: response.status(),
        version: response.version(),
        text: response.body_mut().read_to_string()?,
    })
}
