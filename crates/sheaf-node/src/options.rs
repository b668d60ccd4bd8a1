//! What an operator decides about a node.
//!
//! Invariant: options that would leave a node open to strangers are refused, not corrected.

use std::{net::SocketAddr, path::PathBuf};

use sheaf_site::history::HistoryRetention;
use sheaf_volume::{Error, Result, Retention};

/// How to run a node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where the node keeps its replicas, its token hashes and, by default, the store. Made when
    /// missing; used by one process at a time.
    pub data: PathBuf,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The bucket, by URL (`file://`, `s3://`, `gs://`, `az://`); `None`: the directory `store`
    /// in `data`.
    pub store: Option<String>,
    /// Lets everybody in. Only on a loopback address.
    pub no_auth: bool,
    /// A file with the tokens to accept, one per line; `None`: the node makes one at its first
    /// start.
    pub token_file: Option<PathBuf>,
    /// How much of the past of its sites it keeps; `None` keeps all.
    pub retention: Option<Retention>,
    /// How long it keeps what became of rows whose past is reclaimed; `None` records nothing.
    pub history: Option<HistoryRetention>,
}

impl NodeOptions {
    /// A node with an embedded store and a token of its own making.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        let retention = Some(Retention {
            keep_for_ms: Retention::DEFAULT_KEEP_FOR_MS,
            keep_commits: 1,
            exact: false,
        });
        let (data, history) = (data.into(), Some(HistoryRetention::default()));
        Self { data, listen, store: None, no_auth: false, token_file: None, retention, history }
    }

    /// Refuses combinations that are unsafe or contradict each other.
    pub(crate) fn check(&self) -> Result<()> {
        let ip = self.listen.ip();
        if self.no_auth && !ip.to_canonical().is_loopback() {
            return Err(Error::invalid(format!(
                "--no-auth lets everybody who can reach `{ip}` read and write every site: \
                 listen on a loopback address such as 127.0.0.1, or leave --no-auth out"
            )));
        }
        if self.no_auth && self.token_file.is_some() {
            return Err(Error::invalid(
                "--no-auth and --token-file contradict each other: leave one of them out",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_auth_is_for_loopback_only() {
        for (listen, fine) in [
            ("127.0.0.1:0", true),
            ("127.8.9.1:7070", true),
            ("[::1]:0", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("192.168.1.4:7070", false),
        ] {
            let mut options = NodeOptions::new("data", listen.parse().unwrap());
            assert!(options.check().is_ok());
            options.no_auth = true;
            assert_eq!(options.check().is_ok(), fine, "{listen}");
            options.token_file = Some("tokens".into());
            assert!(options.check().is_err());
        }
    }
}
