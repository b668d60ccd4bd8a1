//! Objects in a directory or a cloud bucket, over crate `object_store`.
//!
//! Invariant: a create whose outcome is not known is `Ambiguous`, never a success or a loss: it
//! goes through its own client, which does not repeat requests by itself (a repeated create could
//! lose against its own first try). Calls block; they run on two threads of this store's own, so
//! that any thread may call, also a blocking one of another runtime. Must not be called from
//! inside an async task: it would hold up the thread that runs it.

use std::{
    fmt, io,
    ops::Range,
    sync::{Arc, mpsc},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, path::Path};
use tokio::runtime::Runtime;

use super::{Objects, ObjectsError, Parts, Pieces, mem::past_the_end};

mod upload;
mod url;

pub use url::open_url;

/// Requests of one batch in flight at once: enough to hide a round trip, few enough to stay below
/// every store's rate limits and a home router's connection table.
const REQUESTS_MAX: usize = 16;
/// Threads that drive requests; the work is waiting, not computing.
const WORKERS: usize = 2;

/// Objects in a directory or a cloud bucket, below a prefix.
pub struct StoreObjects {
    shared: Arc<Shared>,
    /// `None` only while dropping.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn ObjectStore>,
    /// Sends creates, once each.
    creator: Arc<dyn ObjectStore>,
    /// Empty, or segments without a slash at either end.
    prefix: String,
}

impl StoreObjects {
    /// Objects of `store` below `prefix`. A store that talks to a network and repeats requests by
    /// itself must be given by URL instead: see [`open_url`].
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> io::Result<Self> {
        Self::with_creator(Arc::clone(&store), store, prefix)
    }

    fn with_creator(
        store: Arc<dyn ObjectStore>,
        creator: Arc<dyn ObjectStore>,
        prefix: &str,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("sheaf-store")
            .enable_all()
            .build()?;
        let prefix = prefix.trim_matches('/').to_owned();
        let shared = Arc::new(Shared { store, creator, prefix });
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// Runs `future` on this store's threads and waits for it here.
    fn wait<T, F>(&self, future: F) -> Result<T, ObjectsError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ObjectsError>> + Send + 'static,
    {
        answer(self.start(future))
    }

    /// Runs `future` on this store's threads; what it comes to is to be had from [`answer`].
    fn start<T, F>(&self, future: F) -> UnderWay<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ObjectsError>> + Send + 'static,
    {
        let (answer, answered) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // There is room for it, so this does not wait even if nobody asks any more.
                answer.send(future.await).ok();
            });
        }
        answered
    }

    fn start_list(&self, prefix: &str, after: Option<&str>) -> UnderWay<Vec<String>> {
        let shared = Arc::clone(&self.shared);
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.start(async move { shared.list(&prefix, after.as_deref()).await })
    }

    /// Runs one request per item, a bounded number at once; answers in the order of the items.
    fn wait_all<I, T, F, Fut>(&self, items: Vec<I>, request: F) -> Vec<Result<T, ObjectsError>>
    where
        I: Send + 'static,
        T: Clone + Send + 'static,
        F: Fn(Arc<Shared>, I) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, ObjectsError>> + Send + 'static,
    {
        let count = items.len();
        let shared = Arc::clone(&self.shared);
        let requests = stream::iter(items).map(move |item| request(Arc::clone(&shared), item));
        let all = self.wait(async move { Ok(requests.buffered(REQUESTS_MAX).collect().await) });
        all.unwrap_or_else(|error| vec![Err(error); count])
    }
}

/// Where the outcome of a request arrives.
type UnderWay<T> = mpsc::Receiver<Result<T, ObjectsError>>;

/// Waits for a request that was started.
fn answer<T>(under_way: UnderWay<T>) -> Result<T, ObjectsError> {
    // The channel closes without an answer only if the task panicked or was never begun.
    let stopped = || ObjectsError::Failed("the store's threads have stopped".to_owned());
    under_way.recv().map_err(|_| stopped())?
}

impl fmt::Debug for StoreObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { store, prefix, .. } = &*self.shared;
        write!(f, "StoreObjects({store}, prefix=`{prefix}`)")
    }
}

impl Drop for StoreObjects {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for the threads would panic where the last handle is dropped by an async
            // task. Nobody waits for requests still in flight: their callers borrow this store.
            runtime.shutdown_background();
        }
    }
}

impl Objects for StoreObjects {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.wait(async move { shared.get(&key).await })
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        self.wait_all(wants.to_vec(), |shared, (key, range)| async move {
            shared.get_range(&key, range).await
        })
    }

    fn get_ranges_and_list(
        &self,
        wants: &[(String, Range<u64>)],
        prefix: &str,
        after: Option<&str>,
    ) -> Result<(Parts, Vec<String>), ObjectsError> {
        let keys = self.start_list(prefix, after);
        Ok((self.get_ranges(wants), answer(keys)?))
    }

    fn get_many(&self, keys: &[String]) -> Vec<Result<Bytes, ObjectsError>> {
        self.wait_all(keys.to_vec(), |shared, key| async move { shared.get(&key).await })
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.wait(async move {
            let done = shared.store.put(&shared.path(&key)?, bytes.into()).await;
            done.map(drop).map_err(|error| refine(&key, &error))
        })
    }

    fn put_stream(&self, key: &str, pieces: &mut Pieces<'_>) -> Result<(), ObjectsError> {
        self.upload(key, pieces)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.wait(async move { shared.create(&key, bytes).await })
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        answer(self.start_list(prefix, after))
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.wait(async move { shared.delete(&key).await })
    }

    fn delete_many(&self, keys: &[String]) -> Vec<Result<(), ObjectsError>> {
        self.wait_all(keys.to_vec(), |shared, key| async move { shared.delete(&key).await })
    }
}

