//! Clients that leave in every state of an upload: they reset, they close, or they vanish silently.
//! The server must keep nothing of them: no lingering connection, no drain, no task, no file
//! descriptor, and no CPU time.
//!
//! Vanishing takes a cable between two network namespaces, which needs root. The request head is
//! not among the states of a client that vanishes: hyper's `header_read_timeout` covers that. A
//! client within a body is up to the server as well, unless a `min_rate` is set, as it is here. If
//! a response is in progress, or the connection is HTTP/2, the connection ends when the kernel
//! gives up. The namespace is configured to give up sooner.

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
