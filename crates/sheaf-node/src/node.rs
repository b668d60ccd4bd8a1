//! Starting a node, what its parts share, and stopping it.
//!
//! Invariant: a start that fails has changed nothing that matters: the token is made last. A stop
//! first refuses what is new, then finishes what was begun (open requests, groups in flight),
//! then closes the replicas, then gives up the directory.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, mpsc},
};

use sheaf_volume::{
    Env, Error, ErrorKind, Objects, ObjectsError, Result, SystemEnv, open_url, probe,
};
use tokio::{
    runtime::Runtime,
    sync::{Mutex, Semaphore, watch},
    time::{Instant, timeout},
};

use crate::{
    clock::SteadyClock,
    crew::Threads,
    data::DataDir,
    http, limits,
    metrics::Metrics,
    options::NodeOptions,
    reclaim::{Reclaimer, Reclaiming},
    server,
    sites::Sites,
    token::Access,
};

/// A key that no part of the layout uses: reading it tells whether the store answers.
const HEALTH_KEY: &str = "health";

/// What all parts of a running node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) access: Arc<Access>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sites: Arc<Sites>,
    pub(crate) sockets: Arc<Semaphore>,
    pub(crate) greetings: Arc<Semaphore>,
    pub(crate) stop: watch::Sender<bool>,
    objects: Arc<dyn Objects>,
    reads: Arc<Semaphore>,
    health: Mutex<Option<(Instant, bool)>>,
}

impl Shared {
    /// Runs blocking work, a bounded number at a time.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        let permit = permit.map_err(|_| Error::new(ErrorKind::Closed, "the node has stopped"))?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "request ended by a bug: please report it");
            Err(Error::new(ErrorKind::Internal, "a bug in the node: please report it"))
        })
    }

    /// Whether the node refuses new work.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Whether the store answers; asked at most once per [`limits::HEALTH_CACHE`].
    pub(crate) async fn store_is_reachable(&self) -> bool {
        let mut last = self.health.lock().await;
        if let Some((when, reachable)) = *last
            && when.elapsed() < limits::HEALTH_CACHE
        {
            return reachable;
        }
        let objects = Arc::clone(&self.objects);
        let asked = tokio::task::spawn_blocking(move || objects.get(HEALTH_KEY));
        let reachable = match timeout(limits::HEALTH_TIMEOUT, asked).await {
            Ok(Ok(answer)) => matches!(answer, Ok(_) | Err(ObjectsError::NotFound(_))),
            Ok(Err(_)) | Err(_) => false,
        };
        *last = Some((Instant::now(), reachable));
        reachable
    }
}

/// The server. See [`Node::start`].
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node on a runtime of its own. Call it from a plain thread: it blocks while it
    /// opens the store. It accepts connections when it returns.
    ///
    /// # Errors
    /// `Invalid` for options that are unsafe or contradict each other, `Busy` when another node
    /// runs in the data directory or the address is taken, `Unavailable` or `Denied` when the
    /// store cannot be used, `Unsupported` when it does not keep its promises, `Io`.
    pub fn start(options: NodeOptions) -> Result<Running> {
        options.check()?;
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let data = DataDir::open(&options.data)?;
        let listener = listen(options.listen)?;
        let addr = listener.local_addr().map_err(|e| Error::io("listen", e))?;
        let objects = open_store(&options, data.path(), env.as_ref())?;
        let node = data.node_id(env.as_ref())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("sheaf-node")
            .enable_all()
            .build()
            .map_err(|e| Error::io("start the runtime", e))?;
        // ORDER: last, because a token is shown once: a start that fails must not have made one.
        let (access, token) = data.access(&options, env.as_ref())?;
        let metrics = Arc::new(Metrics::new());
        let sites = Sites::new(
            Arc::clone(&objects),
            Arc::clone(&env),
            node,
            Arc::new(SteadyClock::start()),
            Arc::clone(&metrics),
            data.replicas(),
            Arc::new(Threads::new(runtime.handle().clone())),
        );
        let shared = Arc::new(Shared {
            access: Arc::new(access),
            metrics,
            sites: Arc::new(sites),
            sockets: Arc::new(Semaphore::new(limits::SOCKETS_MAX)),
            greetings: Arc::new(Semaphore::new(limits::GREETINGS_MAX)),
            stop: watch::Sender::new(false),
            objects,
            reads: Arc::new(Semaphore::new(limits::READS_MAX)),
            health: Mutex::new(None),
        });
        let reclaim = options.retention.map(|retention| {
            let (sites, metrics) = (Arc::clone(&shared.sites), Arc::clone(&shared.metrics));
            let history = options.history.map(|history| (history, data.records()));
            Reclaimer::new(sites, env, metrics, retention, history).start()
        });
        let reclaim = reclaim.transpose()?;
        let served = serve(&runtime, listener, &shared)?;
        tracing::info!(%addr, %node, "node accepts connections");
        let (runtime, data) = (Some(runtime), Some(data));
        Ok(Running { addr, token, runtime, shared, served, data, reclaim })
    }
}

