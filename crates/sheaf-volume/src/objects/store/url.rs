//! From a URL to objects: which stores a person may name, and with which bounds they are used.
//!
//! Invariant: every network store has explicit time-outs and a bounded number of repeats, and the
//! client that creates repeats nothing. Credentials come from the environment, never from the URL,
//! which ends up in logs.

use std::{path::PathBuf, sync::Arc};

use object_store::local::LocalFileSystem;

use super::StoreObjects;
use crate::{Error, ErrorKind, MemObjects, Objects, Result};

/// Names every URL that [`open_url`] takes, for the error message.
const ACCEPTED: &str = "accepted are file:///absolute/path, memory:, s3://bucket/prefix, \
                        gs://bucket/prefix and az://container/prefix";

/// Opens the store that `url` names: `file:///absolute/path` (the directory is made when there is
/// none), `memory:` (gone with the process), or, in builds with feature `cloud`,
/// `s3://bucket/prefix`, `gs://bucket/prefix` and `az://container/prefix` with the credentials that
/// the environment holds in the provider's usual variables.
///
/// # Errors
/// `Invalid` when the URL is not one of these or the environment's configuration is incomplete;
/// `Unsupported` when this build leaves cloud stores out; `Io` when the directory cannot be made.
pub fn open_url(url: &str) -> Result<Arc<dyn Objects>> {
    let refuse = |why: &str| Error::invalid(format!("{why} url=`{url}`; {ACCEPTED}"));
    if url == "memory:" || url == "memory://" {
        return Ok(Arc::new(MemObjects::new()));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(refuse("not a store URL"));
    };
    if rest.contains(['?', '#']) {
        return Err(refuse("a store URL has no query and no fragment"));
    }
    match scheme {
        "file" => open_directory(&directory(rest).ok_or_else(|| refuse("not an absolute path"))?),
        "s3" | "gs" | "az" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(refuse("the bucket is missing"));
            }
            if bucket.contains(['@', ':']) {
                return Err(refuse("a store URL carries no credentials and no port"));
            }
            open_cloud(scheme, bucket, prefix)
        }
        _ => Err(refuse("unknown kind of store")),
    }
}

fn open_directory(path: &std::path::Path) -> Result<Arc<dyn Objects>> {
    let doing = || format!("open store path=`{}`", path.display());
    make_dir(path).map_err(|error| Error::io(&doing(), error))?;
    let store = LocalFileSystem::new_with_prefix(path)
        .map_err(|error| Error::with_source(ErrorKind::Io, doing(), error))?;
    let objects = StoreObjects::new(Arc::new(store.with_fsync(true)), "");
    Ok(Arc::new(objects.map_err(|error| Error::io("start store threads", error))?))
}

/// Makes a directory with the rights that the user's mask gives: a bucket may well be shared.
fn make_dir(path: &std::path::Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)
}

/// The path behind `file://`: no host or `localhost`, percent-decoded.
fn directory(rest: &str) -> Option<PathBuf> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let path = percent_decode(path.strip_prefix('/')?)?;
    let path = if cfg!(windows) { PathBuf::from(path) } else { PathBuf::from(format!("/{path}")) };
    path.is_absolute().then_some(path)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok().filter(|&byte| byte != 0)?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(not(feature = "cloud"))]
fn open_cloud(scheme: &str, _bucket: &str, _prefix: &str) -> Result<Arc<dyn Objects>> {
    let message = format!("this build of Sheaf leaves {scheme}:// stores out (feature `cloud`)");
    Err(Error::new(ErrorKind::Unsupported, message))
}

#[cfg(feature = "cloud")]
fn open_cloud(scheme: &str, bucket: &str, prefix: &str) -> Result<Arc<dyn Objects>> {
    let refuse = |error| {
        let message = format!("{scheme}://{bucket} cannot be used with this environment");
        Error::with_source(ErrorKind::Invalid, message, error)
    };
    let store = cloud::build(scheme, bucket, cloud::RETRIES_MAX).map_err(refuse)?;
    let creator = cloud::build(scheme, bucket, 0).map_err(refuse)?;
    let objects = StoreObjects::with_creator(store, creator, prefix);
    Ok(Arc::new(objects.map_err(|error| Error::io("start store threads", error))?))
}

#[cfg(feature = "cloud")]
mod cloud {
    use std::{sync::Arc, time::Duration};

    use object_store::{
        BackoffConfig, ClientConfigKey, ObjectStore, Result, RetryConfig,
        aws::{AmazonS3Builder, AmazonS3ConfigKey},
        azure::{AzureConfigKey, MicrosoftAzureBuilder},
        gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    };

    /// Repeats of a request that may be repeated; beyond them the caller's own back-off takes over.
    pub(super) const RETRIES_MAX: usize = 3;
    /// A store that does not answer a connection in this time is as good as away.
    const CONNECT_TIMEOUT: &str = "5s";
    /// One whole request with its body: the largest commit over 7 Mbit/s.
    const REQUEST_TIMEOUT: &str = "300s";
    /// Time after which no request is repeated any more.
    const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

    pub(super) fn build(
        scheme: &str,
        bucket: &str,
        retries: usize,
    ) -> Result<Arc<dyn ObjectStore>> {
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: retries,
            retry_timeout: RETRY_TIMEOUT,
        };
        let (connect, whole) = (ClientConfigKey::ConnectTimeout, ClientConfigKey::Timeout);
        Ok(match scheme {
            "s3" => Arc::new(
                AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_config(AmazonS3ConfigKey::Client(connect), CONNECT_TIMEOUT)
                    .with_config(AmazonS3ConfigKey::Client(whole), REQUEST_TIMEOUT)
                    .with_retry(retry)
                    .build()?,
            ),
            "gs" => Arc::new(
                GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(bucket)
                    .with_config(GoogleConfigKey::Client(connect), CONNECT_TIMEOUT)
                    .with_config(GoogleConfigKey::Client(whole), REQUEST_TIMEOUT)
                    .with_retry(retry)
                    .build()?,
            ),
            _ => Arc::new(
                MicrosoftAzureBuilder::from_env()
                    .with_container_name(bucket)
                    .with_config(AzureConfigKey::Client(connect), CONNECT_TIMEOUT)
                    .with_config(AzureConfigKey::Client(whole), REQUEST_TIMEOUT)
                    .with_retry(retry)
                    .build()?,
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded() {
        let path = |rest| directory(rest).map(|path| path.to_string_lossy().into_owned());
        if cfg!(unix) {
            assert_eq!(path("/a/b").as_deref(), Some("/a/b"));
            assert_eq!(path("localhost/a").as_deref(), Some("/a"));
            assert_eq!(path("/a%20b/caf%C3%A9").as_deref(), Some("/a b/caf\u{e9}"));
        }
        for bad in ["a/b", "", "host/a", "/a%2", "/a%zz", "/a%00", "/%ff"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_bad_url_is_refused_with_the_list_of_good_ones() {
        for url in
            ["", "x", "/a/b", "http://h/x", "file://relative/x", "s3://", "file:///a?b", "gs:///x"]
        {
            let error = open_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(error.to_string().contains("file:///absolute/path"), "{error}");
        }
        let error = open_url("s3://key:secret@bucket/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn a_build_without_cloud_says_so() {
        for url in ["s3://b", "gs://b/p", "az://b"] {
            assert_eq!(open_url(url).unwrap_err().kind(), ErrorKind::Unsupported, "{url}");
        }
    }
}
