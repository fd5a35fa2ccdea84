//! The cost of an accepted request end to end, on kept connections.

use crate::{
    Effort,
    load::{self, Connections, Load, Rounds, compare, request},
    process::{Cores, version},
    report::{Section, Target},
    servers::{Around, Server},
};

pub(crate) const LIMIT: u64 = 16 << 10;

const AROUND: [Around; 7] = [
    Around::Nothing,
    Around::Joined,
    Around::JoinedLayer,
    Around::Identity,
    Around::TowerHttp,
    Around::Guard,
    Around::Hook,
];

pub(crate) fn measure(effort: Effort) -> Section {
    let loads = [
        ("GET", request("GET /", &[], 0)),
        (
            "POST of 1 KiB",
            request("POST /", &["content-length: 1024"], 1024),
        ),
    ];
    let (rows, targets) = against_nothing(effort, &AROUND, &loads, Connections::Kept, 0.99);
    Section {
        title: "Accepted requests, kept connections",
        how: format!(
            "An app of axum {} with axum's own `serve`, or with the layers that the table names. \
             The requests are a GET without a body, and a POST whose handler reads its body. {}",
            version("axum"),
            load::in_words(effort, Cores::find())
        ),
        head: &HEAD,
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
            "A layer that does nothing is in the table because axum boxes a route's service and \
             its future once more for any `.layer`. The limit layer of all parts combined is \
             around the whole app, so it does not cause that."
                .to_owned(),
            "Delivery tracks a body and the limit layer counts it. For each of the two, axum's \
             `Body` takes a box, and the request of some hundred bytes is moved. Delivery also \
             allocates a slot to which the body returns. Without a body, axum's own is passed on."
                .to_owned(),
            "If the core is not in use all the time, the rate also depends on when the load is \
             scheduled. CPU is the steadier figure."
                .to_owned(),
        ],
        plots: Vec::new(),
    }
}

pub(crate) const HEAD: [&str; 7] = [
    "request",
    "around the app",
    "per second",
    "against nothing",
    "CPU of the server, µs",
    "against nothing",
    "core in use",
];

/// Compares the app in each of `around` with the first of them, in table rows. `target` is the
/// required speed of the second.
pub(crate) fn against_nothing(
    effort: Effort,
    around: &[Around],
    loads: &[(&str, Vec<u8>)],
    connections: Connections,
    target: f64,
) -> (Vec<Vec<String>>, Vec<Target>) {
    let cores = Cores::find();
    let start = |around: Around| move || Server::axum(around, LIMIT, cores);
    let starts: Vec<_> = around.iter().map(|around| start(*around)).collect();
    let starts: Vec<_> = starts
        .iter()
        .map(|start| start as &dyn Fn() -> Server)
        .collect();
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for (name, request) in loads {
        let load = Load {
            request: request.clone(),
            status: "200",
            connections,
        };
        let loads: Vec<_> = (0..around.len())
            .map(|server| (server, load.clone()))
            .collect();
        let all = compare(effort, cores, &starts, &loads);
        for (around, one) in around.iter().zip(&all) {
            assert!(one.lost() == 0.0, "{name}: {around:?} loses responses");
            let mut row = vec![(*name).to_owned(), around.in_words().to_owned()];
            row.extend(figures(one, &all[0]));
            rows.push(row);
        }
        let (nothing, joined) = (&all[0], &all[1]);
        let per_second = joined.per_second_against(nothing).median();
        let what = format!("{name}, per second: combined / nothing");
        targets.push(Target::at_least(target, what, per_second));
    }
    (rows, targets)
}

/// Returns the columns from `per second` on.
pub(crate) fn figures(one: &Rounds, other: &Rounds) -> [String; 5] {
    [
        format!("{:.0}", one.per_second()),
        format!("{:.3}", one.per_second_against(other)),
        format!("{:.2}", one.cpu()),
        format!("{:.3}", one.cpu_against(other)),
        format!("{:.0} %", one.busy().median() * 100.0),
    ]
}
