//! Measures what a hundred times as many lingering connections take.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::{
    Effort,
    line::{Line, crowd},
    peer::{Peer, wait},
    plot,
    process::all_descriptors,
    report::{Section, Target},
};

/// The kernel's memory for sockets, including those of the clients on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    /// The server's share of the objects behind sockets, in bytes. `None` without root.
    pub(crate) objects: Option<f64>,
    /// The bytes queued in TCP sockets, of both ends.
    pub(crate) queued: f64,
}

impl Kernel {
    pub(crate) fn now() -> Self {
        Self {
            objects: objects(),
            queued: queued().unwrap_or_default(),
        }
    }
}

/// Returns the bytes of the server's objects. Sockets, inodes, files and names count half, because
/// they exist at both ends. epoll entries count fully, because our clients do not wait.
fn objects() -> Option<f64> {
    let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
    let bytes = slabs.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let share = match fields.next()? {
            "TCP" | "sock_inode_cache" | "filp" | "dentry" => 0.5,
            "eventpoll_epi" | "eventpoll_pwq" => 1.0,
            _ => return None,
        };
        let active: f64 = fields.next()?.parse().ok()?;
        let size: f64 = fields.nth(1)?.parse().ok()?;
        Some(active * size * share)
    });
    Some(bytes.sum())
}

fn queued() -> Option<f64> {
    let sockets = fs::read_to_string("/proc/net/sockstat").ok()?;
    let tcp = sockets.lines().find(|line| line.starts_with("TCP:"))?;
    let mut fields = tcp.split_whitespace().skip_while(|field| *field != "mem");
    Some(fields.nth(1)?.parse::<f64>().ok()? * 4096.0)
}

/// The figures for one number of connections.
struct Seen {
    count: usize,
    resident: f64,
    objects: Option<f64>,
    queued: f64,
    /// The CPU time, in milliseconds per second.
    cpu: f64,
    /// The seconds from the last connection's idle timeout to the end of all connections.
    reclaimed: f64,
}

fn seen(count: usize, idle: Duration, look: Duration) -> Seen {
    let peer = Peer::start("refusing-ours", &[&idle.as_secs().to_string()], None);
    let (resident, kernel) = (peer.process.resident() as f64, Kernel::now());
    let crowd = crowd(count, || peer.connect(), Line::ask);
    let last = Instant::now();
    wait("all of them are held", || peer.held() == count);
    thread::sleep(Duration::from_millis(500));
    let now = Kernel::now();
    let resident = peer.process.resident() as f64 - resident;
    let cpu = peer.process.cpu();
    thread::sleep(look);
    let cpu = peer.process.cpu().saturating_sub(cpu);
    assert_eq!(
        peer.held(),
        count,
        "none has ended: a slow machine needs a longer timeout"
    );
    thread::sleep(idle.saturating_sub(last.elapsed()));
    peer.let_go();
    let reclaimed = last.elapsed().saturating_sub(idle);
    let said = peer.said();
    assert!(said.cut >= count as u64, "at the idle timeout: {said:?}");
    drop(crowd);
    let objects = now.objects.zip(kernel.objects);
    Seen {
        count,
        resident,
        objects: objects.map(|(now, before)| now - before),
        queued: now.queued - kernel.queued,
        cpu: cpu.as_secs_f64() * 1e3 / look.as_secs_f64(),
        reclaimed: reclaimed.as_secs_f64(),
    }
}

pub(crate) fn measure(effort: Effort) -> Section {
    let counts = effort.of(&[100, 1_000, 10_000][..], &[100, 1_000]);
    let idle = Duration::from_secs(effort.of(20, 4));
    let look = Duration::from_secs(effort.of(5, 1));
    let most = *counts.last().expect("there is one");
    all_descriptors();
    let all: Vec<_> = counts
        .iter()
        .map(|count| seen(*count, idle, look))
        .collect();

    let mib = |bytes: f64| bytes / (1 << 20) as f64;
    let rows = all.iter().map(|seen| {
        let objects = seen.objects.map(|bytes| format!("{:.1}", mib(bytes)));
        vec![
            seen.count.to_string(),
            format!("{:.1}", mib(seen.resident)),
            objects.unwrap_or_else(|| "needs root".to_owned()),
            format!("{:.1}", mib(seen.queued)),
            format!("{:.2}", seen.cpu),
            format!("{:.2}", seen.reclaimed),
        ]
    });
    let rows = rows.collect();
    let last = all.last().expect("there is one");
    let line = |of: &dyn Fn(&Seen) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = all
            .iter()
            .filter_map(|seen| Some((seen.count as f64, mib(of(seen)?))));
        points.filter(|point| point.1 > 0.0).collect()
    };
    let lines = [
        ("process", line(&|seen| Some(seen.resident))),
        ("kernel, sockets", line(&|seen| seen.objects)),
    ];
    let shows = "Memory of lingering connections";
    Section {
        title: "A hundred times as many",
        how: format!(
            "Refused clients that are silent until the idle timeout of {} s, with a new server \
             for each row. Memory is in excess of that before the clients.",
            idle.as_secs()
        ),
        head: &[
            "connections",
            "process, MiB",
            "kernel: sockets, MiB",
            "kernel: queues, MiB",
            "CPU, ms per s",
            "all closed, s after the timeout",
        ],
        rows,
        targets: vec![
            Target::at_most(1.0, format!("{most} silent: CPU, ms per s"), last.cpu),
            Target::at_most(
                1.0,
                format!("{most}: closed, s after the timeout"),
                last.reclaimed,
            ),
        ],
        notes: vec![
            "The kernel's sockets are the server's half of the memory for TCP sockets, with \
             inode, file, name and epoll entry. The queues are those of both ends."
                .to_owned(),
        ],
        plots: vec![plot::growth("growth.svg", shows, "MiB", &lines)],
    }
}
