//! nginx, with the same limit, over TCP and over TLS.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use tempfile::TempDir;
use testkit::{
    client::PATIENCE,
    outside::{Need, find, succeed},
    tls::Certificate,
};

use super::script::LIMIT;
use crate::server::{Server, counting};

/// How often another process may take the port between our choice and nginx's bind.
const CLASHES: usize = 5;

/// Debian has it in a folder that only root's `PATH` names.
fn program() -> Option<PathBuf> {
    let usual = || Some(PathBuf::from("/usr/sbin/nginx")).filter(|file| file.is_file());
    find("nginx").or_else(usual)
}

pub(crate) fn need() -> Need {
    Need {
        name: "no nginx on the PATH or in /usr/sbin".to_owned(),
        missing: program().is_none(),
    }
}

pub(crate) struct Nginx {
    process: Child,
    pub(crate) addr: SocketAddr,
    /// The same over TLS: HTTP/1, or HTTP/2 for a client that asks for it.
    pub(crate) tls: SocketAddr,
    folder: TempDir,
    _counting: Server,
}

impl Nginx {
    pub(crate) fn start() -> Self {
        let clashes = (0..CLASHES).find_map(|_| Self::try_start());
        clashes.expect("nginx starts")
    }

    fn try_start() -> Option<Self> {
        let counting = Server::plain(counting());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = name(folder.path());
        let [addr, tls] = free_addrs();
        let (cert, key) = Certificate::new().pem();
        for (name, pem) in [("cert.pem", cert), ("key.pem", key)] {
            fs::write(folder.path().join(name), pem).expect("the folder can be written");
        }
        let config = include_str!("nginx.conf")
            .replace("LISTEN", &addr.to_string())
            .replace("TLS", &tls.to_string())
            .replace("LIMIT", &LIMIT.to_string())
            .replace("COUNTING", &counting.addr.to_string())
            .replace("NAME", &name);
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("the folder can be written");

        let mut command = Command::new(program().expect("the trial needs it"));
        // Otherwise its first words go to a log of the system's.
        command.args(["-e", "error.log", "-p"]).arg(folder.path());
        command.arg("-c").arg(&file);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut nginx = Self {
            process: command.spawn().expect("it can be run"),
            addr,
            tls,
            folder,
            _counting: counting,
        };
        nginx.comes_up().then_some(nginx)
    }

    /// Whoever has the port, only ours knows its name.
    fn comes_up(&mut self) -> bool {
        let name = name(self.folder.path());
        let start = Instant::now();
        while !ask_whose(self.addr).is_ok_and(|answer| answer.ends_with(&name)) {
            let ended = self.process.try_wait().expect("it is a child").is_some();
            if ended || start.elapsed() > PATIENCE {
                return false;
            }
            thread::yield_now();
        }
        true
    }
}

fn free_addrs() -> [SocketAddr; 2] {
    // Both at once, or they might be the same.
    let free = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").expect("there is a free port"));
    free.map(|free| free.local_addr().expect("it is bound"))
}

fn name(folder: &Path) -> String {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.expect("it is of letters and digits").to_owned()
}

fn ask_whose(addr: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /whose HTTP/1.1\r\nHost: nginx\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // One that ended has been waited for, and its number may be another's by now.
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        // Not by `Child::kill`, which would leave its worker behind.
        let _ = succeed(Command::new("kill").args(["-TERM", &self.process.id().to_string()]));
        let _ = self.process.wait();
    }
}
