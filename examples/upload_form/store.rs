//! Uploaded files on disk.
//!
//! The server chooses a file's name and appends `.part`. The file is removed with its [`Incoming`],
//! unless [`Store::keep`] removes that extension.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tempfile::{TempDir, TempPath};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_blocking;

/// The folder for the files.
pub(crate) enum Folder {
    /// A folder of the user.
    Given(PathBuf),
    /// A temporary folder, removed on drop.
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

/// Creates files in one folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: Arc<Path>,
}

/// A file that is being received. It is removed on drop.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: File,
    path: TempPath,
    size: u64,
    hash: Sha256,
}

/// A stored file as its sender sees it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The client's name for it, made safe to display.
    pub(crate) name: String,
    /// The size in bytes.
    pub(crate) size: u64,
    /// The hash in lowercase hexadecimal.
    pub(crate) sha256: String,
}

impl Store {
    /// Creates a new file that only this user can open.
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

    /// Keeps all files of a request, or none.
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

    /// Waits until the whole file is on the disk. A full disk or a quota may only show here.
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
