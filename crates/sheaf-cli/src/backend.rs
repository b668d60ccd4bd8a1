//! The only door to the client library: what commands may do with a device and its sites.
//!
//! Invariant: errors leave as a `Failure` whose one line says what to do next; nothing above this
//! file names a type of the library.

mod check;
mod failure;
mod gc;
mod history;
mod notices;
mod past;
mod store;
mod types;

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use serde_json::Value;

use crate::{args::GlobalArgs, exit::Failure, progress::Meter, view::ViewArg};
use failure::refusal;

#[cfg(test)]
pub(crate) use check::CheckedLog;
pub(crate) use check::{Check, CheckFinding, Mended};
pub(crate) use failure::{Refusal, node_failure, says_what_to_do};
#[cfg(test)]
pub(crate) use gc::DoomedObject;
pub(crate) use gc::{Reclaimed, history_retention, node_retention};
pub(crate) use history::{Comparison, Counts, Forked, Side};
pub(crate) use notices::Notices;
pub(crate) use past::{Blamed, BlamedRow, Mutation, PastChange, Undone};
#[cfg(test)]
pub(crate) use store::KeptPromise;
pub(crate) use store::{StoreVerdict, verify_store};
#[cfg(test)]
pub(crate) use types::Pending;
use types::Settings;
pub(crate) use types::{Entry, Exchanged, FailedAt, Merge, Rejected, Rule, Status};

/// A site of at most this many pages (1 MiB) is fetched whole at every contact.
const SMALL_SITE_PAGES_MAX: u32 = 256;

/// This installation: a directory of replicas, and perhaps a server.
pub(crate) struct Device {
    client: sheaf::Client,
    settings: Settings,
}

impl Device {
    /// Opens the directory that the flags or the environment name.
    pub(crate) fn open(global: &GlobalArgs) -> Result<Self, Failure> {
        let settings = Settings::resolve(global, |name| std::env::var_os(name))?;
        let options = sheaf::ClientOptions {
            dir: settings.dir.clone(),
            server: settings.server.clone(),
            token: settings.token.clone(),
        };
        let client = sheaf::Client::open(options).map_err(|error| match error.kind() {
            // The only input that is judged here is the server's address.
            sheaf::ErrorKind::Invalid => Failure::usage(error.to_string()),
            _ => failure::of(&error),
        })?;
        Ok(Self { client, settings })
    }

    /// Where the replicas are.
    pub(crate) fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// Whether a server is named for this command.
    pub(crate) fn has_server(&self) -> bool {
        self.settings.server.is_some()
    }

    /// Makes a replica of a site that the server has; a replica made in vain is removed again.
    pub(crate) fn clone_site(&self, name: &str, timeout: Duration) -> Result<Site, Refusal> {
        self.client.clone_site(name, timeout).map(Site::new).map_err(|error| refusal(&error))
    }

    /// What happens in the background from now on.
    pub(crate) fn notices(&self) -> Notices {
        Notices::new(self.client.events())
    }

    pub(crate) fn has_site(&self, name: &str) -> bool {
        self.client.site_exists(name)
    }

    /// Opens a site, creating its replica if this device has none, with pages of `page_size`.
    pub(crate) fn site(&self, name: &str, page_size: Option<u32>) -> Result<Site, Failure> {
        let site = match page_size.and_then(sheaf::PageSize::new) {
            Some(size) => self.client.site_with_page_size(name, size),
            None => self.client.site(name),
        };
        site.map(Site::new).map_err(|error| failure::of(&error))
    }

    /// Opens a site that this device has already.
    pub(crate) fn existing(&self, name: &str) -> Result<Site, Failure> {
        self.known(name)?;
        self.site(name, None)
    }

    /// That this device has a site.
    fn known(&self, name: &str) -> Result<(), Failure> {
        if self.has_site(name) {
            return Ok(());
        }
        let dir = self.dir().display();
        let message = format!(
            "no site `{name}` in {dir}: `sheaf sites` lists what is there, `sheaf clone {name}` \
             fetches it from a server"
        );
        Err(Failure::new("not_found", message))
    }

    /// Names of the sites on this device, sorted.
    pub(crate) fn sites(&self) -> Result<Vec<String>, Failure> {
        self.client.sites().map_err(|error| failure::of(&error))
    }
}

