//! nginx and HAProxy, each as a process with its files in a separate folder.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use tempfile::TempDir;

use crate::{
    client::PATIENCE,
    outside::{Need, find, succeed},
};

/// How often another process may take the port between our choice and the program's bind.
pub const CLASHES: usize = 5;

/// The name of the configuration file in the folder.
const CONFIG: &str = "proxy.conf";

#[derive(Clone, Copy)]
pub enum Kind {
    /// Only `proxy_pass`: up to nginx 1.29.6 that is HTTP/1.0, with a connection for each request.
    NginxBare,
    /// Reads the whole upload before it calls the form.
    NginxBuffered,
    /// Forwards the upload as it arrives.
    NginxUnbuffered,
    /// Refuses uploads longer than 1 MiB itself.
    NginxLimited,
    Haproxy,
    /// Refuses uploads longer than 1 MiB itself.
    HaproxyLimited,
}

use Kind::{Haproxy, HaproxyLimited, NginxBare, NginxBuffered, NginxLimited, NginxUnbuffered};

impl Kind {
    /// The proxies that leave the limit to the form.
    pub const UNLIMITED: [Self; 4] = [NginxBare, NginxBuffered, NginxUnbuffered, Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            NginxBare => "nginx_bare",
            NginxBuffered => "nginx_buffered",
            NginxUnbuffered => "nginx_unbuffered",
            NginxLimited => "nginx_limited",
            Haproxy => "haproxy",
            HaproxyLimited => "haproxy_limited",
        }
    }

    fn program_name(self) -> &'static str {
        match self {
            NginxBare | NginxBuffered | NginxUnbuffered | NginxLimited => "nginx",
            Haproxy | HaproxyLimited => "haproxy",
        }
    }

    pub fn need(self) -> Need {
        need(self.program_name())
    }

    /// Returns whether `HAProxy` drains after its own response, as it does from 3.0 on.
    pub fn haproxy_drains() -> bool {
        let version = program(Haproxy.program_name()).and_then(|haproxy| {
            let said = succeed(Command::new(haproxy).arg("-v"));
            said.ok()
        });
        version.is_some_and(|version| !version.starts_with("HAProxy version 2."))
    }

    fn settings(self) -> &'static str {
        match self {
            NginxBare | NginxLimited | Haproxy => "",
            HaproxyLimited => {
                "http-request deny deny_status 413 if { req.hdr_val(content-length) gt 1048576 }"
            }
            NginxBuffered => {
                "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                 proxy_request_buffering on;"
            }
            NginxUnbuffered => {
                "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                 proxy_request_buffering off;"
            }
        }
    }

    fn limit(self) -> &'static str {
        match self {
            NginxLimited => "1m",
            _ => "0",
        }
    }

    fn template(self) -> &'static str {
        match self {
            NginxBare | NginxBuffered | NginxUnbuffered | NginxLimited => {
                include_str!("../proxies/nginx.conf")
            }
            Haproxy | HaproxyLimited => include_str!("../proxies/haproxy.cfg"),
        }
    }

    fn server(self, number: usize, form: SocketAddr) -> String {
        match self {
            NginxBare | NginxBuffered | NginxUnbuffered | NginxLimited => {
                format!("server {form}; ")
            }
            Haproxy | HaproxyLimited => format!("server form{number} {form}\n    "),
        }
    }

    fn command(self, folder: &Path) -> Command {
        let program = program(self.program_name()).expect("the trial needs it");
        match self {
            NginxBare | NginxBuffered | NginxUnbuffered | NginxLimited => nginx(&program, folder),
            Haproxy | HaproxyLimited => {
                let mut command = Command::new(program);
                command.arg("-db").arg("-f").arg(folder.join(CONFIG));
                command
            }
        }
    }
}

/// Finds nginx or `HAProxy`. Debian installs both in a folder that is only on root's `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    find(name).or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|file| file.is_file()))
}

/// Returns the need of a trial for nginx or `HAProxy`.
pub fn need(name: &str) -> Need {
    Need {
        name: format!("no {name} on the PATH or in /usr/sbin"),
        missing: program(name).is_none(),
    }
}

