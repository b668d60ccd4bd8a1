//! Verifying a site on this device, and what its server has of it.
//!
//! Invariant: a verification changes nothing but what opening a replica changes, and fetches no
//! page unless it is asked to look at all of them. What could not be looked at is said, never
//! taken for sound.

use sheaf_site::{Error, ErrorKind, MutationRecord, Result, View, from_sqlite};
use sheaf_volume::{
    CommitHash, Finding, LogCheck, Lsn, PageIdx, PageSet, Remedy, Remote, ReplicaCheck,
    ReplicaInfo, StdDir, Want, find_site, verify_log, verify_replica,
};

use crate::{client::Client, limits, server::Server, site::Site};

/// What is being looked at, and how far that is: done and in all.
pub type CheckProgress<'a> = dyn FnMut(&'static str, u64, u64) + 'a;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verified {
    /// This device's files.
    pub local: ReplicaCheck,
    /// The log; `None` if it was not looked at.
    pub log: Option<LogCheck>,
    /// Whether SQLite looked at the database.
    pub sqlite: bool,
    /// Whether every page that is here was compared with the log.
    pub compared: bool,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// Pages that are whole and not what the log says.
    pub differing: PageSet,
    /// What was not looked at, and why; and what is odd without being damage.
    pub notes: Vec<String>,
    /// Why the server could not be asked.
    pub unreachable: Option<String>,
}

impl Client {
    /// Verifies a site of this device that nobody has open: its files, what its server has of it,
    /// and the database. With `full`, missing pages are fetched first and every page is compared
    /// with the log.
    ///
    /// # Errors
    /// `NotFound` when this device has no such site, `Busy` while somebody has it open, `Io`.
    /// Damage is no error, and neither is a server that cannot be reached.
    pub fn verify_site(
        &self,
        name: &str,
        full: bool,
        progress: &mut CheckProgress<'_>,
    ) -> Result<Verified> {
        let local = verify_replica(&self.replica_dir(name)?)?;
        let mut verified =
            Verified { findings: local.findings.clone(), local, ..Verified::default() };
        let Some(info) = verified.local.replica.clone() else {
            verified.notes.push("the server was not asked: the replica is unreadable".to_owned());
            return Ok(verified);
        };
        let server = self.server_of(&info)?;
        // Opening cuts off a torn end, so a damaged replica is left as it is for a repair.
        let site = match verified.findings.is_empty() {
            true => Some(self.site(name)?),
            false => None,
        };
        let asked = match &server {
            None => {
                verified.notes.push("the log was not checked: the site has no server".to_owned());
                Ok(())
            }
            Some(server) => {
                self.verify_remote(name, server, (&info, site.as_ref()), &mut verified, progress)
            }
        };
        let asked = asked.and_then(|()| match &site {
            Some(site) => verified.database(site, full, server.is_some(), progress),
            None => {
                verified.notes.push("the database was not checked: repair it first".to_owned());
                Ok(())
            }
        });
        match asked {
            Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Ambiguous) => {
                verified.unreachable = Some(e.to_string());
            }
            asked => asked?,
        }
        Ok(verified)
    }

    pub(crate) fn replica_dir(&self, name: &str) -> Result<StdDir> {
        if !self.site_exists(name) {
            let text = format!("there is no site `{name}` on this device");
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        StdDir::open(&self.site_path(name)?).map_err(|e| Error::io("open site", e))
    }

    /// The server named for this client, or the one that the replica remembers.
    pub(crate) fn server_of(&self, info: &ReplicaInfo) -> Result<Option<Server>> {
        let remembered = info.attrs.iter().find(|(name, _)| name == crate::site::ATTR_SERVER);
        let remembered = remembered.and_then(|(_, url)| std::str::from_utf8(url).ok());
        match self.named_server() {
            Some(server) => Ok(Some(server)),
            None => remembered.map(Server::parse).transpose(),
        }
    }

    fn verify_remote(
        &self,
        name: &str,
        server: &Server,
        (info, site): (&ReplicaInfo, Option<&Site>),
        verified: &mut Verified,
        progress: &mut CheckProgress<'_>,
    ) -> Result<()> {
        if info.base.0 == Lsn::ZERO {
            verified.notes.push("the log was not checked: nothing of it is here yet".to_owned());
            return Ok(());
        }
        let progress = &mut |done, all| progress("commits", done, all);
        let log = match server {
            Server::Bucket(url) => {
                let objects = self.objects(url)?;
                verified.findings.extend(site_record(&*objects, name, info)?);
                {
                    let record = find_site(&*objects, name).ok().flatten();
                    let lineage =
                        record.map_or_else(|| info.volume.into(), |record| record.lineage);
                    verify_log(&*objects, &lineage, info.page_size, Some(info.base), progress)?
                }
            }
            Server::Node(_) => {
                let Some(site) = site else {
                    verified.notes.push("the log was not checked: repair this first".to_owned());
                    return Ok(());
                };
                verified.notes.push(
                    "the log was read through the node: for its segments, verify with the \
                     node's own store as --server"
                        .to_owned(),
                );
                verify_pulled(&*site.log_source()?, info.base, progress)?
            }
        };
        verified.findings.extend(log.findings.iter().cloned());
        if log.unreferenced > 0 {
            verified.notes.push(format!(
                "{} segments are named by no commit: appends that were cut short; they do no harm",
                log.unreferenced
            ));
        }
        verified.log = Some(log);
        Ok(())
    }
}

