//! Two devices in one program, with a directory between them: for one person to try.
//!
//! Invariant: they share nothing but the bucket. Everything is below one temporary directory, which
//! goes after the instances in it.

use sheaf::{Error, ErrorKind, Result};
use tempfile::TempDir;

use crate::{
    app::App,
    desk::{Desk, DeskOptions},
};

/// Two instances and where they live.
#[derive(Debug)]
pub(crate) struct Two {
    pub(crate) app: App,
    pub(crate) root: TempDir,
}

impl Two {
    /// Opens both, with a few notes that both have.
    ///
    /// # Errors
    /// As [`Desk::open`]; `Io` if there can be no temporary directory.
    pub(crate) fn open(site: &str) -> Result<Self> {
        let root = tempfile::tempdir().map_err(|error| {
            Error::new(ErrorKind::Io, format!("no temporary directory: {error}"))
        })?;
        let server = format!("file://{}", root.path().join("bucket").display());
        let open = |name: &str| {
            let dir = root.path().join(name);
            Desk::open(DeskOptions { dir: &dir, server: Some(server.clone()), token: None, site })
        };
        let ann = open("ann")?;
        ann.begin_with_notes()?;
        let bob = open("bob")?;
        let app = App::new(vec![("ann".to_owned(), ann), ("bob".to_owned(), bob)]);
        Ok(Self { app, root })
    }
}
