//! Clients that leave in every state of an upload: they reset, they close, or they vanish silently.
//! The server must keep nothing of them: no lingering connection, no drain, no task, no file
//! descriptor, and no CPU time.
//!
//! Vanishing takes a cable between two network namespaces, which needs root. These cases differ:
//!
//! - Within the request head, hyper's `header_read_timeout` ends the connection. This state is not
//!   tested here.
//! - Within a body, the server is responsible, too, unless a `min_rate` is set. It is set here.
//! - While a response is in progress, or over HTTP/2, the connection ends when the kernel gives up.
//!   The namespace is configured to give up sooner.

mod leaving;
mod network;
mod scarce;
mod server;
mod states;
mod subject;

pub(crate) use leaving::trials;

/// Plays the role that this process was started for. Returns whether there is one.
pub(crate) fn plays_a_role() -> bool {
    let role = std::env::var_os(subject::ROLE);
    if let Some(role) = &role {
        leaving::play(role.to_str().expect("a known role"));
    }
    role.is_some()
}
