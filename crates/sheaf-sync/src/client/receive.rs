//! What a client session does with each message of the node.
//!
//! Invariant: a message that contradicts itself ends the connection, one that contradicts the
//! log's order is answered by a pull, and one about a site closed meanwhile is dropped.

use bytes::Bytes;
use sheaf_volume::{Changes, CommitNews, DeviceId, Error, ErrorKind, Lsn, Result, VolumeId};

use super::{ClientEvent, ClientSession, Phase, RequestKind, first_new, newest, site::Stage};
use crate::{
    limits,
    message::{self, Body},
    wire::{self, PushAnswer},
};

impl ClientSession {
    pub(super) fn take(&mut self, body: Body) -> Result<()> {
        match body {
            Body::Error(error) => {
                self.error(&error);
                return Ok(());
            }
            Body::Ping(ping) => {
                self.send(Body::Pong(ping));
                return Ok(());
            }
            Body::Pong(_) => return Ok(()),
            Body::Welcome(welcome) => return self.welcome(&welcome),
            _ if self.phase != Phase::Ready => {
                return Err(Error::invalid("the node's first message is not Welcome"));
            }
            _ => {}
        }
        match body {
            Body::Opened(opened) => self.opened(opened),
            Body::Changed(changed) => self.changed(&changed),
            Body::Commits(commits) => self.commits(&commits),
            Body::Verdicts(verdicts) => self.verdicts(verdicts),
            _ => Err(Error::invalid("this message is sent by a device only")),
        }
    }

    fn welcome(&mut self, welcome: &message::Welcome) -> Result<()> {
        if !matches!(self.phase, Phase::Greeting { .. }) {
            return Err(Error::invalid("a second Welcome on one connection"));
        }
        let spoken = message::PROTOCOL_MIN..=message::PROTOCOL_MAX;
        if !spoken.contains(&welcome.protocol) {
            let text =
                format!("the node speaks protocol {}, upgrade this device", welcome.protocol);
            self.refused(Error::new(ErrorKind::Unsupported, text));
            return Ok(());
        }
        let node = wire::device_from_wire(&welcome.node)?;
        let known_as: DeviceId = wire::device_from_wire(&welcome.device_confirmed)?;
        if known_as != self.identity.device {
            return Err(Error::invalid("the node knows this device by another id"));
        }
        if let Some(theirs) = &welcome.limits {
            self.push_bytes_max = within(theirs.push_bytes_max, limits::PUSH_BYTES_MAX);
            self.push_mutations_max =
                within(theirs.push_mutations_max.into(), limits::PUSH_MUTATIONS_MAX);
        }
        self.phase = Phase::Ready;
        self.attempts = 0;
        self.welcomed = self.now;
        self.events.push_back(ClientEvent::Ready { node });
        Ok(())
    }

    fn opened(&mut self, opened: message::Opened) -> Result<()> {
        let request = opened.request;
        let opened = wire::opened_from_wire(opened)?;
        let Some(name) = self.answered(request, RequestKind::Open) else {
            return Ok(());
        };
        if name != opened.name {
            return Err(Error::invalid("the node opened another site than asked for"));
        }
        let Some(site) = self.sites.get_mut(&name) else {
            return Ok(());
        };
        site.stage = Stage::Opened;
        site.volume = Some(opened.volume);
        site.known = opened.head.lsn;
        self.events.push_back(ClientEvent::SiteOpened(opened));
        Ok(())
    }

    fn changed(&mut self, changed: &message::Changed) -> Result<()> {
        let volume = wire::volume_from_wire(&changed.volume)?;
        let crowded = self.events.len() >= limits::EVENTS_MAX;
        let Some((name, site)) =
            self.sites.iter_mut().find(|(_, site)| site.volume == Some(volume))
        else {
            return Ok(());
        };
        site.known = site.known.max(Lsn(changed.lsn));
        if site.stage != Stage::Watching || crowded {
            return Ok(());
        }
        let name = name.clone();
        let commits = if changed.deltas.is_empty() {
            whole(volume, &changed.commits)?
        } else {
            let deltas = wire::deltas_from_wire(volume, &changed.deltas)?;
            deltas.into_iter().map(CommitNews::Delta).collect()
        };
        self.deliver(&name, volume, commits);
        Ok(())
    }

    fn commits(&mut self, answer: &message::Commits) -> Result<()> {
        let volume = wire::volume_from_wire(&answer.volume)?;
        let head = wire::head_from_wire(answer.head.as_ref())?;
        let Some(name) = self.answered(answer.request, RequestKind::Pull) else {
            return Ok(());
        };
        match wire::changes_from_wire(volume, answer)? {
            Some(changes) => self.deliver_merged(&name, changes)?,
            None => self.deliver(&name, volume, whole(volume, &answer.commits)?),
        }
        let Some(site) = self.sites.get_mut(&name) else {
            return Ok(());
        };
        site.pulling = false;
        site.known = newest(&head, site.known);
        if answer.more && answer.commits.is_empty() {
            return Err(Error::invalid("the node promises commits and sends none"));
        }
        if answer.more {
            return Ok(());
        }
        if site.delivered < head.lsn {
            return Err(Error::corrupt("the node's commits end before its head"));
        }
        if site.refresh_sent > site.refresh_done {
            site.refresh_done = site.refresh_sent;
            let (serial, head) = (site.refresh_done, site.delivered);
            self.events.push_back(ClientEvent::CaughtUp { name, serial, head });
        }
        Ok(())
    }

