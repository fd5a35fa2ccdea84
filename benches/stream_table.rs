//! Who reads an early answer over HTTP/2, by what the server does with the rest of the
//! upload: a table of servers by clients, as Markdown.
//!
//! ```sh
//! cargo bench --bench stream_table
//! ```
//!
//! Each client sends 20 MB, over TLS, to servers that answer 413 as soon as they have seen
//! the head. A try counts where the client reads that status and ends well. It takes some
//! minutes.
//!
//! What this machine does not have is in the table as missing. The driver of the browsers
//! comes by `npm ci --prefix tests/browser`, and `PYTHON` may name a Python that has httpx
//! with HTTP/2.

/// That of the upload form.
#[path = "../examples/upload_form/tls.rs"]
mod tls;

mod stream_table {
    pub(crate) mod clients;
    pub(crate) mod programs;
    pub(crate) mod servers;
}

use std::{
    fs,
    io::{self, Write},
    path::Path,
    thread,
};

use stream_table::{clients, servers};
use testkit::outside::file_of;

const MB_20: usize = 20_000_000;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = file_of(folder.path(), MB_20);
    let clients = clients::all();
    let runtime = tokio::runtime::Runtime::new().expect("it starts");

    println!("{}\n", machine());
    let names: Vec<_> = clients.iter().map(|client| client.name.as_str()).collect();
    println!("| the server | {} |", names.join(" | "));
    println!("| --- |{}", " --- |".repeat(clients.len()));
    for (name, start) in servers::all() {
        let server = start(&runtime);
        print!("| {name} |");
        for client in &clients {
            // Each when it is there, for those who wait.
            io::stdout().flush().expect("somebody reads it");
            let cell = server
                .as_ref()
                .map(|server| client.cell(server.addr, &file));
            print!(" {} |", cell.as_deref().unwrap_or("missing"));
        }
        println!();
    }
    // Connections that linger are nobody's business any more.
    runtime.shutdown_background();
}

fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows a dash is the name of a build.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let crates = ["axum", "hyper", "h2"].map(|name| format!("{name} {}", locked(name)));
    let crates = crates.join(", ");
    format!("Over loopback, Linux {kernel}, {cores} cores; {crates}.")
}

/// A dependency's version.
fn locked(name: &str) -> String {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).expect("cargo wrote it to build this");
    let package = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.split_once(&package).expect("this was built with it");
    rest.split('"').next().unwrap_or_default().to_owned()
}
