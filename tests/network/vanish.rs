//! Clients that leave, in every state of an upload: they reset, they close, or nothing is
//! heard of them any more. What is left of them is nothing: no linger, no drain, no task, no
//! descriptor, and no turn of the processor.
//!
//! Those that vanish do so across a cable between two network namespaces, which takes root.
//! Not among their states is the head: whoever vanishes within it is the server's
//! (`header_read_timeout` of hyper), as is one within a body, unless a `min_rate` is set, as
//! it is here. An answer that is under way then, or a connection of HTTP/2, ends when the
//! kernel gives up, which the namespace has do so sooner.

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
        leaving::play(role.to_str().expect("it is one of ours"));
    }
    role.is_some()
}
