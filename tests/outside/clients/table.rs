//! The client programs of `tests/clients/clients.toml`. Its first comment explains the format.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde::Deserialize;
use testkit::outside::{Need, built, find, has_module, interpreter, repository};

/// The table reads the protocols by these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Over {
    #[serde(rename = "http1")]
    Http1,
    #[serde(rename = "http1-tls")]
    Http1Tls,
    /// With prior knowledge, because nothing is negotiated without TLS.
    #[serde(rename = "h2")]
    Http2,
    #[serde(rename = "h2-tls")]
    Http2Tls,
    #[serde(rename = "grpc")]
    Grpc,
    #[serde(rename = "grpc-web")]
    GrpcWeb,
}

impl Over {
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http1Tls => "http1-tls",
            Self::Http2 => "h2",
            Self::Http2Tls => "h2-tls",
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
        }
    }
}

#[derive(Deserialize)]
struct Table {
    program: BTreeMap<String, Program>,
    client: Vec<Entry>,
}

/// The words that stand for a shape or a protocol on a command line.
type Words = BTreeMap<String, Vec<String>>;

#[derive(Clone, Deserialize)]
struct Program {
    run: Vec<String>,
    #[serde(default)]
    over: Words,
    #[serde(default)]
    shape: Words,
    ok: Option<Vec<i32>>,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    tries: bool,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    program: String,
    client: Option<String>,
    over: Vec<Over>,
    shapes: Vec<String>,
    import: Option<String>,
    npm: Option<String>,
    venv: Option<String>,
    loses: Option<String>,
    races: Option<Race>,
    #[serde(default)]
    thorough: bool,
    #[serde(default)]
    patient: bool,
}

/// A race within a client, which loses a response now and then.
#[derive(Deserialize)]
struct Race {
    error: String,
}

pub(crate) struct Client {
    entry: Entry,
    program: Program,
    /// The interpreter, if there is one. It takes a while to find.
    python: OnceLock<Option<PathBuf>>,
}

/// Returns the clients that can read a response.
pub(crate) fn clients() -> Vec<Client> {
    let text = fs::read_to_string(repository("tests/clients/clients.toml")).expect("it is there");
    let table: Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let reads = table.client.into_iter().filter(|e| e.loses.is_none());
    reads
        .map(|entry| Client {
            program: table.program[&entry.program].clone(),
            entry,
            python: OnceLock::new(),
        })
        .collect()
}

impl Client {
    pub(crate) fn name(&self) -> &str {
        &self.entry.name
    }

    /// Returns the name as a part of a test's name.
    pub(crate) fn slug(&self) -> String {
        let lower = self.entry.name.to_lowercase();
        let words = lower.split(|c: char| !c.is_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join("_")
    }

    pub(crate) fn over(&self) -> &[Over] {
        &self.entry.over
    }

    pub(crate) fn shapes(&self) -> &[String] {
        &self.entry.shapes
    }

    pub(crate) fn is_thorough(&self) -> bool {
        self.entry.thorough
    }

    /// Returns whether an output has the error of the client's own race.
    pub(crate) fn has_lost_its_race(&self, output: &str) -> bool {
        let race = self.entry.races.as_ref();
        race.is_some_and(|race| output.contains(&race.error))
    }

    /// Returns whether the default 2 s of a stream may be too short.
    pub(crate) fn is_patient(&self) -> bool {
        self.entry.patient
    }

    pub(crate) fn is_browser(&self) -> bool {
        self.entry.program == "browser"
    }

    /// Returns whether the program makes several tries, and prints a line for each.
    pub(crate) fn repeats(&self) -> bool {
        self.program.tries
    }

    pub(crate) fn is_ok(&self, code: i32) -> bool {
        match &self.program.ok {
            Some(codes) => codes.contains(&code),
            None => code == 0,
        }
    }

    pub(crate) fn needs(&self) -> Vec<Need> {
        let first = self.program.run[0].as_str();
        let mut needs = match (first, &self.entry.import) {
            ("{python}", Some(module)) => vec![Need {
                name: format!("no python3 with {module}: `tests/lab/run --install-only`"),
                missing: self.python().is_none(),
            }],
            _ if first.starts_with('{') => vec![self.installed(first)],
            _ => vec![Need::program(first)],
        };
        needs.extend(self.program.files.iter().map(|file| self.installed(file)));
        if let Some((package, _)) = self.entry.npm.as_ref().and_then(|npm| npm.rsplit_once('@')) {
            needs.push(self.installed(&format!("{{lab}}/node_modules/{package}")));
        }
        if self.is_browser() {
            let names: &[&str] = match self.entry.client.as_deref() {
                Some("firefox") => &["firefox-esr", "firefox"],
                _ => &["chromium", "chromium-browser", "google-chrome"],
            };
            needs.push(Need {
                name: format!("no {} on the PATH", names[0]),
                missing: names.iter().all(|name| find(name).is_none()),
            });
        }
        needs
    }

    fn installed(&self, file: &str) -> Need {
        let file = repository(&self.fill(file, &[]));
        Need {
            name: format!(
                "{} is not there: `tests/lab/run --install-only`",
                file.display()
            ),
            missing: !file.exists(),
        }
    }

    fn python(&self) -> Option<&PathBuf> {
        self.python.get_or_init(|| self.find_python()).as_ref()
    }

    fn find_python(&self) -> Option<PathBuf> {
        let module = self.entry.import.as_deref()?;
        let venv = match &self.entry.venv {
            Some(name) => format!("target/lab/python-{name}"),
            None => "target/lab/python".to_owned(),
        };
        let python = repository(&venv).join("bin/python3");
        match has_module(&python, module) {
            true => Some(python),
            false => interpreter(module),
        }
    }

    /// Returns the command that uploads a file to the server at `base`.
    pub(crate) fn command(
        &self,
        over: Over,
        shape: &str,
        base: &str,
        file: &Path,
        tries: usize,
    ) -> Command {
        let path = if shape.starts_with("form") {
            "/"
        } else {
            "/raw"
        };
        let (_, address) = base.split_once("://").expect("it is a URL");
        let (file, tries) = (file.display().to_string(), tries.to_string());
        let values = [
            (
                "client",
                self.entry.client.as_deref().unwrap_or(self.name()),
            ),
            ("url", &format!("{base}{path}")),
            ("address", address),
            ("file", &file),
            ("tries", &tries),
        ];
        let mut words = Vec::new();
        for word in &self.program.run {
            let (table, value) = match word.as_str() {
                "{shape}" => (&self.program.shape, shape),
                "{over}" => (&self.program.over, over.name()),
                _ => {
                    words.push(self.fill(word, &values));
                    continue;
                }
            };
            match table.get(value) {
                Some(stand_in) => {
                    words.extend(stand_in.iter().map(|word| self.fill(word, &values)));
                }
                None => words.push(value.to_owned()),
            }
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(repository(""));
        command.env("NODE_PATH", repository("target/lab/node_modules"));
        command
    }

    /// Replaces the words in braces.
    fn fill(&self, word: &str, values: &[(&str, &str)]) -> String {
        let mut filled = word
            .replace("{lab}", &repository("target/lab").display().to_string())
            .replace("{target}", &built().display().to_string())
            .replace("{jars}", "/usr/share/java");
        if word.contains("{python}") {
            let python = self.python().expect("the trial needs it");
            filled = filled.replace("{python}", &python.display().to_string());
        }
        for (name, value) in values {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        filled
    }
}
