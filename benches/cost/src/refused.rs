//! What a refused upload costs more than the same answer to a request without a body.

use crate::{
    Effort,
    kept::{LIMIT, figures},
    load::{self, Connections, Load, Rounds, compare, request},
    process::{Cores, version},
    report::{Section, Target},
    servers::{Around, Server, find_nginx},
};

/// Of the app whose connections are kept: what is refused is a small rest.
const SMALL_LIMIT: u64 = 1 << 10;

/// A server, and how it is started.
type Peer = (String, Box<dyn Fn(u64) -> Server>);

/// A request, and whether the answer to a bodiless one is what it is compared with.
struct Asked {
    what: &'static str,
    request: Vec<u8>,
    status: &'static str,
}

impl Asked {
    fn refused(what: &'static str, request: Vec<u8>) -> Self {
        Self {
            what,
            request,
            status: "413",
        }
    }
}

/// Each on its own connection. The first is what the others are compared with.
fn on_new() -> Vec<Asked> {
    vec![
        Asked::refused(
            "no body",
            request("GET /refused", &["connection: close"], 0),
        ),
        Asked::refused(
            "20 MB declared, 1 KiB sent",
            request("POST /", &["content-length: 20000000"], 1 << 10),
        ),
    ]
}

/// What the transfer alone costs is in the last, to tell it from the refusal.
fn of_64_kib() -> [Asked; 2] {
    let upload = |headers: &[&str]| request("POST /", headers, 64 << 10);
    let headers = ["connection: close", "content-length: 65536"];
    [
        Asked::refused("64 KiB, all sent first", upload(&headers)),
        Asked {
            what: "64 KiB, accepted and read by a handler",
            request: upload(&headers),
            status: "200",
        },
    ]
}

/// On connections that can be kept.
fn on_kept() -> Vec<Asked> {
    vec![
        Asked::refused("no body", request("GET /refused", &[], 0)),
        Asked::refused(
            "2 KiB, all sent first",
            request("POST /", &["content-length: 2048"], 2 << 10),
        ),
    ]
}

fn peers(cores: Option<Cores>, notes: &mut Vec<String>) -> Vec<Peer> {
    let axum = |around: Around| {
        let start = move |limit| Server::axum(around, limit, cores);
        let name = format!("axum, {}", around.in_words());
        (name, Box::new(start) as Box<dyn Fn(u64) -> Server>)
    };
    let mut peers = vec![axum(Around::Joined), axum(Around::TowerHttp)];
    match find_nginx() {
        Some((program, version)) => {
            let start = move |limit| Server::nginx(&program, limit, cores);
            peers.push((
                format!("{version}, `client_max_body_size`"),
                Box::new(start),
            ));
        }
        None => notes.push("nginx is not installed here, and not among the peers.".to_owned()),
    }
    peers.push((
        format!("actix-web {}, `PayloadConfig`", version("actix-web")),
        Box::new(move |limit| Server::actix(limit, cores)),
    ));
    peers
}

pub(crate) fn measure(effort: Effort) -> Section {
    let cores = Cores::find();
    let mut notes = Vec::new();
    let peers = peers(cores, &mut notes);
    let mut part = Part {
        effort,
        cores,
        peers: &peers,
        rows: Vec::new(),
        targets: Vec::new(),
    };
    part.add("new", Connections::Left, LIMIT, on_new);
    part.add("kept", Connections::Kept, SMALL_LIMIT, on_kept);
    part.add_read();
    part.add_64_kib();
    let Part { rows, targets, .. } = part;
    notes.extend([
        "A refusal has a head with a length to read, and words with numbers to write. On a new \
         connection it also has a task that waits for the client to close, and one system call \
         more; of CPU, nginx pays about as much for its own."
            .to_owned(),
        "On a kept connection the rest has to be read. A handler with nothing around it that does \
         just that loses as much against its own bodiless answer, as its row shows. tower-http's \
         leaves it to hyper, which takes what is in its buffer already, and closes the connection \
         where there is more."
            .to_owned(),
        "A client of a new connection sends the 1 KiB with the head, and closes when it has the \
         answer: what it would have sent otherwise is a matter of the path, and what it costs to \
         discard has a part of its own. The bodiless request asks for the close that the upload's \
         answer says."
            .to_owned(),
        "On a kept connection what is refused is read, and the connection goes on. Those that \
         close it all the same are said to, and pay for new ones."
            .to_owned(),
        "Those of 64 KiB are for information, against the first server's bodiless request: to \
         receive it takes time, whoever reads it, as the accepted one shows."
            .to_owned(),
    ]);
    Section {
        title: "Refused uploads",
        how: format!(
            "A limit of {} KiB on new connections and of {} KiB on kept ones; each server's \
             refusals are compared with its own 413 to a request without a body, on connections \
             of the same kind. {}",
            LIMIT >> 10,
            SMALL_LIMIT >> 10,
            load::in_words(effort, cores)
        ),
        head: &[
            "server",
            "connections",
            "request",
            "per second",
            "against no body",
            "CPU of the server, µs",
            "against no body",
            "core in use",
            "answers lost",
        ],
        rows,
        targets,
        notes,
        plots: Vec::new(),
    }
}

