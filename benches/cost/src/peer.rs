//! A server that is measured from outside, and nginx among them.

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

/// A server in a process of its own.
pub(crate) struct Peer {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) tls: bool,
    /// Of the process before anybody came.
    descriptors: usize,
    _files: Option<TempDir>,
}

/// What ours says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) started: u64,
    pub(crate) delivered: u64,
    pub(crate) cut: u64,
    pub(crate) discarded: u64,
}

impl Peer {
    /// This program, in the role of the server of that name.
    pub(crate) fn start(name: &str, args: &[&str], core: Option<usize>) -> Self {
        let (process, addr) = Process::serve(name, args, core);
        let tls = name.ends_with("-tls") || name.ends_with("-decrypting");
        Self::new(process, addr, tls, None)
    }

    /// nginx, which refuses by `client_max_body_size` and reads on by `lingering_close`.
    /// `None` where it is not installed.
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
        // So that all that a first connection brings with it is there before.
        peer.connect().refused();
        let (mut seen, mut same) = (usize::MAX, 0);
        wait("it comes to rest", || {
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

    /// How many connections it has.
    pub(crate) fn held(&self) -> usize {
        let now = self.process.descriptors();
        now.saturating_sub(self.descriptors)
    }

    /// CPU time from when all of so many clients have begun until the last of their
    /// connections has ended.
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

    /// How long it took until it had none any more, from now on.
    pub(crate) fn let_go(&self) -> Duration {
        let start = Instant::now();
        wait("all connections end", || self.held() == 0);
        start.elapsed()
    }

    /// What it answers to a request.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut line = self.connect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: cost\r\nconnection: close\r\n\r\n");
        line.write_all(request.as_bytes()).expect("it is asked");
        let mut answer = Vec::new();
        // A socket that ends without an end of TLS has said all.
        let _ = line.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let content = answer.split_once("\r\n\r\n").map(|(_, content)| content);
        content.expect("a head").to_owned()
    }

    /// Of ours only.
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

/// Until it is so, a minute at most.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: no");
        thread::sleep(Duration::from_millis(5));
    }
}
