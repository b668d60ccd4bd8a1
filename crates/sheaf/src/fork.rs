//! Keeping what is pending here as a branch, and following the log without it.
//!
//! Invariants: what is pending leaves this replica only when the log of the branch has decided all
//! of it, so at every moment it is here, there, or both; a fork that was cut short goes on when it
//! is asked for again under the same name, and applies nothing twice. Order, each step durable
//! before the next: the note here, the branch at the server, its replica here, the mutations in
//! its log, and one record that gives them up here and drops the note.

use std::time::Duration;

use bytes::Bytes;
use sheaf_site::{Error, ErrorKind, Result};
use sheaf_volume::{At, Env as _, Lsn, Parent, SiteId, SystemEnv, VolumeId};

use crate::{
    client::Client,
    limits,
    server::Server,
    site::{ATTR_FORK, Site},
};

/// What a fork did.
#[derive(Clone, Debug, Default)]
pub struct Forked {
    /// The branch; `None` when nothing was pending.
    pub branch: Option<Site>,
    /// Mutations that are there and no longer pending here.
    pub moved: usize,
    /// The position that the branch begins at.
    pub at: Lsn,
    /// Those of them that the branch's log refused, and why: they are kept in its replica.
    pub rejected: Vec<(u64, String)>,
}

/// The note of a fork under way.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    site: SiteId,
    volume: VolumeId,
    at: Lsn,
    name: String,
}

impl Note {
    fn encode(&self) -> Bytes {
        format!("{} {} {} {}", self.site, self.volume, self.at.0, self.name).into_bytes().into()
    }

    /// `None` for what is no note; it is written anew then.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split(' ');
        let (site, volume) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (at, name) = (Lsn(parts.next()?.parse().ok()?), parts.next()?.to_owned());
        Some(Self { site, volume, at, name })
    }
}

impl Client {
    /// Moves what is pending in the site `source` to a new branch `name` that begins at this
    /// replica's base, then takes what the server has: this replica ends without changes of its
    /// own, and a replica of the branch is here. Begun again under the same name after a failure
    /// or a crash, it goes on. What the server had been sent before may be in both logs. The
    /// background stops exchanging the site.
    ///
    /// # Errors
    /// `NotFound` without such a site here; `Invalid` without a server, or when nothing of the site
    /// is agreed yet; `Conflict` when the name is taken, here or there, or the site is written all
    /// the time; `Corrupt` when the server's log is not the one this replica follows;
    /// `Unavailable` when the server cannot be reached. What is pending stays pending then.
    pub fn fork(&self, source: &str, name: &str, timeout: Duration) -> Result<Forked> {
        if !self.site_exists(source) {
            let text = format!("no site `{source}` on this device");
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        let site = self.site(source)?;
        let server = site.stand_alone()?;
        let engine = site.engine();
        if engine.volume().is_timeline_empty() {
            site.pull(timeout)?;
            return Ok(Forked::default());
        }
        follows(&site)?;
        let note = self.note_fork(&site, name)?;
        reach("fork: before branch")?;
        self.shared().branch_at(
            &server,
            source,
            At::Lsn(note.at),
            name,
            (note.site, note.volume),
        )?;
        let branch = self.open_branch(&site, &note, &server, timeout)?;
        let mut done = Forked { at: note.at, ..Forked::default() };
        for _ in 0..limits::FORK_ROUNDS_MAX {
            loop {
                if !branch.engine().volume().is_timeline_empty() {
                    done.rejected.extend(branch.push(timeout)?.rejected);
                }
                reach("fork: before hand over")?;
                if !engine.hand_over(branch.engine())? {
                    break;
                }
            }
            reach("fork: before give up")?;
            let forget = vec![(ATTR_FORK.to_owned(), None)];
            if let Some(moved) = engine.give_up_handed_over(branch.engine(), forget)? {
                engine.volume().flush()?;
                site.pull(timeout)?;
                return Ok(Forked { branch: Some(branch), moved, ..done });
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the site is written all the time; try again"))
    }

    /// The note of the fork under way, or a new one.
    fn note_fork(&self, site: &Site, name: &str) -> Result<Note> {
        let at = site.engine().base().0;
        if at == Lsn::ZERO {
            return Err(Error::invalid(format!(
                "nothing of site `{0}` is agreed yet, so there is nothing to branch from; make \
                 another site of it with `sheaf export {0} FILE` and `sheaf import FILE {name}`",
                site.name()
            )));
        }
        let volume = site.engine().volume();
        let known = volume.attr(ATTR_FORK).and_then(|bytes| Note::decode(&bytes));
        if let Some(known) = known.filter(|known| known.at == at && known.name == name) {
            return Ok(known);
        }
        self.require_free(name)?;
        let (site, id) = (SiteId::mint(&SystemEnv), VolumeId::mint(&SystemEnv));
        let note = Note { site, volume: id, at, name: name.to_owned() };
        volume.set_attrs(vec![(ATTR_FORK.to_owned(), Some(note.encode()))])?;
        Ok(note)
    }

    /// The replica of the branch, made if there is none, and certainly of the branch.
    fn open_branch(
        &self,
        site: &Site,
        note: &Note,
        server: &Server,
        timeout: Duration,
    ) -> Result<Site> {
        let source = site.engine().ids();
        let branch = self.site_at(&note.name, Some(server), source.page_size)?;
        branch.pull(timeout)?;
        let engine = branch.engine();
        let parent = Parent { volume: source.volume, lsn: note.at };
        if engine.ids().volume != note.volume {
            let text = format!("`{}` is another site here; choose another name", note.name);
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        // What it begins with can be compared before it goes on, and is before anything is handed
        // over to it.
        let (is_new, base) = (engine.last_seq() == 0, engine.base());
        if is_new && base.0 > note.at {
            let text = format!("others write to `{}` already; choose another name", note.name);
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        let differs = is_new && base != site.engine().base();
        if differs || engine.volume().lineage().parents().first() != Some(&parent) {
            return Err(other_log(site));
        }
        Ok(branch)
    }
}

/// That the server's log has the commit that a replica is based on, as far as it still has it.
fn follows(site: &Site) -> Result<()> {
    let (lsn, hash) = site.engine().base();
    if lsn == Lsn::ZERO {
        return Ok(());
    }
    match site.log_source()?.pull(Lsn(lsn.0 - 1)) {
        Ok(commits) if commits.first().is_some_and(|commit| commit.hash() == hash) => Ok(()),
        Ok(_) => Err(other_log(site)),
        // Its state may be kept all the same, and is compared when the branch is here.
        Err(error) if error.kind() == ErrorKind::Expired => Ok(()),
        Err(error) => Err(error),
    }
}

fn other_log(site: &Site) -> Error {
    Error::corrupt(format!(
        "the log at the server is not the one that this replica follows at @{}, so there is \
         nothing to branch from; restore the store, or keep what is here with \
         `sheaf export {} FILE`",
        site.engine().base().0,
        site.name()
    ))
}

/// A fault point.
fn reach(point: &'static str) -> Result<()> {
    SystemEnv.fault(point).map_err(|e| Error::io("fork", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back() {
        let (site, volume) = (SiteId::from_bytes([1; 16]), VolumeId::from_bytes([2; 16]));
        let note = Note { site, volume, at: Lsn(7), name: "team/x".to_owned() };
        assert_eq!(Note::decode(&note.encode()), Some(note));
        for bad in ["", "a b 7 x", "7"] {
            assert_eq!(Note::decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
