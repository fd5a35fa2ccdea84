//! The cost of an accepted request end to end.

use crate::{
    Effort,
    load::{Connections, Load, Plan, Rounds, compare, request},
    process::{Cores, version},
    report::{Section, Target},
    servers::{Around, Server},
};

pub(crate) const LIMIT: u64 = 16 << 10;

/// A request, what is around the app that gets it, and the highest ratio that the combined parts
/// are to have.
struct Asked {
    name: &'static str,
    request: Vec<u8>,
    connections: Connections,
    /// 1. The app alone, with which the others are compared.
    /// 2. All parts combined.
    /// 3. tower-http.
    /// 4. The others.
    around: &'static [Around],
    most: f64,
}

impl Asked {
    fn load(&self) -> Load {
        Load {
            request: self.request.clone(),
            status: "200",
            connections: self.connections,
        }
    }
}

fn all() -> [Asked; 4] {
    let mut chunked = request("POST /", &["transfer-encoding: chunked"], 0);
    chunked.extend_from_slice(b"400\r\n");
    chunked.resize(chunked.len() + 1024, b'x');
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    [
        Asked {
            name: "GET",
            request: request("GET /", &[], 0),
            connections: Connections::Kept,
            around: &[
                Around::Nothing,
                Around::Combined,
                Around::TowerHttp,
                Around::CombinedByLayer,
                Around::Serve,
                Around::Identity,
                Around::Guard,
                Around::Wrapper,
            ],
            most: 1.02,
        },
        Asked {
            name: "POST of 1 KiB",
            request: request("POST /", &["content-length: 1024"], 1024),
            connections: Connections::Kept,
            around: &[
                Around::Nothing,
                Around::Combined,
                Around::TowerHttp,
                Around::CombinedByLayer,
                Around::Serve,
            ],
            most: 1.05,
        },
        Asked {
            name: "POST of 1 KiB, chunked",
            request: chunked,
            connections: Connections::Kept,
            around: &[
                Around::Nothing,
                Around::Combined,
                Around::TowerHttp,
                Around::CombinedByLayer,
            ],
            most: 1.06,
        },
        Asked {
            name: "GET, on a new connection",
            request: request("GET /", &["connection: close"], 0),
            connections: Connections::Closed,
            around: &[
                Around::Nothing,
                Around::Combined,
                Around::TowerHttp,
                Around::CombinedByLayer,
                Around::Serve,
                Around::Wrapper,
            ],
            most: 1.02,
        },
    ]
}

/// Returns each request with its name.
pub(crate) fn loads() -> impl Iterator<Item = (&'static str, Load)> {
    all().into_iter().map(|asked| (asked.name, asked.load()))
}

pub(crate) fn measure(effort: Effort) -> Section {
    let mut part = Part {
        effort,
        rows: Vec::new(),
        targets: Vec::new(),
    };
    for asked in all() {
        part.add(&asked);
    }
    let Part { rows, targets, .. } = part;
    Section {
        title: "Accepted requests",
        how: format!(
            "An app of axum {} with axum's own `serve`, or with the layers that the table names. A \
             GET has no body, and the handler of a POST reads its body. {}",
            version("axum"),
            Plan::in_words(effort)
        ),
        head: &[
            "request",
            "around the app",
            "CPU, µs",
            "relative to axum alone",
            "sleeps per request",
        ],
        rows,
        targets,
        notes: vec![
            format!(
                "`RequestBodyLimitLayer` is that of tower-http {}. All of them use hyper {} and \
                 tokio {}.",
                version("tower-http"),
                version("hyper"),
                version("tokio")
            ),
            "A server that sleeps once for 32 requests sleeps 0.03 times per request.".to_owned(),
            "A layer that does nothing is in the table because axum boxes a route's service and \
             its future once more for any `.layer`. The limit layer of all parts combined is \
             around the whole app, so it does not cause that."
                .to_owned(),
            "The socket wrapper alone does not know whether everything was read, so it always \
             lingers when a connection closes. `serve` of this crate does know."
                .to_owned(),
        ],
        plots: Vec::new(),
    }
}

struct Part {
    effort: Effort,
    rows: Vec<Vec<String>>,
    targets: Vec<Target>,
}

impl Part {
    fn add(&mut self, asked: &Asked) {
        let Asked {
            name, around, most, ..
        } = *asked;
        let load = asked.load();
        let start = |around: Around| move || Server::axum(around, LIMIT, Cores::shared());
        let starts: Vec<_> = around.iter().map(|around| start(*around)).collect();
        let starts: Vec<_> = starts
            .iter()
            .map(|start| start as &dyn Fn() -> Server)
            .collect();
        let loads: Vec<_> = (0..around.len())
            .map(|server| (server, load.clone()))
            .collect();
        let all = compare(self.effort, &starts, &loads);
        for (around, one) in around.iter().zip(&all) {
            assert!(one.lost() == 0.0, "{name}: {around:?} loses responses");
            let mut row = vec![name.to_owned(), around.in_words().to_owned()];
            row.extend(figures(one, &all[0]));
            self.rows.push(row);
        }
        let combined = &all[1];
        self.targets.push(Target::estimated(
            most,
            format!("{name}: combined / axum alone"),
            combined.against(&all[0]),
        ));
        self.targets.push(Target::estimated(
            1.0,
            format!("{name}: combined / tower-http"),
            combined.against(&all[2]),
        ));
    }
}

/// Returns the columns from the CPU time on.
pub(crate) fn figures(one: &Rounds, base: &Rounds) -> [String; 3] {
    let ratio = match std::ptr::eq(one, base) {
        true => "1".to_owned(),
        false => one.against(base).as_ratio(),
    };
    [
        format!("{:.2}", one.cpu()),
        ratio,
        format!("{:.2}", one.sleeps()),
    ]
}
