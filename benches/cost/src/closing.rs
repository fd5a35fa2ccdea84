//! The cost of closing a connection if everything was read.

use crate::{
    Effort,
    kept::{HEAD, against_nothing},
    load::{self, Connections, request},
    process::{Cores, version},
    report::Section,
    servers::Around,
};

const AROUND: [Around; 4] = [
    Around::Nothing,
    Around::Joined,
    Around::JoinedLayer,
    Around::Hook,
];

pub(crate) fn measure(effort: Effort) -> Section {
    let loads = [
        ("GET", request("GET /", &["connection: close"], 0)),
        (
            "POST of 1 KiB",
            request(
                "POST /",
                &["connection: close", "content-length: 1024"],
                1024,
            ),
        ),
    ];
    let (rows, targets) = against_nothing(effort, &AROUND, &loads, Connections::Closed, 0.98);
    Section {
        title: "Accepted requests, each on its own connection",
        how: format!(
            "As before, on axum {}: each request has `Connection: close`, and the client reads \
             to the end. {}",
            version("axum"),
            load::in_words(effort, Cores::find())
        ),
        head: &HEAD,
        rows,
        targets,
        notes: vec![
            "The socket wrapper alone does not know whether everything was read, so it always lingers."
                .to_owned(),
        ],
        plots: Vec::new(),
    }
}
