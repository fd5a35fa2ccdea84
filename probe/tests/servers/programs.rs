//! Servers that are programs outside of this process.

use std::{
    fs,
    process::{Command, Stdio},
};

use libtest_mimic::Failed;
use testkit::{
    outside::{Form, interpreter, repository},
    proxy::{self, CLASHES, Daemon, free_addrs},
};

/// Starts nginx with a limit of 4 MiB. Returns its URL, and the process.
pub(crate) fn nginx() -> Result<(String, Daemon), Failed> {
    let template = fs::read_to_string(repository("probe/servers/nginx.conf"))?;
    let mut said = String::new();
    for _ in 0..CLASHES {
        let folder = tempfile::tempdir()?;
        let [addr, upstream] = free_addrs();
        let config = template
            .replace("LISTEN", &addr.to_string())
            .replace("UPSTREAM", &upstream.to_string())
            .replace("NAME", proxy::name(&folder));
        match Daemon::nginx(folder, &config, addr) {
            Ok(daemon) => return Ok((format!("http://{addr}/"), daemon)),
            Err(words) => said = words,
        }
    }
    Err(said.into())
}

/// Starts the WSGI program.
pub(crate) fn wsgi() -> Result<Form, Failed> {
    let python = interpreter("wsgiref").ok_or("no python3")?;
    let mut command = Command::new(python);
    command.arg(repository("probe/servers/wsgi.py"));
    command.stdin(Stdio::null());
    Ok(Form::start_with(command, &[]))
}
