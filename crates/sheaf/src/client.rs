//! A directory of replicas on this device.
//!
//! Invariant: a site is open at most once per client, however often it is asked for; what runs in
//! the background ends before the directory does. Layout: `device` (this device's id as text),
//! `sites/{escaped name}/` (one replica each, its own lock inside).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sheaf_site::{
    Error, ErrorKind, Result, SiteOptions,
    history::{check_not_record, is_record_name},
};
use sheaf_sync::Identity;
use sheaf_volume::{
    DeviceId, Dir as _, Objects, PageSize, StdDir, SystemEnv, check_site_name, open_url,
};

use crate::{
    bucket::Poller,
    event::Events,
    limits,
    link::Link,
    net::Net,
    server::Server,
    site::{self, Site},
    subscribe::Crew,
};

/// File with this device's id.
const DEVICE: &str = "device";
/// Directory with a directory per site.
const SITES: &str = "sites";

/// How to open a client.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// Where the replicas are; made if there is nothing.
    pub dir: PathBuf,
    /// The server of sites opened from now on: a node (`http://`, `https://`) or a bucket
    /// (`file://`, `s3://`, ...). `None`: each site keeps the one it remembers.
    pub server: Option<String>,
    /// What the node asks for.
    pub token: Option<String>,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret and stays out of logs.
        f.debug_struct("ClientOptions")
            .field("dir", &self.dir)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// A directory of replicas on this device. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    device: DeviceId,
    server: Option<Server>,
    token: String,
    sites: Mutex<BTreeMap<String, Slot>>,
    /// A slot was filled or freed.
    sites_changed: Condvar,
    links: Mutex<BTreeMap<String, Weak<Link>>>,
    buckets: Mutex<BTreeMap<String, Arc<dyn Objects>>>,
    events: Events,
    poller: Arc<Poller>,
    crew: Crew,
    /// Last: what runs there belongs to the links.
    net: Net,
}

impl Client {
    /// Opens the directory, making it (and this device's id) if there is nothing. Reaches for no
    /// server.
    ///
    /// # Errors
    /// `Invalid` for a server address that cannot be, `Io` when the directory cannot be used,
    /// `Corrupt` when the device id in it is damaged.
    pub fn open(options: ClientOptions) -> Result<Self> {
        let server = options.server.as_deref().map(Server::parse).transpose()?;
        let dir = StdDir::open(&options.dir).map_err(|e| Error::io("open directory", e))?;
        let device = device_id(&dir, &options.dir)?;
        Ok(Self(Arc::new(Shared {
            dir: options.dir,
            device,
            server,
            token: options.token.unwrap_or_default(),
            sites: Mutex::default(),
            sites_changed: Condvar::new(),
            links: Mutex::default(),
            buckets: Mutex::default(),
            events: Events::default(),
            poller: Arc::default(),
            crew: Crew::default(),
            net: Net::default(),
        })))
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// This device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.0.device
    }