/// Returns addresses that were free a moment ago. Neither program reports the port that it took.
pub fn free_addrs<const COUNT: usize>() -> [SocketAddr; COUNT] {
    // All are bound concurrently, so that no two are equal.
    let free =
        [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("there is a free port"));
    free.map(|free| free.local_addr().expect("it is bound"))
}

/// Returns the folder's name, which replaces `NAME` in a configuration.
pub fn name(folder: &TempDir) -> &str {
    let name = folder.path().file_name().and_then(OsStr::to_str);
    name.expect("it is of letters and digits")
}

/// nginx or `HAProxy`, as a process.
pub struct Daemon {
    process: Child,
    /// Contains its configuration, its log, and the uploads that it stores.
    folder: TempDir,
}

impl Daemon {
    /// Starts nginx with a configuration.
    pub fn nginx(folder: TempDir, config: &str, addr: SocketAddr) -> Result<Self, String> {
        let program = program("nginx").expect("the trial needs it");
        Self::start(nginx(&program, folder.path()), folder, config, addr)
    }

    /// Starts a command that reads `proxy.conf` in the folder, and waits until the program responds
    /// at `addr`. If it does not, returns what it wrote.
    fn start(
        mut command: Command,
        folder: TempDir,
        config: &str,
        addr: SocketAddr,
    ) -> Result<Self, String> {
        fs::write(folder.path().join(CONFIG), config).expect("the folder can be written");
        let output = fs::File::create(folder.path().join("output.log")).expect("as can this");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(output).spawn().expect("it can be run");
        let mut daemon = Self { process, folder };
        match daemon.comes_up(addr) {
            true => Ok(daemon),
            false => Err(daemon.said()),
        }
    }

    /// Waits until the process responds. Another process may have the port, but only this one knows
    /// the folder's name.
    fn comes_up(&mut self, addr: SocketAddr) -> bool {
        let start = Instant::now();
        while !ask_whose(addr).is_ok_and(|response| response.ends_with(name(&self.folder))) {
            let ended = self.process.try_wait().expect("it is a child").is_some();
            if ended || start.elapsed() > PATIENCE {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    /// Returns its output. A failed trial adds it to the message.
    pub fn said(&self) -> String {
        ["output.log", "error.log"]
            .map(|log| fs::read_to_string(self.folder.path().join(log)).unwrap_or_default())
            .concat()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A process that has ended was reaped, so its id may belong to another process.
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        // `Child::kill` would leave nginx's worker behind.
        let _ = succeed(Command::new("kill").args(["-TERM", &self.process.id().to_string()]));
        let _ = self.process.wait();
    }
}

fn nginx(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    // Without `-e`, nginx writes its first messages to a system log.
    command.args(["-e", "error.log", "-p"]).arg(folder);
    command.arg("-c").arg(folder.join(CONFIG));
    command
}

fn ask_whose(addr: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /whose HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    socket.read_to_string(&mut response)?;
    Ok(response)
}

/// A running proxy.
pub struct Proxy {
    daemon: Daemon,
    pub addr: SocketAddr,
}

impl Proxy {
    pub fn start(kind: Kind, forms: &[SocketAddr]) -> Self {
        let mut said = String::new();
        for _ in 0..CLASHES {
            match Self::try_start(kind, forms) {
                Ok(proxy) => return proxy,
                Err(words) => said = words,
            }
        }
        panic!("{} does not start: {said}", kind.program_name());
    }

    fn try_start(kind: Kind, forms: &[SocketAddr]) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [addr] = free_addrs();
        let servers: String = forms
            .iter()
            .enumerate()
            .map(|(number, form)| kind.server(number, *form))
            .collect();
        let config = kind
            .template()
            .replace("SERVERS", &servers)
            .replace("SETTINGS", kind.settings())
            .replace("LIMIT", kind.limit())
            .replace("LISTEN", &addr.to_string())
            .replace("NAME", name(&folder));
        let command = kind.command(folder.path());
        let daemon = Daemon::start(command, folder, &config, addr)?;
        Ok(Self { daemon, addr })
    }

    /// Returns its output. A failed trial adds it to the message.
    pub fn said(&self) -> String {
        self.daemon.said()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}