/// A node that accepts connections until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    token: Option<String>,
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    served: mpsc::Receiver<()>,
    data: Option<DataDir>,
    /// While it is there, open sites are reclaimed.
    reclaim: Option<Reclaiming>,
}

impl Running {
    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address it listens on, with the port it got.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The token made at the first start, to be shown once; only its hash is kept.
    #[must_use]
    pub fn first_token(&self) -> Option<String> {
        self.token.clone()
    }

    /// Stops gracefully: accepts no more, lets open requests and groups in flight finish, tells
    /// the connected devices, closes the replicas.
    ///
    /// # Errors
    /// None at present; a replica that fails while it closes is reported here later.
    pub fn stop(mut self) -> Result<()> {
        self.finish();
        Ok(())
    }

    /// Serves until the process is asked to end (interrupt or termination signal), then stops.
    ///
    /// # Errors
    /// `Io` when signals cannot be waited for, else as [`Running::stop`].
    pub fn wait(self) -> Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let (tell, told) = mpsc::channel();
        runtime.spawn(async move {
            let asked = asked_to_end().await;
            // A receiver that is gone has stopped for another reason.
            let _ = tell.send(asked).is_ok();
        });
        let asked = told.recv();
        self.stop()?;
        match asked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::io("wait for a signal", error)),
            Err(_) => Err(Error::new(ErrorKind::Internal, "the node's runtime has ended")),
        }
    }

    fn finish(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        tracing::info!("node stops");
        self.shared.stop.send_replace(true);
        self.reclaim = None;
        // An error means that the serving task ended by a bug: there is nothing to wait for.
        let _ = self.served.recv().is_ok();
        self.shared.sites.stop();
        // ORDER: never `drop`, which would panic inside another runtime.
        runtime.shutdown_background();
        // ORDER: the directory is given up after the replicas in it are closed.
        self.data = None;
        tracing::info!("node stopped");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.finish();
    }
}

async fn asked_to_end() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

fn listen(addr: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(addr).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => Error::new(
            ErrorKind::Busy,
            format!(
                "address `{addr}` is in use: stop what listens there or choose another --listen"
            ),
        ),
        _ => Error::io(&format!("listen on `{addr}`"), e),
    })?;
    listener.set_nonblocking(true).map_err(|e| Error::io("listen", e))?;
    Ok(listener)
}

/// Opens the bucket and makes sure that it honours conditions: on a store that ignores them two
/// writers could both believe that they own a position of the log.
fn open_store(options: &NodeOptions, data: &Path, env: &dyn Env) -> Result<Arc<dyn Objects>> {
    let url = match &options.store {
        Some(url) => url.clone(),
        None => file_url(&data.join("store")),
    };
    let objects = open_url(&url)?;
    probe(objects.as_ref(), env)?;
    Ok(objects)
}

fn serve(
    runtime: &Runtime,
    listener: TcpListener,
    shared: &Arc<Shared>,
) -> Result<mpsc::Receiver<()>> {
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(|e| Error::io("listen", e))?
    };
    let (done, served) = mpsc::channel();
    let shared = Arc::clone(shared);
    runtime.spawn(async move {
        let router = http::router(&shared);
        let stop = shared.stop.subscribe();
        server::serve(listener, router, Arc::clone(&shared), stop).await;
        // Upgraded connections are tasks of their own: their places come back when they end.
        let all = u32::try_from(limits::SOCKETS_MAX).unwrap_or(u32::MAX);
        let ended = timeout(limits::STOP_GRACE, shared.sockets.acquire_many(all)).await;
        if ended.is_err() {
            tracing::warn!("sockets were cut off: they did not end in time");
        }
        let _ = done.send(()).is_ok();
    });
    Ok(served)
}

/// The URL of a directory. Whatever is not plain in a URL is percent-encoded.
fn file_url(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "/");
    let mut url = String::from("file://");
    if !text.starts_with('/') {
        url.push('/');
    }
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~:".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_become_urls() {
        assert_eq!(file_url(Path::new("/srv/sheaf/store")), "file:///srv/sheaf/store");
        assert_eq!(file_url(Path::new("/a b/50%/\u{e9}?#")), "file:///a%20b/50%25/%C3%A9%3F%23");
    }
}
