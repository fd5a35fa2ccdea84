//! The harness for programs outside the process: browsers, curl, interpreters.
//!
//! If such a program is missing, its test reports SKIPPED and the reason, and does not count as
//! passed. With `CI=true` it fails.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::Instant,
};

use libtest_mimic::{Arguments, Failed};
use tempfile::TempDir;

use crate::client::PATIENCE;

/// Something that a test needs and that this machine may not have.
#[derive(Clone, Debug)]
pub struct Need {
    pub name: String,
    pub missing: bool,
}

impl Need {
    /// Requires a program on the `PATH`.
    pub fn program(name: &str) -> Self {
        Self {
            name: format!("no {name} on the PATH"),
            missing: find(name).is_none(),
        }
    }

    pub fn file(path: &Path) -> Self {
        Self {
            name: format!("{} is not there", path.display()),
            missing: !path.exists(),
        }
    }

    /// Requires a Python that has the module.
    pub fn python(module: &str) -> Self {
        Self {
            name: format!("no python3 with {module}"),
            missing: interpreter(module).is_none(),
        }
    }

    pub fn root() -> Self {
        Self {
            name: "not root".to_owned(),
            missing: !output(Command::new("id").arg("-u"))
                .is_ok_and(|out| out.stdout.trim_ascii() == b"0"),
        }
    }

    /// Requires that a command succeeds.
    pub fn check(name: &str, command: &mut Command) -> Self {
        Self {
            name: name.to_owned(),
            missing: !output(command).is_ok_and(|out| out.status.success()),
        }
    }
}

pub fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

/// A test of one module. The harness adds the module's name later.
pub struct Trial {
    name: String,
    /// The reason why it cannot run here.
    skipped: Option<String>,
    test: Box<dyn FnOnce() -> Result<(), Failed> + Send>,
}

impl Trial {
    fn within(self, module: &str) -> libtest_mimic::Trial {
        let name = format!("{module}::{}", self.name);
        match self.skipped {
            None => libtest_mimic::Trial::test(name, self.test),
            Some(why) if in_ci() => libtest_mimic::Trial::test(name, || Err(Failed::from(why))),
            Some(why) => libtest_mimic::Trial::test(name, || Ok(()))
                .with_kind(why)
                .with_ignored_flag(true),
        }
    }
}

/// Creates a test that runs if all its needs are met.
pub fn trial(
    name: impl Into<String>,
    needs: &[Need],
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let missing = needs.iter().filter(|need| need.missing);
    let reasons: Vec<_> = missing.map(|need| need.name.as_str()).collect();
    let skipped = (!reasons.is_empty()).then(|| format!("SKIPPED: {}", reasons.join(", ")));
    Trial {
        name: name.into(),
        skipped,
        test: Box::new(test),
    }
}

