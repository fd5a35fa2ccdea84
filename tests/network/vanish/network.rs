//! Two hosts and the cable between them, as network namespaces.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio, id},
    sync::atomic::{AtomicUsize, Ordering},
};

use libtest_mimic::Failed;
use testkit::outside::{Need, succeed};

use super::subject::within;

/// Of the server.
pub(crate) const ADDRESS: &str = "10.93.7.2";

const CLIENTS_ADDRESS: &str = "10.93.7.1";

/// So that the server does not notice that nobody answers for it.
const CLIENTS_MAC: &str = "02:00:00:00:00:01";

pub(crate) fn needs() -> Vec<Need> {
    // As another process of its own, which may be let make one and not the other.
    let name = format!("bodyguard-try-{}", id());
    let make = format!(
        "ip netns add {name} && ip -n {name} link add try type veth peer name yrt; \
         made=$?; ip netns del {name}; exit $made"
    );
    let mut check = Command::new("sh");
    check.args(["-c", &make]).stderr(Stdio::null());
    vec![
        Need::root(),
        Need::program("ip"),
        Need::check("no network namespaces, or no veth", &mut check),
    ]
}

pub(crate) struct Network {
    pub(crate) client: String,
    pub(crate) server: String,
}

impl Network {
    pub(crate) fn make() -> Result<Self, Failed> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("bodyguard-{side}-{}-{number}", id());
        let network = Self {
            client: name("c"),
            server: name("s"),
        };
        let Self { client, server } = &network;
        for command in [
            format!("netns add {client}"),
            format!("netns add {server}"),
            format!(
                "link add c0 netns {client} address {CLIENTS_MAC} type veth \
                 peer name s0 netns {server}"
            ),
            format!("-n {client} addr add {CLIENTS_ADDRESS}/24 dev c0"),
            format!("-n {server} addr add {ADDRESS}/24 dev s0"),
            format!("-n {client} link set c0 up"),
            format!("-n {server} link set s0 up"),
            format!("-n {server} link set lo up"),
            format!(
                "-n {server} neigh replace {CLIENTS_ADDRESS} lladdr {CLIENTS_MAC} dev s0 \
                 nud permanent"
            ),
        ] {
            ip(&command)?;
        }
        // A quarter of an hour is what a kernel has for a client that confirms nothing.
        let mut sysctl = Command::new("sh");
        sysctl.args(["-c", "echo 3 > /proc/sys/net/ipv4/tcp_retries2"]);
        succeed(&mut within(server, &sysctl))?;
        Ok(network)
    }

    /// From now on no packet of the clients' arrives, and none at them.
    pub(crate) fn cut(&self) -> Result<(), Failed> {
        ip(&format!("-n {} link set c0 down", self.client))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            // It may never have been made.
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

fn ip(words: &str) -> Result<(), Failed> {
    succeed(Command::new("ip").args(words.split_whitespace())).map(drop)
}

/// Clients in a process of their own.
pub(crate) struct Clients(Child);

impl Clients {
    /// Back when it says that all of them are there.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it can be run");
        let stdout = process.stdout.take().expect("it is piped");
        let clients = Self(process);
        let said = BufReader::new(stdout).lines().next();
        said.expect("it says so").expect("in text");
        clients
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
