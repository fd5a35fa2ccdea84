//! Plays the same scripts to the form and to nginx.

use std::{
    collections::hash_map::RandomState,
    env,
    fmt::Debug,
    future::Future,
    hash::BuildHasher,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{StreamExt, stream};
use libtest_mimic::Failed;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use testkit::{outside::Form, tls::Connector};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Runtime,
};

use super::nginx::Nginx;

/// The number of scripts that are played concurrently by default.
const CLIENTS: u64 = 8;

/// How many scripts are played, and how often a failing script is shrunk.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) scripts: u64,
    pub(crate) shrinks: usize,
}

/// A version of HTTP: what its clients do and see.
pub(crate) trait Version: Send + 'static {
    type Script: Debug + Send + Sync;
    type Seen: Debug + Send + Sync;

    /// The protocol that clients prefer in TLS.
    const ALPN: Option<&'static [u8]>;

    fn scripts() -> impl Strategy<Value = Self::Script>;

    /// Plays a script. `nginxs` is what nginx did for the same script, if the server is the form.
    fn play<T>(
        script: &Self::Script,
        socket: T,
        nginxs: Option<&Self::Seen>,
    ) -> impl Future<Output = Self::Seen> + Send
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Returns what the form did worse, if anything.
    fn difference(
        script: &Self::Script,
        ours: &Self::Seen,
        nginxs: &Self::Seen,
    ) -> Option<&'static str>;

    fn count(tally: &Tally, script: &Self::Script, ours: &Self::Seen, nginxs: &Self::Seen);
}

/// Counts the scripts of each kind, to show what was tried.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    /// Requests served on the same connection after a refused one.
    pub(crate) served_behind: AtomicUsize,
    /// The responses of nginx.
    pub(crate) by_nginx: AtomicUsize,
    pub(crate) nginx_lost: AtomicUsize,
    /// The responses of nginx that came while the client held back half of its body.
    pub(crate) early: AtomicUsize,
}

impl Tally {
    pub(crate) fn add(counter: &AtomicUsize, number: usize) {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

fn seed() -> u64 {
    number("SEED").unwrap_or_else(|| RandomState::new().hash_one(0))
}

/// Draws the script with this number. The scripts of one seed are independent.
fn draw<V: Version>(seed: u64, number: u64) -> impl ValueTree<Value = V::Script> {
    let bytes: Vec<_> = [seed, number, 0, 0].map(u64::to_le_bytes).concat();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = V::scripts().new_tree(&mut runner);
    tree.expect("nothing is rejected")
}

/// The addresses of both servers.
#[derive(Clone)]
struct Servers {
    form: SocketAddr,
    nginx: SocketAddr,
    tls: Option<Connector>,
    tally: Arc<Tally>,
}

impl Servers {
    /// Plays the script to both. Returns the difference as `Err`.
    async fn play<V: Version>(&self, script: &V::Script) -> Result<(), String> {
        let nginxs = self.play_to::<V>(script, self.nginx, None).await;
        let ours = self.play_to::<V>(script, self.form, Some(&nginxs)).await;
        V::count(&self.tally, script, &ours, &nginxs);
        V::difference(script, &ours, &nginxs).map_or(Ok(()), |what| {
            Err(format!(
                "{what}\n{script:?}\nours: {ours:?}\nnginx: {nginxs:?}"
            ))
        })
    }

    async fn play_to<V: Version>(
        &self,
        script: &V::Script,
        addr: SocketAddr,
        nginxs: Option<&V::Seen>,
    ) -> V::Seen {
        match &self.tls {
            Some(connector) => {
                let socket = connector.connect_async(addr).await;
                // Each write becomes a segment.
                socket
                    .get_ref()
                    .0
                    .set_nodelay(true)
                    .expect("it is a TCP socket");
                V::play(script, socket, nginxs).await
            }
            None => {
                let socket = TcpStream::connect(addr).await.expect("it listens");
                socket.set_nodelay(true).expect("it is a TCP socket");
                V::play(script, socket, nginxs).await
            }
        }
    }

    /// Returns a simpler script that fails as well.
    async fn smallest<V: Version>(&self, seed: u64, number: u64, shrinks: usize) -> String {
        let mut tree = draw::<V>(seed, number);
        let mut smallest = format!("{:?}", tree.current());
        for _ in 0..shrinks {
            let fails = self.play::<V>(&tree.current()).await.is_err();
            if fails {
                smallest = format!("{:?}", tree.current());
            }
            let goes_on = if fails {
                tree.simplify()
            } else {
                tree.complicate()
            };
            if !goes_on {
                break;
            }
        }
        smallest
    }
}

/// Plays scripts to a form with these flags and to nginx until one differs.
pub(crate) fn compare<V: Version>(
    form: &Form,
    nginx: &Nginx,
    tls: bool,
    effort: Effort,
) -> Result<(), Failed> {
    let tls = tls.then(|| Connector::trusting_anyone().with_alpn(V::ALPN));
    let servers = Servers {
        form: form.addr(),
        nginx: if tls.is_some() { nginx.tls } else { nginx.addr },
        tls,
        tally: Arc::default(),
    };
    let seed = seed();
    let scripts = match number("SCRIPT") {
        Some(script) => script..script + 1,
        None => 0..number("SCRIPTS").unwrap_or(effort.scripts),
    };
    let clients = number("CLIENTS").unwrap_or(CLIENTS);
    let runtime = Runtime::new().expect("threads can be had");
    let played = stream::iter(scripts.clone()).map(|number| {
        let servers = servers.clone();
        runtime.spawn(async move {
            let script = draw::<V>(seed, number).current();
            let difference = servers.play::<V>(&script).await.err()?;
            Some((number, difference))
        })
    });
    let failed = runtime.block_on(async {
        let played = played.buffer_unordered(clients as usize);
        let mut failed = Box::pin(
            played.filter_map(|failed| async { failed.expect("a script does not panic") }),
        );
        failed.next().await
    });
    println!("SEED={seed}, scripts {scripts:?}: {:?}", servers.tally);
    let Some((number, difference)) = failed else {
        return Ok(());
    };
    let smallest = runtime.block_on(servers.smallest::<V>(seed, number, effort.shrinks));
    Err(format!("{difference}\nSEED={seed} SCRIPT={number}; the smallest: {smallest}").into())
}