    fn verdicts(&mut self, answer: message::Verdicts) -> Result<()> {
        let request = answer.request;
        let (volume, timeline, answer) = wire::answer_from_wire(answer)?;
        let Some(name) = self.answered(request, RequestKind::Push) else {
            return Ok(());
        };
        let Some(site) = self.sites.get_mut(&name) else {
            return Ok(());
        };
        let Some(push) = site.push.take() else {
            return Ok(());
        };
        let is_of_batch = match &answer {
            PushAnswer::Verdicts { first_seq, verdicts, .. } => {
                *first_seq == push.batch.first_seq && verdicts.len() <= push.batch.mutations.len()
            }
            PushAnswer::Gap { .. } | PushAnswer::Fork { .. } | PushAnswer::Malformed(_) => true,
        };
        if site.volume != Some(volume) || push.batch.timeline != timeline || !is_of_batch {
            return Err(Error::invalid("verdicts about another push than was sent"));
        }
        self.events.push_back(ClientEvent::Verdicts { name, batch: push.batch, answer });
        Ok(())
    }

    fn error(&mut self, error: &message::Error) {
        let reason = wire::error_from_wire(error);
        let Some(request) = self.requests.remove(&error.request) else {
            if error.fatal || error.request == 0 {
                // Only these say that the device itself is not welcome.
                let is_final = matches!(
                    reason.kind(),
                    ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Invalid
                );
                // Who is welcomed and sent away again each time does not come back at once.
                let stood = self.now.saturating_sub(self.welcomed);
                self.is_turned_away = stood < limits::BACKOFF_MAX_MS;
                if is_final { self.refused(reason) } else { self.fail(reason) }
            }
            return;
        };
        let Some(site) = self.sites.get_mut(&request.site) else {
            return;
        };
        let again = may_pass(reason.kind());
        // A site that is not there may be made by somebody, an object that its store does not find
        // is often there again, and a site that is closed makes room for another: asked for once
        // more, but not soon.
        let is_passing = matches!(reason.kind(), ErrorKind::NotFound | ErrorKind::Limit);
        let missing = request.kind == RequestKind::Open && is_passing;
        let hold = if missing { limits::SITE_MISSING_HOLD_MS } else { limits::SITE_HOLD_MS };
        site.hold_until = self.now.saturating_add(hold);
        site.missing = missing;
        match request.kind {
            RequestKind::Open if again || missing => site.stage = Stage::Closed,
            RequestKind::Open => site.stage = Stage::Failed,
            RequestKind::Pull => site.pulling = false,
            RequestKind::Push if again => {
                if let Some(push) = &mut site.push {
                    push.sent = false;
                }
            }
            RequestKind::Push => site.push = None,
        }
        self.events.push_back(ClientEvent::SiteError { name: request.site, error: reason });
    }

    /// Hands commits to the role if they follow on what it has; else only their existence counts,
    /// and a pull will fetch what is between.
    fn deliver(&mut self, name: &str, volume: VolumeId, mut commits: Vec<CommitNews>) {
        let Some(site) = self.sites.get_mut(name) else {
            return;
        };
        commits.drain(..first_new(&commits, site.delivered));
        let Some(last) = commits.last().map(CommitNews::lsn) else {
            return;
        };
        site.known = site.known.max(last);
        let follows = commits.first().map(CommitNews::lsn) == Some(site.delivered.next());
        if !follows || site.is_holding() {
            return;
        }
        site.delivered = last;
        let (name, head) = (name.to_owned(), site.known);
        self.events.push_back(ClientEvent::CommitsArrived { name, volume, commits, head });
    }

    /// Hands merged changes to the role unless it has got beyond them meanwhile.
    fn deliver_merged(&mut self, name: &str, changes: Changes) -> Result<()> {
        let Some(site) = self.sites.get_mut(name) else {
            return Ok(());
        };
        if site.timeline.is_none() || changes.after > site.delivered {
            return Err(Error::invalid("the node sent changes that were not asked for"));
        }
        if changes.head.lsn <= site.delivered {
            return Ok(());
        }
        site.delivered = changes.head.lsn;
        let (name, changes) = (name.to_owned(), Box::new(changes));
        self.events.push_back(ClientEvent::ChangesArrived { name, changes });
        Ok(())
    }

    /// The site whose request this answers; `None` when nobody waits for it any more.
    fn answered(&mut self, request: u64, kind: RequestKind) -> Option<String> {
        let waiting = self.requests.get(&request)?.kind == kind;
        if waiting { self.requests.remove(&request).map(|request| request.site) } else { None }
    }

    fn refused(&mut self, error: Error) {
        self.phase = Phase::Refused;
        self.out.clear();
        self.events.push_back(ClientEvent::Refused { error });
    }
}

/// Commits that came whole.
fn whole(volume: VolumeId, objects: &[Bytes]) -> Result<Vec<CommitNews>> {
    let commits = wire::commits_from_wire(&volume.into(), objects)?;
    Ok(commits.into_iter().map(CommitNews::Whole).collect())
}

/// The other side's limit where it is smaller than ours; zero means it named none.
fn within(theirs: u64, ours: usize) -> usize {
    match usize::try_from(theirs) {
        Ok(0) | Err(_) => ours,
        Ok(theirs) => theirs.min(ours),
    }
}

/// Whether what failed so may succeed later without anybody doing something about the request:
/// the trouble lies with the node or its store. A damaged answer of a store is often right the
/// next time.
fn may_pass(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::Denied
            | ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::Unsupported
            | ErrorKind::Expired
            | ErrorKind::Limit
    )
}
