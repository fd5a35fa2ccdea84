//! Two hosts and the cable between them, as network namespaces.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio, id},
    sync::atomic::{AtomicUsize, Ordering},
};

use libtest_mimic::Failed;
use testkit::outside::{Need, succeed};

use super::subject::within;

/// The address of the server.
pub(crate) const ADDRESS: &str = "10.93.7.2";

const CLIENTS_ADDRESS: &str = "10.93.7.1";

/// The server knows this address in advance, so it does not notice that no ARP reply comes.
const CLIENTS_MAC: &str = "02:00:00:00:00:01";

pub(crate) fn needs() -> Vec<Need> {
    // Tries both, because a process may be allowed to make a namespace and not a veth.
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
        // By default, a kernel waits a quarter of an hour for a client that acknowledges nothing.
        let mut sysctl = Command::new("sh");
        sysctl.args(["-c", "echo 3 > /proc/sys/net/ipv4/tcp_retries2"]);
        succeed(&mut within(server, &sysctl))?;
        Ok(network)
    }

    /// From now on, no packet passes in either direction.
    pub(crate) fn cut(&self) -> Result<(), Failed> {
        ip(&format!("-n {} link set c0 down", self.client))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            // The namespace may not exist.
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

fn ip(words: &str) -> Result<(), Failed> {
    succeed(Command::new("ip").args(words.split_whitespace())).map(drop)
}

/// Clients in a separate process.
pub(crate) struct Clients(Child);

impl Clients {
    /// Starts the process and returns when it reports that all clients are connected.
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
        // The process may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