/// What is wrong with the entry of a site in its bucket.
fn site_record(
    objects: &dyn sheaf_volume::Objects,
    name: &str,
    info: &ReplicaInfo,
) -> Result<Option<Finding>> {
    let place = format!("site record of {name}");
    let bad = |what: String| Ok(Some(Finding::new(place.clone(), what, Remedy::RestoreStore)));
    match find_site(objects, name) {
        Ok(Some(record)) if record.volume() == info.volume => Ok(None),
        Ok(Some(record)) => {
            bad(format!("it names volume {}, this replica has {}", record.volume(), info.volume))
        }
        Ok(None) => bad("the store has none: nobody else can find the site".to_owned()),
        Err(e) if e.kind() == ErrorKind::Corrupt => bad(e.to_string()),
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            Ok(Some(Finding::new(place, e.to_string(), Remedy::Upgrade)))
        }
        Err(e) => Err(e),
    }
}

/// Follows the chain of commits as a remote gives them, and checks the pages that travel in them.
fn verify_pulled(
    remote: &dyn Remote,
    (base, hash): (Lsn, CommitHash),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LogCheck> {
    let mut check = LogCheck::default();
    let (mut at, mut parent) = (Lsn::ZERO, CommitHash::default());
    let bad =
        |lsn: Lsn, what: String| Finding::new(format!("commit @{lsn}"), what, Remedy::RestoreStore);
    let answered = |e: &Error| {
        matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unsupported)
    };
    let head = match remote.head() {
        Ok(head) => head.lsn,
        Err(e) if answered(&e) => {
            check.findings.push(bad(base, format!("the node says: {e}")));
            return Ok(check);
        }
        Err(e) => return Err(e),
    };
    check.head = head;
    while at < head {
        let commits = match remote.pull(at) {
            Ok(commits) if commits.is_empty() => break,
            Ok(commits) => commits,
            // What is older is no longer kept; this replica's own position is.
            Err(e) if e.kind() == ErrorKind::Expired && at < base => {
                (at, parent) = (base, hash);
                continue;
            }
            Err(e) if answered(&e) => {
                check.findings.push(bad(at.next(), format!("the node says: {e}")));
                return Ok(check);
            }
            Err(e) => return Err(e),
        };
        for commit in commits {
            let this = commit.hash();
            if commit.parent != parent {
                let what = "it does not name the commit before it".to_owned();
                check.findings.push(bad(commit.lsn, what));
            }
            if commit.lsn == base && this != hash {
                let what = "this is not the commit that the replica has seen here".to_owned();
                check.findings.push(bad(commit.lsn, what));
            }
            match commit.inline_pages() {
                Ok(_) => check.commits += 1,
                Err(e) => check.findings.push(bad(commit.lsn, e.to_string())),
            }
            (at, parent) = (commit.lsn, this);
        }
        progress(at.0, head.0);
    }
    if head < base {
        let what = format!("the log ends at @{head}, and this replica has seen @{base}");
        check.findings.push(bad(base, what));
    }
    Ok(check)
}

