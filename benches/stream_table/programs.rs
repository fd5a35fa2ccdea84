//! nginx and Caddy, each configured to refuse a body by its declared length.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use testkit::outside::{find, succeed};

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Nginx,
    Caddy,
}

use Kind::{Caddy, Nginx};

const NGINX: &str = include_str!("nginx.conf");
const CADDY: &str = include_str!("Caddyfile");

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Nginx => "nginx",
            Caddy => "caddy",
        }
    }

    /// Debian installs nginx in a folder that is only on root's `PATH`.
    fn program(self) -> Option<PathBuf> {
        let sbin = Path::new("/usr/sbin").join(self.name());
        find(self.name()).or_else(|| Some(sbin).filter(|file| file.is_file()))
    }

    /// Returns the name of the row, with the version if the program is installed.
    pub(crate) fn title(self) -> String {
        let version = self.program().and_then(|program| {
            let flag = match self {
                Nginx => "-v",
                Caddy => "version",
            };
            let out = Command::new(program).arg(flag).output().ok()?;
            let said = String::from_utf8([out.stdout, out.stderr].concat()).ok()?;
            let said = said.split_whitespace().next_back()?;
            Some(said.trim_start_matches("nginx/").to_owned())
        });
        let version = version.unwrap_or_default();
        match self {
            Nginx => format!("nginx {version}: `client_max_body_size`"),
            Caddy => format!("Caddy {version}: `respond 413`"),
        }
    }

    fn command(self, folder: &Path) -> Option<Command> {
        let mut command = Command::new(self.program()?);
        match self {
            // Without `-e`, nginx writes its first messages to a system log.
            Nginx => command.args(["-e", "error.log", "-c", "server.conf", "-p"]),
            Caddy => command.args(["run", "--adapter", "caddyfile", "--config", "server.conf"]),
        };
        match self {
            Nginx => command.arg(folder),
            Caddy => command
                .current_dir(folder)
                .env("XDG_CONFIG_HOME", folder)
                .env("XDG_DATA_HOME", folder),
        };
        Some(command)
    }
}

pub(crate) struct Running {
    process: Child,
    pub(crate) addr: SocketAddr,
    _folder: TempDir,
}

impl Running {
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = kind.command(folder.path())?;
        // Neither can report the port that it took. This one was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let addr = free.expect("there is a free port");

        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).expect("they are names");
        let template = match kind {
            Nginx => NGINX,
            Caddy => CADDY,
        };
        let write = |name, content: String| {
            fs::write(folder.path().join(name), content).expect("the folder can be written");
        };
        write("cert.pem", made.cert.pem());
        write("key.pem", made.signing_key.serialize_pem());
        write("server.conf", template.replace("LISTEN", &addr.to_string()));

        let silent = command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = silent.stderr(Stdio::null()).spawn();
        let mut running = Self {
            process: process.expect("it can be run"),
            addr,
            _folder: folder,
        };
        running.comes_up(kind);
        Some(running)
    }

    fn comes_up(&mut self, kind: Kind) {
        let start = Instant::now();
        while TcpStream::connect(self.addr).is_err() {
            let ended = self.process.try_wait().expect("it is a child");
            let late = start.elapsed() > PATIENCE;
            assert!(ended.is_none() && !late, "{} {ended:?}", kind.name());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
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