/// A module's name, and the function that returns its tests.
pub type Module = (&'static str, fn() -> Vec<Trial>);

/// Runs the tests of a binary without Rust's harness, and exits.
///
/// If the filter begins with a module's name, such as `form::token`, the other modules are left
/// out. They then do not look for their programs.
pub fn run(modules: &[Module]) -> ! {
    let arguments = Arguments::from_args();
    let filter = arguments.filter.as_deref();
    // A name in the list of tests may begin with the reason why the test is skipped.
    let filtered = filter.and_then(|filter| Some(filter.split_once("::")?.0));
    let trials = modules
        .iter()
        .filter(|(module, _)| filtered.is_none_or(|filtered| filtered.ends_with(module)))
        .flat_map(|(module, trials)| trials().into_iter().map(|trial| trial.within(module)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit()
}

pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Finds a Python that has the module. If there are several Pythons, often only one of them has a
/// package. `PYTHON` names the one to try first.
pub fn interpreter(module: &str) -> Option<PathBuf> {
    let named = env::var_os("PYTHON").map(PathBuf::from);
    let usual = ["python3", "/usr/bin/python3"].map(PathBuf::from);
    let mut candidates = named.into_iter().chain(usual);
    candidates.find(|python| has_module(python, module))
}

/// Returns whether a Python has the module.
pub fn has_module(python: &Path, module: &str) -> bool {
    let import = format!("import {module}");
    succeed(Command::new(python).args(["-c", &import])).is_ok()
}

fn output(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

/// Runs a command to its end. Returns its output as an error if it failed.
pub fn succeed(command: &mut Command) -> Result<String, Failed> {
    let out = output(command).map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&out.stderr);
    Err(format!("{command:?}: {}\n{stdout}\n{stderr}", out.status).into())
}

/// Returns the path of a file in this repository.
pub fn repository(path: &str) -> PathBuf {
    let testkit = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = testkit.parent().expect("testkit is in the repository");
    root.join(path)
}

/// Returns the folder of the executables that cargo builds in the test's profile.
pub fn built() -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    let target = test.ancestors().nth(2).expect("target/debug/deps/test");
    target.to_owned()
}

/// Returns an example's executable, which `cargo test` builds.
pub fn example(name: &str) -> PathBuf {
    let program = built().join("examples").join(name);
    assert!(
        program.exists(),
        "{} is missing: `cargo build --example {name} --all-features`",
        program.display()
    );
    program
}

/// A running upload form, or another example that prints its address.
pub struct Form {
    process: Child,
    pub url: String,
    /// The lines that it prints after the one with its URL.
    lines: Mutex<mpsc::Receiver<String>>,
    /// Collects files that it leaves behind when it is killed.
    _scratch: TempDir,
}

impl Form {
    pub fn start(flags: &[&str]) -> Self {
        Self::start_by(Command::new(Self::program()), "127.0.0.1:0", flags)
    }

    pub fn program() -> PathBuf {
        example("upload_form")
    }

    /// Starts `command`, which ends in the form's executable.
    pub fn start_by(mut command: Command, addr: &str, flags: &[&str]) -> Self {
        command.args(["--addr", addr]);
        Self::start_with(command, flags)
    }

    /// Starts a command that already has the address to listen on.
    pub fn start_with(mut command: Command, flags: &[&str]) -> Self {
        command.args(flags);
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let sets = |name| command.get_envs().any(|(set, _)| set == name);
        let (token, tmpdir) = (sets("UPLOAD_TOKEN"), sets("TMPDIR"));
        if !token {
            // The variable is set for the user's own form.
            command.env_remove("UPLOAD_TOKEN");
        }
        if !tmpdir {
            command.env("TMPDIR", scratch.path());
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().expect("the form starts");
        let stdout = process.stdout.take().expect("it is piped");
        let (said, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test may be over by now.
                let _ = said.send(line);
            }
        });
        let Some(url) = next_with(&lines, "listening on ") else {
            let _ = process.kill();
            panic!("{command:?} does not say where it listens");
        };
        Self {
            process,
            url: url.replacen("listening on ", "", 1),
            lines: Mutex::new(lines),
            _scratch: scratch,
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn addr(&self) -> SocketAddr {
        let (_, addr) = self.url.split_once("://").expect("it is a URL");
        addr.parse().expect("an address and a port")
    }

    /// Waits for a line with `part`, and returns it.
    #[track_caller]
    pub fn prints(&self, part: &str) -> String {
        let lines = self.lines.lock().expect("no test has panicked with it");
        next_with(&lines, part).unwrap_or_else(|| panic!("no line with {part:?}"))
    }

    pub fn send_sigterm(&self) {
        let pid = self.id().to_string();
        succeed(Command::new("kill").args(["-TERM", &pid])).expect("it runs");
    }

    /// Waits for the process to end.
    pub fn end(mut self) -> ExitStatus {
        let mut status = None;
        until("the form ends", || {
            status = self.process.try_wait().expect("it is a child");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

/// Returns the next line with `part`, or `None` if the program ends or hangs before it.
fn next_with(lines: &mpsc::Receiver<String>, part: &str) -> Option<String> {
    loop {
        let line = lines.recv_timeout(PATIENCE).ok()?;
        if line.contains(part) {
            return Some(line);
        }
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Polls `check` until it is true, for as long as a test may wait.
#[track_caller]
pub fn until(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        thread::yield_now();
    }
}

/// Creates a file of `length` bytes. Its content repeats every 251 bytes, a prime, so it never
/// aligns with a buffer.
pub fn file_of(folder: &Path, length: usize) -> PathBuf {
    let file = folder.join(format!("{length}.bin"));
    let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
    fs::write(&file, content).expect("the folder can be written");
    file
}