impl Shared {
    fn path(&self, key: &str) -> Result<Path, ObjectsError> {
        let full = match self.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        // A normalised path would be another key than the one that was asked for.
        match Path::parse(&full) {
            Ok(path) if path.as_ref() == full && !full.is_empty() => Ok(path),
            Ok(_) => Err(ObjectsError::Failed(format!("not an object key key=`{key}`"))),
            Err(error) => Err(ObjectsError::Failed(format!("not an object key: {error}"))),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        let found = self.store.get(&self.path(key)?).await;
        let bytes = match found {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        bytes.map_err(|error| refine(key, &error))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectsError> {
        let path = self.path(key)?;
        if range.is_empty() {
            // Stores refuse an empty range, and there is nothing to ask for.
            return Ok(Bytes::new());
        }
        let error = match self.store.get_range(&path, range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => return Ok(bytes),
            // Some stores cut a range at the end of the object instead of refusing it.
            Ok(bytes) => {
                let end = usize::try_from(range.start).unwrap_or(usize::MAX);
                return Err(past_the_end(key, &range, end.saturating_add(bytes.len())));
            }
            Err(error @ StoreError::NotFound { .. }) => return Err(refine(key, &error)),
            Err(error) => error,
        };
        // Stores word a range past the end in many ways; the object's length decides.
        match self.store.head(&path).await {
            Ok(meta) if meta.size < range.end => {
                let len = usize::try_from(meta.size).unwrap_or(usize::MAX);
                Err(past_the_end(key, &range, len))
            }
            _ => Err(refine(key, &error)),
        }
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let path = self.path(key)?;
        let error = match self.creator.put_opts(&path, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => return Ok(()),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                return Err(ObjectsError::AlreadyExists(key.to_owned()));
            }
            Err(error) => error,
        };
        let refined = refine(key, &error);
        let disk_full = no_space(&error);
        let unknown = match &refined {
            ObjectsError::Unavailable(_) => !never_sent(&error),
            // A full disk may have kept the name and lost only the flush after it.
            ObjectsError::Failed(_) if disk_full => self.store.head(&path).await.is_ok(),
            _ => false,
        };
        if unknown {
            return Err(ObjectsError::Ambiguous { key: key.to_owned(), cause: error.to_string() });
        }
        Err(refined)
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        match self.store.delete(&self.path(key)?).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(refine(key, &error)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        // The crate matches whole segments only, so the last, partial one is matched here.
        let folder = prefix.rfind('/').and_then(|slash| prefix.get(..slash)).unwrap_or_default();
        let root = match folder {
            "" => Path::parse(&self.prefix).map_err(|error| refine(prefix, &error.into()))?,
            folder => self.path(folder)?,
        };
        let root = Some(&root).filter(|root| !root.as_ref().is_empty());
        let mut found = match after {
            // An offset outside the folder saves nothing, and it need not be a valid path.
            Some(after) if after.starts_with(prefix) && !after.ends_with('/') => {
                self.store.list_with_offset(root, &self.path(after)?)
            }
            _ => self.store.list(root),
        };
        let mut keys = Vec::new();
        while let Some(meta) = found.try_next().await.map_err(|error| refine(prefix, &error))? {
            let full = meta.location.as_ref();
            let Some(key) = full.strip_prefix(&self.prefix) else {
                continue;
            };
            let key = key.strip_prefix('/').unwrap_or(key);
            if key.starts_with(prefix) && after.is_none_or(|after| key > after) {
                keys.push(key.to_owned());
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }
}

/// What a store's error means to the caller, for requests that may be repeated.
fn refine(key: &str, error: &StoreError) -> ObjectsError {
    let cause = || error.to_string();
    match error {
        StoreError::NotFound { .. } => ObjectsError::NotFound(key.to_owned()),
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
            ObjectsError::AlreadyExists(key.to_owned())
        }
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            ObjectsError::Denied(cause())
        }
        StoreError::Generic { .. } => match io_kind(error) {
            _ if no_space(error) => ObjectsError::Failed(format!(
                "no space left on the store's disk, free some and try again: {error}"
            )),
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                ObjectsError::Denied(cause())
            }
            _ if refused(error) => ObjectsError::Failed(cause()),
            _ => ObjectsError::Unavailable(cause()),
        },
        _ => ObjectsError::Failed(cause()),
    }
}

/// The error and everything below it.
fn chain(error: &StoreError) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source())
}

fn io_kind(error: &StoreError) -> Option<io::ErrorKind> {
    chain(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

fn no_space(error: &StoreError) -> bool {
    matches!(io_kind(error), Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// Whether the store understood the request and refused it for good.
fn refused(error: &StoreError) -> bool {
    // The crate keeps the status code to itself and offers only its text.
    let text = error.to_string();
    let status = text.split_once("non-2xx status code: ").and_then(|(_, rest)| rest.get(..3));
    status.is_some_and(|code| code.starts_with('4') && code != "408" && code != "429")
}

/// Whether no byte of the request can have reached the store.
#[cfg(feature = "cloud")]
fn never_sent(error: &StoreError) -> bool {
    use object_store::client::{HttpError, HttpErrorKind};
    chain(error)
        .find_map(|cause| cause.downcast_ref::<HttpError>())
        .is_some_and(|cause| cause.kind() == HttpErrorKind::Connect)
}

#[cfg(not(feature = "cloud"))]
fn never_sent(_error: &StoreError) -> bool {
    false
}

#[cfg(test)]
mod tests;
