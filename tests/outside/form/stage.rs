//! The form with its own folder, and requests to it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use testkit::{
    Framing, Outcome, SendFirst,
    outside::{Form, Trial, trial, until},
};

/// Flags for delivery and linger combined, and for the socket wrapper alone.
pub(crate) const SERVED: [&[&str]; 2] = [&[], &["--hook-only"]];

/// Returns a trial that needs no program.
pub(crate) fn test(name: &str, test: fn()) -> Trial {
    trial(name, &[], move || {
        test();
        Ok(())
    })
}

/// A running form. Its folder lies three levels deep in our own folder, so that a file whose name
/// contains `..` would be found.
pub(crate) struct Stage {
    pub(crate) form: Form,
    pub(crate) around: TempDir,
}

impl Stage {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("a/b/files");
        fs::create_dir_all(&folder).unwrap();
        let folder = folder.to_str().unwrap();
        let form = Form::start(&[&["--dir", folder], flags].concat());
        Self { form, around }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.form.addr()
    }

    /// Returns every file in the form's folder and around it.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files_in(self.around.path())
    }

    /// Waits until the folder is empty. A refused or aborted upload removes its files when it is
    /// dropped, which may be after the response.
    #[track_caller]
    pub(crate) fn becomes_empty(&self) {
        until("the folder is empty", || self.files().is_empty());
    }

    pub(crate) fn get(&self, path: &'static str, accept: &str) -> Outcome {
        let get = SendFirst {
            method: "GET",
            ..SendFirst::post(path, Framing::ContentLength, 0)
        };
        get.header("Connection: close")
            .header(accept)
            .to(self.addr())
    }
}

/// Starts the form with a command that ends in its executable.
pub(crate) fn start_by(command: Command, flags: &[&str]) -> Form {
    Form::start_by(command, "127.0.0.1:0", flags)
}

pub(crate) fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else {
            files.push(path);
        }
    }
    files
}

pub(crate) const TEXT: &str = "Accept: */*";
pub(crate) const HTML: &str = "Accept: text/html,*/*;q=0.8";

/// Returns a file's part of a form.
pub(crate) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--xyz\r\nContent-Disposition: form-data; name=\"photopicker\"; filename=\"{name}\"\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n"].concat()
}

/// Returns a text field's part of a form.
pub(crate) fn text(content: &str) -> Vec<u8> {
    let head = "--xyz\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n";
    [head, content, "\r\n"].concat().into()
}

/// Returns a whole form, on a connection that ends with its response.
pub(crate) fn form(parts: &[Vec<u8>]) -> SendFirst {
    exactly(&[&parts.concat()[..], b"--xyz--\r\n"].concat())
}

/// Returns a request with these bytes as a form's body.
pub(crate) fn exactly(body: &[u8]) -> SendFirst {
    let length = body.len() as u64;
    SendFirst {
        prefix: body.to_vec(),
        ..SendFirst::form("/", Framing::ContentLength, length).header("Connection: close")
    }
}
