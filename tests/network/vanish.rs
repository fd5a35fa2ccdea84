//! Clients that leave, in every state of an upload: they reset, they close, or nothing is
//! heard of them any more. What is left of them is nothing: no linger, no drain, no task, no
//! descriptor, and no turn of the processor.
//!
//! Those that vanish do so across a cable between two network namespaces, which takes root.
//! Not among their states is the head: whoever vanishes within it is the server's
//! (`header_read_timeout` of hyper), as is one within a body, unless a `min_rate` is set, as
//! it is here. An answer that is under way then, or a connection of HTTP/2, ends when the
//! kernel gives up, which the namespace has do so sooner.

// What is known of a process is Linux's.
#[cfg(target_os = "linux")]
mod support;

#[cfg(target_os = "linux")]
mod vanish {
    pub(crate) mod leaving;
    pub(crate) mod network;
    pub(crate) mod scarce;
    pub(crate) mod server;
    pub(crate) mod states;
    pub(crate) mod subject;
}

#[cfg(target_os = "linux")]
fn main() {
    use libtest_mimic::Arguments;
    use vanish::{leaving, subject::ROLE};

    if let Some(role) = std::env::var_os(ROLE) {
        leaving::play(role.to_str().expect("it is one of ours"));
        return;
    }
    libtest_mimic::run(&Arguments::from_args(), leaving::trials()).exit();
}

#[cfg(not(target_os = "linux"))]
fn main() {}
