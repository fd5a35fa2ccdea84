//! Runs this program as a server or a client, and measures such a process.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Pid, gettid},
};

/// A process that ends with its handle.
pub(crate) struct Process(Child);

impl Process {
    /// Starts this program in the role of a server, and waits for the first line, which is its
    /// address. `core` pins it to a core.
    pub(crate) fn serve(name: &str, args: &[&str], core: Option<usize>) -> (Self, SocketAddr) {
        let own = std::env::current_exe().expect("a running program has a path");
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(own);
                command
            }
            None => Command::new(own),
        };
        command.args(["serve", name]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let line = BufReader::new(stdout).lines().next();
        let line = line.expect("it says where it listens").expect("in text");
        (Self(child), line.parse().expect("an address"))
    }

    pub(crate) fn of(child: Child) -> Self {
        Self(child)
    }

    /// Returns the CPU time of all running threads.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(
            self.sum_of_threads("schedstat", |times| times.split_whitespace().next()),
        )
    }

    /// Returns how often the running threads have gone to sleep.
    pub(crate) fn sleeps(&self) -> u64 {
        self.sum_of_threads("status", |status| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        })
    }

    /// Sums a number that the system has in a file of each running thread (proc(5)).
    fn sum_of_threads(&self, file: &str, find: fn(&str) -> Option<&str>) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0.id()));
        let numbers = threads
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|thread| {
                let text = fs::read_to_string(thread.path().join(file)).ok()?;
                find(&text)?.trim().parse::<u64>().ok()
            });
        numbers.sum()
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(
            self.0
                .id()
                .try_into()
                .expect("Linux counts them in an `i32`"),
        )
    }

    /// Returns the number of open files and sockets.
    pub(crate) fn descriptors(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.0.id()));
        open.expect("a running process").count()
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a running process has memory") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Separate cores, so that a server and its load do not take each other's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// Returns the same core for both, so that they take turns.
    pub(crate) fn shared() -> Option<Self> {
        let server = Self::find()?.server;
        Some(Self {
            server,
            load: server,
        })
    }

    /// Returns `None` if there is only one core, or no `taskset`.
    pub(crate) fn find() -> Option<Self> {
        let mut taskset = Command::new("taskset");
        let taskset = taskset.arg("--version").stdout(Stdio::null());
        if !taskset.status().is_ok_and(|status| status.success()) {
            return None;
        }
        let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let mut allowed = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
        // The first core handles most of the interrupts.
        let (load, server) = (allowed.next()?, allowed.next_back()?);
        Some(Self { server, load })
    }

    /// Describes the cores for the page.
    pub(crate) fn in_words(cores: Option<Self>) -> &'static str {
        match cores {
            Some(_) => "the server on one core (`taskset`) and the load on another",
            None => {
                "server and load on cores that the system chooses, because cores or `taskset` are missing"
            }
        }
    }
}

/// Runs on a separate thread, on that core if there is one.
pub(crate) fn on_core<T: Send>(core: Option<usize>, run: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        if let Some(core) = core {
            let mut set = CpuSet::new();
            set.set(core).expect("it is one of those allowed");
            sched_setaffinity(Pid::from_raw(0), &set).expect("it is one of those allowed");
        }
        run()
    };
    std::thread::scope(|scope| scope.spawn(pinned).join().expect("it does not panic"))
}

/// Keeps the calling thread, or all threads of another process, from preempting another thread when
/// they wake up (`SCHED_BATCH`, sched(7)).
pub(crate) fn take_turns(other: Option<&Process>) {
    let mut chrt = Command::new("chrt");
    let process = match other {
        Some(other) => {
            chrt.arg("--all-tasks");
            other.id()
        }
        None => gettid(),
    };
    let chrt = chrt.args(["--batch", "--pid", "0", &process.to_string()]);
    let status = chrt.status().expect("`chrt` of util-linux");
    assert!(status.success(), "{process}: {status}");
}

/// Raises the limit of file descriptors as far as the system allows.
pub(crate) fn all_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is such a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("it is allowed");
}

/// Returns the version of a package from this program's own lock file.
pub(crate) fn version(package: &str) -> &'static str {
    let name = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines();
    lines.find(|line| *line == name).expect("it is locked");
    let version = lines
        .next()
        .and_then(|line| line.strip_prefix("version = "));
    version.expect("it follows the name").trim_matches('"')
}

/// Returns the processor, the cores and the kernel.
pub(crate) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.unwrap_or_else(|| "an unknown processor".to_owned());
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}
