//! Prints a table of servers by clients as Markdown. It shows which clients read an early response
//! over HTTP/2, for each way in which a server treats the remaining upload.
//!
//! ```sh
//! cargo bench --bench stream_table
//! ```
//!
//! Each client sends 20 MB over TLS to servers that respond 413 as soon as they have seen the head.
//! A try counts if the client reads that status and ends well. The table takes some minutes.
//!
//! Programs that this machine lacks appear as missing. `npm ci --prefix tests/browser` installs the
//! driver of the browsers. `PYTHON` may name a Python that has httpx with HTTP/2.

/// The TLS server of the upload form.
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
            // Prints each cell when it is known.
            io::stdout().flush().expect("stdout is open");
            let cell = server
                .as_ref()
                .map(|server| client.cell(server.addr, &file));
            print!(" {} |", cell.as_deref().unwrap_or("missing"));
        }
        println!();
    }
    // Connections that still linger are dropped.
    runtime.shutdown_background();
}

fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The text after a dash is the name of a build.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let crates = ["axum", "hyper", "h2"].map(|name| format!("{name} {}", locked(name)));
    let crates = crates.join(", ");
    format!("Over loopback, Linux {kernel}, {cores} cores; {crates}.")
}

/// Returns a dependency's version.
fn locked(name: &str) -> String {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).expect("cargo wrote it to build this");
    let package = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.split_once(&package).expect("this was built with it");
    rest.split('"').next().unwrap_or_default().to_owned()
}
