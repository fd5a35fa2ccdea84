//! The cost of a refused upload, compared with the same response to a request without a body.

use crate::{
    Effort,
    kept::{LIMIT, figures},
    load::{self, Connections, Load, Rounds, compare, request},
    process::{Cores, version},
    report::{Section, Target},
    servers::{Around, Server, find_nginx},
};

/// The limit of the app whose connections are kept. The remaining body of a refused upload is
/// small.
const SMALL_LIMIT: u64 = 1 << 10;

/// A server and the function that starts it.
type Peer = (String, Box<dyn Fn(u64) -> Server>);

/// A request with the status of its response.
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

/// Returns requests that each use a new connection. The others are compared with the first.
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

/// Returns an upload that is refused, and one that is accepted. The second shows the cost of the
/// transfer alone.
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

/// Returns requests on connections that can be kept.
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
        None => notes.push("nginx is not installed, so it is missing here.".to_owned()),
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
        "For a refusal, the server reads a head with a length and writes a text with numbers. On \
         a new connection there is also a task that waits for the client to close, and one more \
         system call. nginx's refusals take about as much CPU."
            .to_owned(),
        "On a kept connection the remaining body has to be read. A plain handler that only does \
         that loses as much against its own bodiless response, as its row shows. tower-http \
         leaves the body to hyper, which takes the bytes that are already in its buffer, and \
         closes the connection if there are more."
            .to_owned(),
        "On a new connection the client sends the 1 KiB with the head, and closes after the \
         response. How much more it would have sent depends on the path, and the cost of \
         discarding has its own section. The bodiless request has `Connection: close`, as the \
         upload's response does."
            .to_owned(),
        "On a kept connection the refused body is read, and the connection is kept. Servers that \
         close it nevertheless are marked in the table, and pay for new connections."
            .to_owned(),
        "The uploads of 64 KiB are for information, against the first server's bodiless request. \
         Receiving them takes time in any server, as the accepted upload shows."
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
            "responses lost",
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
    /// Adds the rows of all servers. Ours is the first.
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
        assert!(all[1].lost() == 0.0, "combined, no response is lost");
        self.targets.push(Target::at_least(
            0.95,
            format!("{name} connections, per second: refused upload / bodiless 413"),
            all[1].per_second_against(&all[0]).median(),
        ));
    }

    /// Adds the minimum cost of keeping a connection by reading: a plain app whose handler reads.
    fn add_read(&mut self) {
        let start = || Server::axum(Around::Nothing, SMALL_LIMIT, self.cores);
        let read = Asked::refused(
            "2 KiB, read by the handler that responds 413",
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

    /// Adds ours, a server that closes immediately, and a plain app that accepts the upload.
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
        assert!(all[1].lost() == 0.0, "combined, no response is lost");
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