struct Part<'a> {
    effort: Effort,
    cores: Option<Cores>,
    peers: &'a [Peer],
    rows: Vec<Vec<String>>,
    targets: Vec<Target>,
}

impl Part<'_> {
    /// All the peers; ours is the first.
    fn add(
        &mut self,
        name: &str,
        connections: Connections,
        limit: u64,
        asked: impl Fn() -> Vec<Asked>,
    ) {
        let starts: Vec<_> = self
            .peers
            .iter()
            .map(|(_, start)| move || start(limit))
            .collect();
        let starts: Vec<_> = starts
            .iter()
            .map(|start| start as &dyn Fn() -> Server)
            .collect();
        let each = asked().len();
        let loads: Vec<_> = (0..self.peers.len())
            .flat_map(|server| {
                let asked = asked().into_iter();
                asked.map(move |asked| (server, load(&asked, connections)))
            })
            .collect();
        let all = compare(self.effort, self.cores, &starts, &loads);
        for ((server, _), all) in self.peers.iter().zip(all.chunks(each)) {
            for (asked, one) in asked().iter().zip(all) {
                self.row(server, name, asked.what, one, &all[0]);
            }
        }
        assert!(all[1].lost() == 0.0, "joined, no answer is lost");
        self.targets.push(Target::at_least(
            0.95,
            format!("{name} connections, per second: refused upload / bodiless 413"),
            all[1].per_second_against(&all[0]).median(),
        ));
    }

    /// The least that it takes to keep a connection by reading: nothing around the app,
    /// whose handler answers.
    fn add_read(&mut self) {
        let start = || Server::axum(Around::Nothing, SMALL_LIMIT, self.cores);
        let read = Asked::refused(
            "2 KiB, read by the handler that answers 413",
            request("POST /refused", &["content-length: 2048"], 2 << 10),
        );
        let asked = [on_kept().swap_remove(0), read];
        let loads = asked
            .each_ref()
            .map(|asked| (0, load(asked, Connections::Kept)));
        let all = compare(self.effort, self.cores, &[&start], &loads);
        for (asked, one) in asked.iter().zip(&all) {
            self.row("axum, nothing", "kept", asked.what, one, &all[0]);
        }
    }

    /// Ours, one that closes at once, and the app with nothing around it, which accepts it.
    fn add_64_kib(&mut self) {
        let cores = self.cores;
        let around = [Around::Joined, Around::TowerHttp, Around::Nothing];
        let starts = around.map(|around| move || Server::axum(around, LIMIT, cores));
        let starts: Vec<_> = starts
            .iter()
            .map(|start| start as &dyn Fn() -> Server)
            .collect();
        let bodiless = on_new().swap_remove(0);
        let [refused, accepted] = of_64_kib();
        let asked = [(0, &bodiless), (0, &refused), (1, &refused), (2, &accepted)];
        let loads = asked.map(|(server, asked)| (server, load(asked, Connections::Left)));
        let all = compare(self.effort, cores, &starts, &loads);
        for ((server, asked), one) in asked.iter().zip(&all).skip(1) {
            let server = format!("axum, {}", around[*server].in_words());
            self.row(&server, "new", asked.what, one, &all[0]);
        }
        assert!(all[1].lost() == 0.0, "joined, no answer is lost");
    }

    fn row(&mut self, server: &str, name: &str, what: &str, one: &Rounds, bodiless: &Rounds) {
        let closed = match one.closed() {
            0.0 => name.to_owned(),
            closed => format!("{name}, {:.0} % closed", closed * 100.0),
        };
        let mut row = vec![server.to_owned(), closed, what.to_owned()];
        row.extend(figures(one, bodiless));
        row.push(format!("{:.1} %", one.lost() * 100.0));
        self.rows.push(row);
    }
}

fn load(asked: &Asked, connections: Connections) -> Load {
    Load {
        request: asked.request.clone(),
        status: asked.status,
        connections,
    }
}
