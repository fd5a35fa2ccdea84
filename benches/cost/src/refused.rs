//! The cost of a refused upload.

use crate::{
    Effort,
    accepted::{LIMIT, figures},
    load::{Connections, Load, Plan, Rounds, compare, request},
    process::{Cores, version},
    report::{Section, Target},
    servers::{Around, Server, find_nginx},
};

/// The limit of the app whose connections are kept. The remaining body of a refused upload is
/// small.
pub(crate) const SMALL_LIMIT: u64 = 1 << 10;

/// A server that refuses an upload: its name, how it is started with a limit, and the path of the
/// upload.
struct Refusing {
    name: String,
    start: Box<dyn Fn(u64) -> Server>,
    path: &'static str,
}

impl Refusing {
    fn axum(around: Around) -> Self {
        Self {
            name: format!("axum, {}", around.in_words()),
            start: Box::new(move |limit| Server::axum(around, limit, Cores::shared())),
            path: "/",
        }
    }

    /// A handler that reads the body and responds with 413, in an app without a limit.
    fn by_handler() -> Self {
        Self {
            name: "axum, a handler that reads the body".to_owned(),
            path: "/refused",
            ..Self::axum(Around::Nothing)
        }
    }
}

fn others(notes: &mut Vec<String>) -> Vec<Refusing> {
    let mut others = Vec::new();
    match find_nginx() {
        Some((program, version)) => others.push(Refusing {
            name: format!("{version}, `client_max_body_size`"),
            start: Box::new(move |limit| Server::nginx(&program, limit, Cores::shared())),
            path: "/",
        }),
        None => notes.push("nginx is not installed, so it is missing here.".to_owned()),
    }
    others.push(Refusing {
        name: format!("actix-web {}, `PayloadConfig`", version("actix-web")),
        start: Box::new(|limit| Server::actix(limit, Cores::shared())),
        path: "/",
    });
    others
}

/// Returns an upload of 20 MB of which 1 KiB is sent. Each has its own connection.
pub(crate) fn of_20_mb(path: &str) -> Load {
    Load {
        request: request(
            &format!("POST {path}"),
            &["content-length: 20000000"],
            1 << 10,
        ),
        status: "413",
        connections: Connections::Left,
    }
}

/// Returns an upload of 2 KiB. The connections are kept.
pub(crate) fn of_2_kib(path: &str) -> Load {
    Load {
        request: request(&format!("POST {path}"), &["content-length: 2048"], 2 << 10),
        status: "413",
        connections: Connections::Kept,
    }
}

pub(crate) fn measure(effort: Effort) -> Section {
    let mut notes = Vec::new();
    let mut part = Part {
        effort,
        rows: Vec::new(),
    };

    let mut on_new = vec![
        Refusing::axum(Around::TowerHttp),
        Refusing::axum(Around::Combined),
    ];
    on_new.extend(others(&mut notes));
    let of_new = part.add("new", LIMIT, &on_new, of_20_mb);
    let mut on_kept = vec![
        Refusing::by_handler(),
        Refusing::axum(Around::Combined),
        Refusing::axum(Around::TowerHttp),
    ];
    on_kept.extend(others(&mut Vec::new()));
    let of_kept = part.add("kept", SMALL_LIMIT, &on_kept, of_2_kib);

    notes.extend([
        "On a new connection, the client sends 1 KiB of 20 MB with the head, and closes after the \
         response. How much more it would have sent depends on the path, and the cost of \
         discarding has its own section. tower-http does not wait for the client, and so loses \
         the response if the client still sends."
            .to_owned(),
        "On a kept connection, the body is sent whole before the response is read, and is twice \
         as long as the limit. tower-http leaves the body to hyper, which takes the bytes that are \
         already in its buffer, and closes the connection if there are more. Servers that close it \
         are marked, and pay for new connections."
            .to_owned(),
    ]);
    Section {
        title: "Refused uploads",
        how: format!(
            "Uploads that are refused with 413, on new connections by a limit of {} KiB, on kept \
             ones by a limit of {} KiB. {}",
            LIMIT >> 10,
            SMALL_LIMIT >> 10,
            Plan::in_words(effort)
        ),
        head: &[
            "connections",
            "server",
            "CPU, µs",
            "relative to the first",
            "sleeps per request",
            "responses lost",
        ],
        rows: part.rows,
        targets: vec![
            Target::estimated(
                1.02,
                "new: combined / tower-http (0.02 is allowed for a system call)",
                of_new[1].against(&of_new[0]),
            ),
            Target::estimated(
                1.0,
                "kept: combined / a handler that reads",
                of_kept[1].against(&of_kept[0]),
            ),
        ],
        notes,
        plots: Vec::new(),
    }
}

struct Part {
    effort: Effort,
    rows: Vec<Vec<String>>,
}

impl Part {
    /// Compares the servers with the first of them. The second is ours.
    fn add(
        &mut self,
        name: &str,
        limit: u64,
        servers: &[Refusing],
        load: impl Fn(&str) -> Load,
    ) -> Vec<Rounds> {
        let starts: Vec<_> = servers
            .iter()
            .map(|server| move || (server.start)(limit))
            .collect();
        let starts: Vec<_> = starts
            .iter()
            .map(|start| start as &dyn Fn() -> Server)
            .collect();
        let loads: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(at, server)| (at, load(server.path)))
            .collect();
        let all = compare(self.effort, &starts, &loads);
        for (server, one) in servers.iter().zip(&all) {
            let connections = match one.closed() {
                0.0 => name.to_owned(),
                closed => format!("{name}, {:.0} % closed", closed * 100.0),
            };
            let mut row = vec![connections, server.name.clone()];
            row.extend(figures(one, &all[0]));
            row.push(format!("{:.1} %", one.lost() * 100.0));
            self.rows.push(row);
        }
        assert!(all[1].lost() == 0.0, "combined, no response is lost");
        all
    }
}