    /// Where the replicas are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The server that sites opened from now on are given.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.0.server.as_ref()
    }

    /// The objects of a bucket, opened once.
    pub(crate) fn objects(&self, url: &str) -> Result<Arc<dyn Objects>> {
        self.0.objects(url)
    }

    /// What happens in the background.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events()
    }

    /// Opens a site, creating an empty replica if this device has none. Needs no network.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be, `Busy` when another process has it open, `Corrupt`,
    /// `Unsupported` or `Io`.
    pub fn site(&self, name: &str) -> Result<Site> {
        self.site_with_page_size(name, PageSize::DEFAULT)
    }

    /// As [`Client::site`]; a replica that is made now has pages of this size.
    ///
    /// # Errors
    /// As [`Client::site`].
    pub fn site_with_page_size(&self, name: &str, page_size: PageSize) -> Result<Site> {
        check_not_record(name)?;
        self.site_at(name, self.0.server.as_ref(), page_size)
    }

    /// As [`Client::site_with_page_size`], at a server that is named now.
    pub(crate) fn site_at(
        &self,
        name: &str,
        server: Option<&Server>,
        page_size: PageSize,
    ) -> Result<Site> {
        let dir_name = escape(name)?;
        if let Some(open) = self.0.claim(name)? {
            return Ok(Site::from_inner(open));
        }
        // INVARIANT: from here on the slot is ours, and is filled or freed below.
        let opened = self.open_site(name, &dir_name, server, page_size);
        let mut sites = lock(&self.0.sites);
        match &opened {
            Ok(site) => sites.insert(name.to_owned(), Slot::Open(site.downgrade())),
            Err(_) => sites.remove(name),
        };
        drop(sites);
        self.0.sites_changed.notify_all();
        opened
    }

    fn open_site(
        &self,
        name: &str,
        dir_name: &str,
        server: Option<&Server>,
        page_size: PageSize,
    ) -> Result<Site> {
        let path = self.0.dir.join(SITES).join(dir_name);
        let dir = StdDir::open(&path).map_err(|e| Error::io("open site", e))?;
        let options = SiteOptions { page_size, ..SiteOptions::new(name, self.0.device) };
        let engine = sheaf_site::Site::open(&dir, Arc::new(SystemEnv), options)?;
        Site::new(Arc::clone(&self.0), engine, dir, server)
    }

    /// Opens a site that the server has, fetching what it is (not yet its pages). A replica made
    /// for that is removed again when it cannot be done.
    ///
    /// # Errors
    /// `NotFound` when the server does not know it, and as [`Client::site`], [`Site::pull`].
    pub fn clone_site(&self, name: &str, timeout: Duration) -> Result<Site> {
        check_not_record(name)?;
        self.clone_from(name, self.0.server.as_ref(), timeout)
    }

    /// As [`Client::clone_site`], from a server that is named now.
    pub(crate) fn clone_from(
        &self,
        name: &str,
        server: Option<&Server>,
        timeout: Duration,
    ) -> Result<Site> {
        let known = self.site_exists(name);
        let mut site = self.site_at(name, server, PageSize::DEFAULT)?;
        // Which page size the site has is known only once the server has answered.
        for _ in 0..2 {
            let Err(error) = site.pull(timeout) else { return Ok(site) };
            let wanted = site.engine().refused_page_size();
            drop(site);
            // Somebody else may have opened it meanwhile: then it is theirs.
            if known || lock(&self.0.sites).contains_key(name) {
                return Err(error);
            }
            let path = self.0.dir.join(SITES).join(escape(name)?);
            std::fs::remove_dir_all(&path).map_err(|e| Error::io("remove site", e))?;
            let Some(size) = wanted else { return Err(error) };
            site = self.site_at(name, server, size)?;
        }
        Err(Error::new(ErrorKind::Unavailable, "the site changes while it is cloned; try again"))
    }

    /// Where the replica of a site is, or would be.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be.
    pub fn site_path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.0.dir.join(SITES).join(escape(name)?))
    }

    pub(crate) fn named_server(&self) -> Option<Server> {
        self.0.server.clone()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Whether this device has a replica of a site.
    #[must_use]
    pub fn site_exists(&self, name: &str) -> bool {
        escape(name).is_ok_and(|name| self.0.dir.join(SITES).join(name).is_dir())
    }

    /// Names of the sites on this device, sorted.
    ///
    /// # Errors
    /// `Io` when the directory cannot be read.
    pub fn sites(&self) -> Result<Vec<String>> {
        let failed = |e| Error::io("list sites", e);
        let entries = match std::fs::read_dir(self.0.dir.join(SITES)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // Foreign directories are not ours to show.
            let name = name.to_str().and_then(unescape);
            // Nor are records of changes, which sites have beside them.
            names.extend(name.filter(|name| !is_record_name(name)));
        }
        names.sort();
        Ok(names)
    }
}

/// Who has a site.
#[derive(Debug)]
enum Slot {
    /// Some thread is opening it.
    Opening,
    /// It is open, or (when nobody holds it any more) being closed.
    Open(Weak<site::Inner>),
}

impl Slot {
    fn is_closing(&self) -> bool {
        matches!(self, Self::Open(site) if site.strong_count() == 0)
    }
}

/// Part of a site that is dropped after everything else of it: frees its slot.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) client: Arc<Shared>,
    pub(crate) name: String,
}

impl Drop for Departure {
    fn drop(&mut self) {
        let mut sites = lock(&self.client.sites);
        if sites.get(&self.name).is_some_and(Slot::is_closing) {
            sites.remove(&self.name);
        }
        drop(sites);
        self.client.sites_changed.notify_all();
    }
}

impl Shared {
    /// The site if it is open; else its slot is claimed for the caller, who must fill or free it.
    /// Waits while another thread opens or closes it.
    fn claim(&self, name: &str) -> Result<Option<Arc<site::Inner>>> {
        let mut sites = lock(&self.sites);
        loop {
            match sites.get(name) {
                None => {
                    sites.insert(name.to_owned(), Slot::Opening);
                    return Ok(None);
                }
                Some(Slot::Open(site)) if site.strong_count() > 0 => {
                    // The last handle may go between the two looks; the loop sees it then.
                    if let Some(open) = site.upgrade() {
                        return Ok(Some(open));
                    }
                }
                Some(_) => {
                    let waited = self.sites_changed.wait_timeout(sites, limits::DETACH_TIMEOUT);
                    let (back, timed) = waited.unwrap_or_else(PoisonError::into_inner);
                    if timed.timed_out() {
                        let text = format!("site `{name}` is being opened or closed: try again");
                        return Err(Error::new(ErrorKind::Busy, text));
                    }
                    sites = back;
                }
            }
        }
    }

