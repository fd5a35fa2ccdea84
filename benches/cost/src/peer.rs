//! A server that is measured from outside. One of them is nginx.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{line::Line, process::Process, servers::find_nginx};

/// A server in a separate process.
pub(crate) struct Peer {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) tls: bool,
    /// The file descriptors of the process before any client connected.
    descriptors: usize,
    _files: Option<TempDir>,
}

/// The statistics that our server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) started: u64,
    pub(crate) delivered: u64,
    pub(crate) cut: u64,
    pub(crate) discarded: u64,
}

impl Peer {
    /// Starts this program in the role of the server of that name.
    pub(crate) fn start(name: &str, args: &[&str], core: Option<usize>) -> Self {
        let (process, addr) = Process::serve(name, args, core);
        let tls = name.ends_with("-tls") || name.ends_with("-decrypting");
        Self::new(process, addr, tls, None)
    }

    /// Starts nginx, which refuses by `client_max_body_size` and drains by `lingering_close`.
    /// Returns `None` if it is not installed.
    pub(crate) fn nginx(core: Option<usize>) -> Option<Self> {
        let (program, _) = find_nginx()?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let addr = port.expect("a free port");
        let files = TempDir::new().expect("a folder for nginx");
        let config = files.path().join("nginx.conf");
        let folder = files.path().display();
        let text = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/log crit;
            events {{ worker_connections 16384; }}
            http {{
                access_log off;
                client_body_temp_path {folder}/1; proxy_temp_path {folder}/2;
                fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4;
                scgi_temp_path {folder}/5;
                server {{
                    listen {addr} backlog=4096;
                    client_max_body_size 1m;
                    lingering_close on; lingering_time 24h; lingering_timeout 24h;
                    location / {{ return 200; }}
                }}
            }}"
        );
        fs::write(&config, text).expect("nginx's settings are written");
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("-e").arg(files.path().join("log"));
        command.arg("-p").arg(files.path()).arg("-c").arg(&config);
        let child = command.stdin(Stdio::null()).spawn().expect("nginx starts");
        let process = Process::of(child);
        wait("nginx listens", || TcpStream::connect(addr).is_ok());
        Some(Self::new(process, addr, false, Some(files)))
    }

    fn new(process: Process, addr: SocketAddr, tls: bool, files: Option<TempDir>) -> Self {
        let mut peer = Self {
            process,
            addr,
            tls,
            descriptors: 0,
            _files: files,
        };
        // After a first connection, everything that is created only once exists.
        peer.connect().refused();
        let (mut seen, mut same) = (usize::MAX, 0);
        wait("it is idle", || {
            let now = peer.process.descriptors();
            let is_same = std::mem::replace(&mut seen, now) == now;
            same = if is_same { same + 1 } else { 0 };
            same == 20
        });
        peer.descriptors = seen;
        peer
    }

    pub(crate) fn connect(&self) -> Line {
        Line::connect(self.addr, self.tls)
    }

    /// Returns the number of open connections.
    pub(crate) fn held(&self) -> usize {
        let now = self.process.descriptors();
        now.saturating_sub(self.descriptors)
    }

    /// Returns the CPU time from the moment when all clients have begun to the end of the last
    /// connection.
    pub(crate) fn cpu_of(
        &self,
        clients: usize,
        begin: impl Fn() -> Line + Sync,
        go_on: impl Fn(&mut Line) + Sync,
    ) -> Duration {
        let ready = Barrier::new(clients + 1);
        let before = thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut line = begin();
                    ready.wait();
                    ready.wait();
                    go_on(&mut line);
                });
            }
            ready.wait();
            let before = self.process.cpu();
            ready.wait();
            before
        });
        self.let_go();
        self.process.cpu().saturating_sub(before)
    }

    /// Returns how long it takes from now until no connection is left.
    pub(crate) fn let_go(&self) -> Duration {
        let start = Instant::now();
        wait("all connections end", || self.held() == 0);
        start.elapsed()
    }

    /// Returns the body of the response to a GET request.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut line = self.connect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: cost\r\nconnection: close\r\n\r\n");
        line.write_all(request.as_bytes())
            .expect("the server reads");
        let mut response = Vec::new();
        // The response is complete even if the socket ends without an end of TLS.
        let _ = line.read_to_end(&mut response);
        let response = String::from_utf8_lossy(&response);
        let content = response.split_once("\r\n\r\n").map(|(_, content)| content);
        content.expect("a head").to_owned()
    }

    /// Returns the statistics of our server.
    pub(crate) fn said(&self) -> Said {
        let text = self.get("/stats");
        let mut numbers = text
            .split(' ')
            .map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("four numbers");
        Said {
            started: next(),
            delivered: next(),
            cut: next(),
            discarded: next(),
        }
    }
}

/// Polls `is_so` until it is true, and panics after a minute.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: no");
        thread::sleep(Duration::from_millis(5));
    }
}
