//! A process under test, and measurements of it from outside.

use std::{
    env,
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use testkit::{
    client::{PATIENCE, get},
    outside::{Form, succeed},
    process,
};

use super::states::{LIMIT, State};

/// This environment variable names the role of the test executable.
pub(crate) const ROLE: &str = "VANISH_ROLE";

/// Long enough to distinguish a loop from an idle process.
const WHILE: Duration = Duration::from_millis(500);

/// In hundredths of a second of CPU. A loop takes fifty in that time. On a busy machine it takes
/// fewer, and never more.
const LITTLE: u64 = 15;

/// How often to measure the process at rest. The minimum is right, because the connection of this
/// query, or of the one before, may be counted.
const QUESTIONS: usize = 20;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Form,
    Ours,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Form, Self::Ours];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Form => "the_form",
            Self::Ours => "a_server_of_ours",
        }
    }

    pub(crate) fn states(self) -> &'static [State] {
        match self {
            Self::Form => &State::OF_THE_FORM,
            Self::Ours => &State::ALL,
        }
    }

    pub(crate) fn program(self) -> Command {
        match self {
            Self::Form => Command::new(Form::program()),
            Self::Ours => role("server"),
        }
    }

    /// Returns flags that set every timeout that has a flag to `bound`. An upload is slow after
    /// `slow_after`.
    pub(crate) fn flags(self, bound: &str, slow_after: &str) -> Vec<String> {
        let words = match self {
            Self::Form => format!(
                "--limit {LIMIT} --linger-idle {bound} --linger-total {bound} \
                 --stream-linger {bound}"
            ),
            Self::Ours => format!("--bounds {bound} --slow-after {slow_after}"),
        };
        words.split_whitespace().map(str::to_owned).collect()
    }
}

/// Runs the test's own executable in a role.
pub(crate) fn role(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("a running test has a path"));
    command.env(ROLE, role);
    command
}

/// The figures that must be as before when all clients are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) lingering: u64,
    pub(crate) reading: u64,
    /// Figures that the form does not report are 0.
    tasks: u64,
    pub(crate) descriptors: usize,
}

pub(crate) struct Subject {
    form: Form,
    /// The namespace to connect from, if the process is in one.
    namespace: Option<String>,
    pub(crate) at_rest: Figures,
}

impl Subject {
    pub(crate) fn start(kind: Kind, flags: &[String]) -> Self {
        Self::start_by(kind.program(), flags, None)
    }

    /// Starts `command`, whose last argument is the program.
    pub(crate) fn start_by(command: Command, flags: &[String], namespace: Option<String>) -> Self {
        let mut words: Vec<_> = flags.iter().map(String::as_str).collect();
        if !words.contains(&"--addr") {
            words.extend(["--addr", "127.0.0.1:0"]);
        }
        let form = Form::start_with(command, &words);
        let most = Figures {
            lingering: 0,
            reading: 0,
            tasks: u64::MAX,
            descriptors: usize::MAX,
        };
        let mut subject = Self {
            form,
            namespace,
            at_rest: most,
        };
        for _ in 0..QUESTIONS {
            let figures = subject.figures();
            let at_rest = &mut subject.at_rest;
            at_rest.tasks = at_rest.tasks.min(figures.tasks);
            at_rest.descriptors = at_rest.descriptors.min(figures.descriptors);
        }
        subject
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.form.addr()
    }

    pub(crate) fn figures(&self) -> Figures {
        let text = match &self.namespace {
            None => metrics(self.addr()),
            Some(namespace) => {
                let mut ask = within(namespace, &role("metrics"));
                ask.arg(self.addr().to_string());
                succeed(&mut ask).expect("it responds")
            }
        };
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|figure| figure.trim().parse().ok())
        };
        Figures {
            lingering: figure("bodyguard_lingering{linger=\"form\"} ").expect("both tell it"),
            reading: figure("bodyguard_draining{linger=\"form\"} ").expect("both tell it"),
            tasks: figure("tasks ").unwrap_or(0),
            descriptors: self.descriptors(),
        }
    }

    pub(crate) fn descriptors(&self) -> usize {
        process::descriptors(self.form.id()).expect("it runs")
    }

    /// Returns user and system time in hundredths of a second.
    fn cpu(&self) -> u64 {
        process::cpu(self.form.id()).expect("it runs")
    }

    /// Repeats the measurement until it is right. Panics with the last figures if it never is.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_right: impl Fn(Figures) -> bool) {
        let start = Instant::now();
        loop {
            let figures = self.figures();
            if is_right(figures) {
                return;
            }
            let rest = self.at_rest;
            assert!(
                start.elapsed() < PATIENCE,
                "not in {PATIENCE:?}: {what}; {figures:?}, at rest {rest:?}"
            );
        }
    }

    /// Waits until nothing is left of the clients.
    #[track_caller]
    pub(crate) fn until_at_rest(&self) {
        self.until("everything is given back", |figures| {
            self.are_those_at_rest(figures)
        });
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.are_those_at_rest(self.figures())
    }

    fn are_those_at_rest(&self, figures: Figures) -> bool {
        (figures.lingering, figures.reading) == (0, 0)
            && figures.tasks <= self.at_rest.tasks
            && figures.descriptors <= self.at_rest.descriptors
    }

    /// Asserts that the process takes no CPU time while nothing happens, with any clients
    /// connected.
    #[track_caller]
    pub(crate) fn assert_idle(&self) {
        let before = self.cpu();
        // There is no event to wait for when nothing happens.
        thread::sleep(WHILE);
        let taken = self.cpu() - before;
        assert!(taken <= LITTLE, "{taken} ticks of CPU in {WHILE:?}");
    }
}

/// Returns the text of `/metrics`.
pub(crate) fn metrics(addr: SocketAddr) -> String {
    get(addr, "/metrics").body
}

/// Returns the same command in a namespace.
pub(crate) fn within(namespace: &str, command: &Command) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", namespace]);
    ip.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => ip.env(name, value),
            None => ip.env_remove(name),
        };
    }
    ip
}
