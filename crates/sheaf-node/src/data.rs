//! The node's directory: its lock, its identity, and whom it lets in.
//!
//! Invariant: one process at a time works in it, and no plain token is ever written there.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sheaf_volume::{DeviceId, Dir, DirLock, Env, Error, ErrorKind, Result, StdDir};

use crate::{
    limits::TOKEN_FILE_BYTES_MAX,
    options::NodeOptions,
    sites::Dirs,
    token::{self, Access},
};

/// Hashes of the tokens that the node made itself.
const TOKENS: &str = "tokens";
/// The node's id, as text.
const NODE: &str = "node";

/// The node's directory, locked.
#[derive(Debug)]
pub(crate) struct DataDir {
    dir: StdDir,
    path: PathBuf,
    _lock: Box<dyn DirLock>,
}

impl DataDir {
    /// Opens and locks a directory, making it when there is none.
    ///
    /// # Errors
    /// `Busy` when another node runs in it, `Io` when it cannot be used.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |e| Error::io("open data directory", e);
        let dir = StdDir::open(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = dir.lock().map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Error::new(
                ErrorKind::Busy,
                format!("another node runs in this data directory: {e}; stop it or choose another --data"),
            ),
            _ => Error::io("lock data directory", e),
        })?;
        Ok(Self { dir, path, _lock: lock })
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the replicas of its sites lie: a directory each.
    pub(crate) fn replicas(&self) -> Dirs {
        self.dirs("sites")
    }

    /// Where the replicas of the records of changes lie that it writes: beside those that it serves.
    pub(crate) fn records(&self) -> Dirs {
        self.dirs("records")
    }

    fn dirs(&self, name: &str) -> Dirs {
        let sites = self.path.join(name);
        Dirs(Box::new(move |volume| {
            let dir = StdDir::open(sites.join(volume.to_string()));
            dir.map(|dir| Box::new(dir) as Box<dyn Dir>)
                .map_err(|e| Error::io("open replica directory", e))
        }))
    }

    /// The node's own id, made at its first start.
    ///
    /// # Errors
    /// `Corrupt` when the file is not an id, `Io` when it cannot be read or written.
    pub(crate) fn node_id(&self, env: &dyn Env) -> Result<DeviceId> {
        if let Some(text) = self.read(NODE)? {
            return text.trim().parse().map_err(|_| {
                Error::corrupt(format!(
                    "node id is damaged path=`{}`",
                    self.path.join(NODE).display()
                ))
            });
        }
        let id = DeviceId::mint(env);
        self.write(NODE, &format!("{id}\n"))?;
        Ok(id)
    }

    /// Whom the node lets in, and the plain token when one was made just now.
    ///
    /// # Errors
    /// `Invalid` or `Corrupt` when a list cannot be read as one, `Io`.
    pub(crate) fn access(
        &self,
        options: &NodeOptions,
        env: &dyn Env,
    ) -> Result<(Access, Option<String>)> {
        if options.no_auth {
            return Ok((Access::Open, None));
        }
        if let Some(path) = &options.token_file {
            return Ok((Access::Tokens(token::parse_tokens(&read_token_file(path)?)?), None));
        }
        if let Some(text) = self.read(TOKENS)? {
            let hashes = token::parse_hashes(&text).map_err(|e| {
                let path = self.path.join(TOKENS);
                let hint = "remove it to have a new token made";
                Error::new(e.kind(), format!("{e} path=`{}`: {hint}", path.display()))
            })?;
            return Ok((Access::Tokens(hashes), None));
        }
        let token = token::mint(env);
        let hash = token::hash(&token);
        let about = "# BLAKE3 of each accepted token and when it was made. Remove to start anew.";
        self.write(TOKENS, &format!("{about}\n{} {}\n", hash.to_hex(), env.now_ms()))?;
        Ok((Access::Tokens(vec![hash]), Some(token)))
    }

    /// A file's text; `None` when it is missing or was never filled (a crash at the first start).
    fn read(&self, name: &str) -> Result<Option<String>> {
        let failed = |e| Error::io(&format!("read `{}`", self.path.join(name).display()), e);
        let file = self.dir.open(name).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        if len == 0 {
            return Ok(None);
        }
        let len = usize::try_from(len.min(TOKEN_FILE_BYTES_MAX)).unwrap_or_default();
        let mut bytes = vec![0; len];
        let got = file.read_at(&mut bytes, 0).map_err(failed)?;
        bytes.truncate(got);
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| failed(io::ErrorKind::InvalidData.into()))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let failed = |e| Error::io(&format!("write `{}`", self.path.join(name).display()), e);
        let file = self.dir.open(name).map_err(failed)?;
        file.write_at(text.as_bytes(), 0).map_err(failed)?;
        file.flush().map_err(failed)?;
        self.dir.flush().map_err(failed)
    }
}