impl Verified {
    /// Looks at the database as SQLite sees it, and at the pages as the log has them.
    fn database(
        &mut self,
        site: &Site,
        full: bool,
        has_server: bool,
        progress: &mut CheckProgress<'_>,
    ) -> Result<()> {
        let volume = site.engine().volume();
        for seq in volume.held().into_iter().map(|held| held.seq) {
            // One after the other: they may be many, and their bytes on the disk.
            let Err(e) = volume.mutation(seq).and_then(|pending| {
                pending.map_or(Ok(()), |pending| MutationRecord::from(pending).mutation().map(drop))
            }) else {
                continue;
            };
            let newer = e.kind() == ErrorKind::Unsupported;
            let remedy = if newer { Remedy::Upgrade } else { Remedy::CloneAfresh };
            self.findings.push(Finding::new(
                format!("pending change {seq}"),
                e.to_string(),
                remedy,
            ));
        }
        if full && has_server {
            site.hydrate(&mut |done, all| progress("pages fetched", done, all))?;
            self.compare(site, progress)?;
            return self.whole(site, progress);
        }
        // The check below is for what is here; it is not to fetch the rest.
        site.without_pages(|| self.whole(site, progress))
    }

    /// Looks at the database, if all of it is here.
    fn whole(&mut self, site: &Site, progress: &mut CheckProgress<'_>) -> Result<()> {
        let missing = site.status().pages_pending;
        if missing > 0 {
            self.notes.push(format!(
                "the database was not checked: {missing} of its pages are not here; --full fetches \
                 them"
            ));
            return Ok(());
        }
        progress("database", 0, 1);
        self.sqlite(site)?;
        progress("database", 1, 1);
        Ok(())
    }

    fn sqlite(&mut self, site: &Site) -> Result<()> {
        let connection = site.connection(View::Local)?;
        let lines = |sql: &str| -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.take(limits::CHECK_LINES_MAX).collect()
        };
        match lines("PRAGMA integrity_check").map_err(from_sqlite) {
            Ok(said) if said == ["ok"] => {}
            Ok(said) => self.findings.extend(
                said.into_iter().map(|line| Finding::new("database", line, Remedy::Repair)),
            ),
            Err(e) => self.findings.push(Finding::new("database", e.to_string(), Remedy::Repair)),
        }
        let orphans = lines("SELECT DISTINCT \"table\" FROM pragma_foreign_key_check");
        // SQL with foreign keys off may make them, so they are no damage.
        for table in orphans.map_err(from_sqlite)? {
            self.notes.push(format!("rows of table `{table}` refer to rows that are not there"));
        }
        self.sqlite = true;
        Ok(())
    }

    /// Compares every page of the agreed state with what the log has at its position.
    fn compare(&mut self, site: &Site, progress: &mut CheckProgress<'_>) -> Result<()> {
        let remote = site.log_source()?;
        let volume = site.engine().volume();
        let (lsn, agreed) = (volume.base().0, volume.global());
        let all: Vec<PageIdx> = (1..=agreed.page_count().0).filter_map(PageIdx::new).collect();
        let mut done = 0;
        for pages in all.chunks(limits::COMPARE_PAGES) {
            let want = Want { lsn, pages: pages.iter().copied().collect() };
            for fetched in remote.fetch(std::slice::from_ref(&want))? {
                let here = agreed.page_if_here(fetched.idx)?;
                if want.pages.contains(fetched.idx) && here.is_some_and(|h| h != fetched.page) {
                    _ = self.differing.insert(fetched.idx);
                }
            }
            done += pages.len() as u64;
            progress("pages compared", done, all.len() as u64);
        }
        self.compared = true;
        if !self.differing.is_empty() {
            let what = format!("pages are not what the log says at @{lsn}");
            let mut finding = Finding::new("main.db", what, Remedy::Repair);
            finding.pages = self.differing.clone();
            self.findings.push(finding);
        }
        Ok(())
    }
}
