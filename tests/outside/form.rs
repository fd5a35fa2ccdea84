//! The upload form, as an executable: what it stores and what it leaves behind, who
//! may send, what each of its flags does.

mod support;

/// The trials, by what they are about.
mod form {
    pub(crate) mod flags;
    pub(crate) mod parts;
    pub(crate) mod pressure;
    pub(crate) mod stage;
    pub(crate) mod storing;
    pub(crate) mod tls;
    pub(crate) mod token;
    pub(crate) mod unfinished;
    pub(crate) mod unix;
}

use libtest_mimic::Arguments;

fn main() {
    let trials = [
        form::storing::trials(),
        form::parts::trials(),
        form::unfinished::trials(),
        form::token::trials(),
        form::flags::trials(),
        form::tls::trials(),
        form::unix::trials(),
        form::pressure::trials(),
    ];
    libtest_mimic::run(
        &Arguments::from_args(),
        trials.into_iter().flatten().collect(),
    )
    .exit();
}
