//! The upload form as an executable: what it stores and leaves behind, who may send, and what each
//! flag does.

mod flags;
mod observability;
mod parts;
mod pressure;
mod stage;
mod storing;
mod tls;
mod token;
mod unfinished;
// It listens on Unix sockets only there.
#[cfg(unix)]
mod unix;

use testkit::outside::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let trials = [
        storing::trials(),
        parts::trials(),
        unfinished::trials(),
        token::trials(),
        flags::trials(),
        tls::trials(),
        #[cfg(unix)]
        unix::trials(),
        pressure::trials(),
        observability::trials(),
    ];
    trials.into_iter().flatten().collect()
}