    pub(crate) fn events(&self) -> Events {
        self.events.clone()
    }

    /// The server of sites that are opened without another one.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// The link to a node, shared by all sites that are exchanged there.
    pub(crate) fn link(&self, server: &str) -> Result<Arc<Link>> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(server).and_then(Weak::upgrade) {
            return Ok(link);
        }
        let identity = Identity {
            device: self.device,
            token: self.token.clone(),
            agent: concat!("sheaf/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let runtime = self.net.handle()?;
        let link = Arc::new(Link::start(server, identity, &runtime, self.events())?);
        links.insert(server.to_owned(), Arc::downgrade(&link));
        Ok(link)
    }

    /// Who runs the queries of all sites.
    pub(crate) fn crew(&self) -> &Crew {
        &self.crew
    }

    /// What looks at the buckets of all sites.
    pub(crate) fn poller(&self) -> &Arc<Poller> {
        &self.poller
    }

    /// The objects of a bucket, opened once.
    pub(crate) fn objects(&self, url: &str) -> Result<Arc<dyn Objects>> {
        let mut buckets = lock(&self.buckets);
        if let Some(objects) = buckets.get(url) {
            return Ok(Arc::clone(objects));
        }
        let objects = open_url(url)?;
        buckets.insert(url.to_owned(), Arc::clone(&objects));
        Ok(objects)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This device's id, made at the first start.
fn device_id(dir: &StdDir, path: &Path) -> Result<DeviceId> {
    let failed = |e| Error::io("read device id", e);
    // Two processes that start at once must not make two ids.
    let guard = dir.lock();
    let file = dir.open(DEVICE).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    if len == 0 {
        let guard = guard.map_err(|_| {
            Error::new(ErrorKind::Busy, "another process is setting up this directory: try again")
        })?;
        let id = DeviceId::mint(&SystemEnv);
        file.write_at(format!("{id}\n").as_bytes(), 0).map_err(failed)?;
        file.flush().map_err(failed)?;
        dir.flush().map_err(failed)?;
        drop(guard);
        return Ok(id);
    }
    drop(guard);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(limits::TEXT_FILE_MAX)];
    let got = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(got);
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map_err(|_| {
        let path = path.join(DEVICE);
        Error::corrupt(format!("device id is damaged path=`{}`", path.display()))
    })
}

/// A site's name as a directory: `a-z 0-9 _ -` as they are, every other byte as `%xx`. Capitals
/// too, because some file systems do not tell them apart.
fn escape(name: &str) -> Result<String> {
    check_site_name(name)?;
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02x}")),
        }
    }
    if escaped.len() > limits::DIR_NAME_MAX {
        return Err(Error::invalid("this site's name is too long for a directory"));
    }
    Ok(escaped)
}

/// The name that [`escape`] gave; `None` for a directory that is not a site's.
fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let (hex, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    escape(&name).is_ok_and(|again| again == escaped).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_directories_and_back() {
        for name in ["todo", "team/todos", "A.b-c_9", "con."] {
            let dir = escape(name).unwrap();
            assert!(!dir.contains(['/', '.', ' ']) && dir == dir.to_lowercase(), "{dir}");
            assert_eq!(unescape(&dir).as_deref(), Some(name));
        }
        for wrong in ["", "..", "a//b", "a b", &"A".repeat(120)] {
            assert!(escape(wrong).is_err(), "{wrong}");
        }
        for foreign in ["Todo", ".git", "%zz", "%2", "%41x%", "%61"] {
            assert_eq!(unescape(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_device_keeps_its_id() {
        let root = tempfile::tempdir().unwrap();
        let options = ClientOptions { dir: root.path().join("a/b"), server: None, token: None };
        let first = Client::open(options.clone()).unwrap();
        let second = Client::open(options.clone()).unwrap();
        assert_eq!(first.device(), second.device());
        assert_eq!(first.sites().unwrap(), Vec::<String>::new());
        let wrong = ClientOptions { server: Some("nowhere".to_owned()), ..options };
        assert_eq!(Client::open(wrong).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