/// An operator's token file lies anywhere, hence not in a `Dir`.
fn read_token_file(path: &Path) -> Result<String> {
    let failed = |e| Error::io(&format!("read token file `{}`", path.display()), e);
    let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
    warn_when_readable_by_others(&file, path);
    let mut text = String::new();
    let got = file.take(TOKEN_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if got as u64 > TOKEN_FILE_BYTES_MAX {
        let path = path.display();
        return Err(Error::invalid(format!(
            "token file `{path}` is over {TOKEN_FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

#[cfg(unix)]
fn warn_when_readable_by_others(file: &std::fs::File, path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "token file is readable by others: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_when_readable_by_others(_file: &std::fs::File, _path: &Path) {}

#[cfg(test)]
mod tests {
    use sheaf_volume::ManualEnv;

    use super::*;

    fn options(path: &Path) -> NodeOptions {
        NodeOptions::new(path, ([127, 0, 0, 1], 0).into())
    }

    #[test]
    fn the_first_start_makes_a_token_and_the_second_knows_it() {
        let root = tempfile::tempdir().unwrap();
        let env = ManualEnv::new(5);
        let data = DataDir::open(root.path()).unwrap();
        let (access, token) = data.access(&options(root.path()), &env).unwrap();
        let token = token.unwrap();
        assert!(access.admit(Some(&token)).is_ok());
        let id = data.node_id(&env).unwrap();
        drop(data);

        let data = DataDir::open(root.path()).unwrap();
        let (access, again) = data.access(&options(root.path()), &env).unwrap();
        assert_eq!(again, None);
        assert!(access.admit(Some(&token)).is_ok());
        assert!(access.admit(None).is_err());
        assert_eq!(data.node_id(&env).unwrap(), id);
        let stored = data.read(TOKENS).unwrap().unwrap();
        assert!(!stored.contains(&token) && !stored.contains("sheaf_"), "{stored}");
    }

    #[test]
    fn a_second_node_is_told_about_the_first() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        let error = DataDir::open(root.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("another node"), "{error}");
        drop(data);
        drop(DataDir::open(root.path()).unwrap());
    }

    #[test]
    fn damaged_lists_are_refused_with_a_way_out() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        data.write(TOKENS, "nonsense").unwrap();
        let error = data.access(&options(root.path()), &ManualEnv::new(1)).unwrap_err();
        assert!(error.to_string().contains("remove it"), "{error}");
        data.write(NODE, "zz").unwrap();
        assert_eq!(data.node_id(&ManualEnv::new(1)).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_operators_file_replaces_the_nodes_own_list() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        let mut options = options(root.path());
        let missing = root.path().join("absent");
        options.token_file = Some(missing);
        let error = data.access(&options, &ManualEnv::new(1)).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
        data.write("mine", "# us\nour-own-secret-token\n").unwrap();
        options.token_file = Some(root.path().join("mine"));
        let (access, made) = data.access(&options, &ManualEnv::new(1)).unwrap();
        assert_eq!(made, None);
        assert!(access.admit(Some("our-own-secret-token")).is_ok());
        assert!(access.admit(Some("our-own-secret-tokem")).is_err());
        assert_eq!(data.read(TOKENS).unwrap(), None);
    }
}