/// One open site.
#[derive(Clone)]
pub(crate) struct Site {
    site: sheaf::Site,
    name: String,
    server: Option<String>,
}

impl Site {
    fn new(site: sheaf::Site) -> Self {
        let (name, server) = (site.name(), site.status().server);
        Self { site, name, server }
    }

    /// Refuses a demand for a page size that the site has not.
    pub(crate) fn check_page_size(&self, wished: Option<u32>) -> Result<(), Failure> {
        let (name, size) = (&self.name, self.site.engine().ids().page_size.get());
        match wished {
            Some(wished) if wished != size => Err(Failure::new(
                "invalid",
                format!(
                    "site `{name}` has pages of {size} bytes, and that cannot be \
                     changed; make one under another name"
                ),
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An ordinary SQLite connection to one of the site's states.
    pub(crate) fn connection(&self, view: ViewArg) -> Result<Connection, Failure> {
        self.site.connection(view_of(view)).map_err(|error| {
            let name = &self.name;
            look_at(&error, &format!("`sheaf log {name}` lists the states there are"))
        })
    }

    /// Pushes and pulls.
    pub(crate) fn exchange(&self, timeout: Duration) -> Result<Exchanged, Refusal> {
        let done = self.site.exchange(timeout).map(types::exchanged);
        done.map_err(|error| failure::of_exchange(&self.name, &error))
    }

    pub(crate) fn pull(&self, timeout: Duration) -> Result<Exchanged, Refusal> {
        let done = self.site.pull(timeout).map(types::exchanged);
        done.map_err(|error| failure::of_exchange(&self.name, &error))
    }

    pub(crate) fn push(&self, timeout: Duration) -> Result<Exchanged, Refusal> {
        let done = self.site.push(timeout).map(types::exchanged);
        done.map_err(|error| failure::of_exchange(&self.name, &error))
    }

    /// Begins to exchange in the background, until `go_offline`.
    pub(crate) fn go_online(&self) -> Result<(), Failure> {
        self.site.go_online().map_err(|error| failure::of(&error))
    }

    pub(crate) fn go_offline(&self) {
        self.site.go_offline();
    }

    /// Exchanges when asked to, and fetches what is read, again.
    pub(crate) fn go_manual(&self) -> Result<(), Failure> {
        self.site.go_manual().map_err(|error| failure::of(&error))
    }

    /// Whether the site is kept exchanged and the server answers.
    pub(crate) fn is_online(&self) -> bool {
        self.site.is_online()
    }

    pub(crate) fn status(&self) -> Status {
        types::status(self.site.status())
    }

    /// The server that this site belongs to, if it has one.
    pub(crate) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// The newest entries of the log, newest first, as the server has them.
    pub(crate) fn log(&self, limit: usize) -> Result<Vec<Entry>, Failure> {
        let entries = self.site.log(limit, None);
        let entries = entries.map_err(|error| refusal(&error).into_failure())?;
        Ok(entries.into_iter().map(types::entry).collect())
    }

    /// Calls a named mutator; returns the number of the mutation.
    pub(crate) fn mutate(&self, name: &str, args: &Value) -> Result<u64, Failure> {
        self.site.mutate(name, args).map_err(|error| {
            let site = &self.name;
            look_at(&error, &format!("`sheaf mutators {site}` lists those there are"))
        })
    }

    pub(crate) fn define_mutator(&self, name: &str, sql: &str) -> Result<(), Failure> {
        self.site.define_mutator(name, sql).map_err(|error| failure::of(&error))
    }

    /// The merge rules of one table or of all.
    pub(crate) fn rules(&self, table: Option<&str>) -> Result<Vec<Rule>, Failure> {
        let rules = self.site.rules(table).map_err(|error| failure::of(&error))?;
        Ok(rules.into_iter().map(types::rule).collect())
    }

    pub(crate) fn define_merge(&self, name: &str, sql: &str) -> Result<(), Failure> {
        self.site.define_merge(name, Some(sql)).map_err(|error| failure::of(&error))
    }

    pub(crate) fn merge_rule(&self, table: &str, column: &str, rule: &str) -> Result<(), Failure> {
        let stored = self.site.merge_rule(table, column, Some(rule));
        stored.map(|_| ()).map_err(|error| failure::of(&error))
    }

    /// Copies an ordinary database file into the site; returns how many tables and rows.
    pub(crate) fn import(&self, file: &Path, meter: &Meter) -> Result<(usize, u64), Failure> {
        let done = self.site.import(file, &mut |rows| meter.set(rows, 0));
        let done = done.map_err(|error| failure::of(&error))?;
        Ok((done.tables, done.rows))
    }

    /// Writes one of the site's states as an ordinary database file that does not exist yet.
    pub(crate) fn export(&self, view: ViewArg, file: &Path) -> Result<(), Failure> {
        self.site.export(view_of(view), file).map_err(|error| failure::of(&error))
    }

    /// Fetches every page that is not here yet.
    pub(crate) fn hydrate(&self, meter: &Meter) -> Result<(), Failure> {
        let fetched = self.site.hydrate(&mut |done, all| meter.set(done, all));
        fetched.map_err(|error| refusal(&error).into_failure())
    }

    /// Bytes of own changes on their way or there, and of all that there are.
    pub(crate) fn push_progress(&self) -> (u64, u64) {
        let (offered, waiting) = self.site.push_progress();
        (offered, waiting.max(offered))
    }

    /// Bytes per page.
    pub(crate) fn page_size(&self) -> u64 {
        self.site.engine().ids().page_size.bytes() as u64
    }

    /// Pages at the head.
    pub(crate) fn page_count(&self) -> u64 {
        u64::from(self.site.engine().volume().head().page_count().0)
    }

    /// Drops pages that the server has; how many, and the bytes of those left.
    pub(crate) fn evict(&self, bytes_max: u64, remember: bool) -> Result<(u64, u64), Failure> {
        let evicted = self.site.evict(bytes_max, remember).map_err(|error| failure::of(&error))?;
        Ok((evicted.pages, evicted.bytes_left))
    }

    /// Fetches what is missing of a small site, so that it can be used offline from the first
    /// contact on. Larger ones are fetched as they are read, or by `clone --full`.
    pub(crate) fn fetch_if_small(&self) {
        let status = self.site.status();
        if status.pages_pending > 0 && status.page_count <= SMALL_SITE_PAGES_MAX {
            // What cannot be fetched now is fetched, or complained about, when it is read.
            drop(self.hydrate(&Meter::default()));
        }
    }

    /// Gives up what is pending, after an export of the local state; gives how much.
    pub(crate) fn reset(&self, export: Option<&Path>) -> Result<usize, Failure> {
        let keep = || match export {
            Some(file) => self.site.export(sheaf::View::Local, file),
            None => Ok(()),
        };
        self.site.reset(keep).map_err(|error| failure::of(&error))
    }

    /// The change that waits for its author, and why.
    pub(crate) fn asking(&self) -> Option<(u64, String)> {
        self.site.asking().map(|asking| (asking.seq, asking.reason))
    }

    /// The change that asks is wanted on what is there now.
    pub(crate) fn go_on(&self, seq: u64) -> Result<(), Failure> {
        self.site.go_on(seq).map_err(|error| failure::of(&error))
    }

    /// Gives up the change that asks.
    pub(crate) fn withdraw(&self, seq: u64) -> Result<(), Failure> {
        self.site.withdraw(seq).map_err(|error| failure::of(&error))
    }

    /// Forgets the rejected mutations up to this number.
    pub(crate) fn dismiss_rejected(&self, through: u64) -> Result<(), Failure> {
        let dismissed = self.site.dismiss_rejected_through(through);
        dismissed.map(drop).map_err(|error| failure::of(&error))
    }
}

/// Whether pages can have this many bytes.
pub(crate) fn is_page_size(bytes: u32) -> bool {
    sheaf::PageSize::new(bytes).is_some()
}

/// A failure that, if something was not found, says where to look for it.
fn look_at(error: &sheaf::Error, hint: &str) -> Failure {
    match error.kind() {
        sheaf::ErrorKind::NotFound => failure::of(error).with_note(hint),
        _ => failure::of(error),
    }
}

fn view_of(view: ViewArg) -> sheaf::View {
    match view {
        ViewArg::Local => sheaf::View::Local,
        ViewArg::Global => sheaf::View::Global,
        ViewArg::At(lsn) => sheaf::View::At(sheaf::Lsn(lsn)),
        ViewArg::AtTime(ms) => sheaf::View::AtTime(ms),
    }
}
