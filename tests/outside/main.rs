//! Tests against programs outside the test process: browsers, curl, proxies, interpreters, and
//! the upload form.

#[path = "../support/server.rs"]
mod server;

mod browsers;
mod clients;
mod cors;
mod differential;
mod form;
#[cfg(feature = "tonic")]
mod grpc_clients;
mod proxies;

fn main() {
    // The browsers take longest, so they begin first.
    testkit::outside::run(&[
        ("browsers", browsers::trials),
        ("form", form::trials),
        ("clients", clients::trials),
        #[cfg(feature = "tonic")]
        ("grpc_clients", grpc_clients::trials),
        ("proxies", proxies::trials),
        ("differential", differential::trials),
        ("cors", cors::trials),
    ]);
}
