//! Uploaded files on disk.
//!
//! A file is written under a name of the server's own with `.part` at its end,
//! and removed with its [`Incoming`] unless [`Store::keep`] takes that ending off.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tempfile::{TempDir, TempPath};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_blocking;

/// The folder that keeps the files.
pub(crate) enum Folder {
    /// The user's.
    Given(PathBuf),
    /// Our own, removed on drop.
    Temporary(TempDir),
}

impl Folder {
    pub(crate) fn open(dir: Option<PathBuf>) -> io::Result<Self> {
        match dir {
            Some(dir) => {
                if !dir.is_dir() {
                    tracing::warn!(
                        "{} is no folder: uploads will fail until it is",
                        dir.display()
                    );
                }
                Ok(Self::Given(dir))
            }
            None => tempfile::Builder::new()
                .prefix("upload_form-")
                .tempdir()
                .map(Self::Temporary),
        }
    }

    pub(crate) fn store(&self) -> Store {
        let path = match self {
            Self::Given(path) => path,
            Self::Temporary(dir) => dir.path(),
        };
        Store { dir: path.into() }
    }
}

/// Makes files in one folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: Arc<Path>,
}

/// A file that is being received, removed on drop.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: File,
    path: TempPath,
    size: u64,
    hash: Sha256,
}

/// A file that was kept, as its sender gets to see it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The client's name for it, fit to be shown.
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
    /// In lowercase hexadecimal.
    pub(crate) sha256: String,
}

impl Store {
    /// Creates a file that did not exist before, open to nobody else.
    pub(crate) async fn create(&self) -> io::Result<Incoming> {
        let dir = Arc::clone(&self.dir);
        let file = blocking(move || {
            tempfile::Builder::new()
                .prefix("upload-")
                .suffix(".part")
                .rand_bytes(16)
                .tempfile_in(dir)
        })
        .await?;
        let (file, path) = file.into_parts();
        Ok(Incoming {
            file: File::from_std(file),
            path,
            size: 0,
            hash: Sha256::new(),
        })
    }

    /// Keeps all the files of a request, or none.
    pub(crate) async fn keep(&self, files: Vec<(String, Incoming)>) -> io::Result<Vec<Stored>> {
        blocking(move || {
            let mut places = Vec::new();
            let mut stored = Vec::new();
            for (name, file) in files {
                let place = file.path.with_extension("");
                if let Err(error) = file.path.persist_noclobber(&place) {
                    remove(&places);
                    return Err(error.error);
                }
                places.push(place);
                stored.push(Stored {
                    name,
                    size: file.size,
                    sha256: base16ct::lower::encode_string(&file.hash.finalize()),
                });
            }
            Ok(stored)
        })
        .await
    }
}

impl Incoming {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk).await?;
        self.hash.update(chunk);
        self.size += chunk.len() as u64;
        Ok(())
    }

    /// Waits until all of it is on the disk: a full disk or a quota may show only here.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await
    }
}

fn remove(places: &[PathBuf]) {
    for place in places {
        if let Err(error) = std::fs::remove_file(place) {
            tracing::error!(%error, "cannot remove {}", place.display());
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}
