//! Clients that are refused and do not leave.

use std::{
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    time::sleep,
};

/// The connections from one address. A kernel has some 28 000 ports for each.
const PORTS: usize = 20_000;

/// How many clients connect concurrently. More would overflow the backlog.
pub(crate) const AT_ONCE: usize = 64;

/// How long a client stays silent: longer than `LingerConfig::idle_timeout`.
const SILENT_FOR: Duration = Duration::from_secs(6);

#[derive(Clone, Copy)]
pub(crate) enum Attack {
    /// It reads the reason and stays silent.
    Silent,
    /// It keeps sending as fast as it can.
    Flood,
    /// It keeps sending a byte every two seconds.
    Drip,
}

/// All attackers.
pub(crate) struct Attackers {
    addr: SocketAddr,
    begin: Arc<Semaphore>,
    /// Whether they must stop all activity.
    stop: watch::Sender<bool>,
    count: usize,
}

impl Attackers {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            begin: Arc::new(Semaphore::new(AT_ONCE)),
            stop: watch::Sender::new(false),
            count: 0,
        }
    }

    pub(crate) fn add(&mut self, kind: Attack, count: usize) {
        for _ in 0..count {
            let source = [
                127,
                0,
                0,
                2 + u8::try_from(self.count / PORTS).unwrap_or(u8::MAX),
            ];
            self.count += 1;
            let attacker = Attacker {
                kind,
                addr: self.addr,
                source: Ipv4Addr::from(source).into(),
                begin: Arc::clone(&self.begin),
            };
            tokio::spawn(attacker.keep_at_it(self.stop.subscribe()));
        }
    }

    /// Stops them: they neither send, nor close, nor reconnect.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

struct Attacker {
    kind: Attack,
    addr: SocketAddr,
    source: IpAddr,
    begin: Arc<Semaphore>,
}

impl Attacker {
    /// Attacks repeatedly. A lost connection is replaced.
    async fn keep_at_it(self, mut stop: watch::Receiver<bool>) {
        loop {
            let mut socket = None;
            let stopped = tokio::select! {
                _ = self.attack(&mut socket) => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            if stopped {
                // The socket stays open.
                pending::<()>().await;
            }
            drop(socket);
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn attack(&self, socket: &mut Option<TcpStream>) -> io::Result<()> {
        let begin = self.begin.acquire().await;
        let own = TcpSocket::new_v4()?;
        own.bind((self.source, 0).into())?;
        let socket = socket.insert(own.connect(self.addr).await?);
        let head = "POST /raw HTTP/1.1\r\nHost: form\r\nContent-Length: 1000000000000\r\n\r\n";
        socket.write_all(head.as_bytes()).await?;
        drop(begin);
        match self.kind {
            Attack::Silent => {
                let mut response = [0; 4096];
                while socket.read(&mut response).await? > 0 {}
                // Only a client that sends would notice that its connection was cut.
                sleep(SILENT_FOR).await;
                Ok(())
            }
            Attack::Flood => {
                let zeros = vec![0; 64 * 1024];
                loop {
                    socket.write_all(&zeros).await?;
                }
            }
            Attack::Drip => loop {
                socket.write_all(b".").await?;
                sleep(Duration::from_secs(2)).await;
            },
        }
    }
}
