//! The driver of bucket mode: what one site does with its bucket at each turn.
//!
//! Invariant: single-threaded and without a thread or a clock of its own; blocks only where the
//! bucket does. Nothing is appended before the site in the bucket was adopted.

use std::{sync::Arc, time::Duration};

use sheaf_site::{Asking, Error, ErrorKind, Result, Site, SiteIds};
use sheaf_volume::{BucketRemote, Env, Objects, Remote as _, SiteRecord, create_site, find_site};

use crate::{
    event::{Event, Events},
    exchange::{Ask, Tally},
    limits,
};

/// One site and its bucket, without a node between them.
#[derive(Debug)]
pub struct BucketDriver {
    url: String,
    site: Site,
    objects: Arc<dyn Objects>,
    env: Arc<dyn Env>,
    events: Events,
    /// The log, once the site was adopted.
    log: Option<Arc<BucketRemote>>,
    tally: Tally,
    pause: Duration,
    reachable: bool,
    /// What the last event said: whether the bucket answers.
    told_online: Option<bool>,
    /// The question that was told last.
    told_asking: Option<Asking>,
}

impl BucketDriver {
    /// Lets the site read missing pages from the bucket; reaches for it no further yet. `url`
    /// names the bucket in events and errors, `env` gives the time that a new site is stamped with.
    #[must_use]
    pub fn new(
        url: &str,
        site: Site,
        objects: Arc<dyn Objects>,
        env: Arc<dyn Env>,
        events: Events,
    ) -> Self {
        // What this replica knows already is enough to read from; whether the bucket agrees is
        // found out at the first exchange.
        let (lineage, size) = (site.volume().lineage(), site.ids().page_size);
        let log = Arc::new(BucketRemote::new(Arc::clone(&objects), lineage, size));
        site.set_remote(Some(log));
        Self {
            url: url.to_owned(),
            site,
            objects,
            env,
            events,
            log: None,
            tally: Tally::default(),
            pause: limits::POLL_MIN,
            reachable: false,
            told_online: None,
            told_asking: None,
        }
    }

    /// Does what is asked and returns what it brought about, which is told as events too.
    ///
    /// # Errors
    /// `NotFound` when the bucket does not know the site and it may not be created, `Unavailable`
    /// or `Ambiguous` when the bucket does not answer, `Conflict` when others were faster every
    /// time. The next exchange goes on from wherever this one ended.
    pub fn exchange(&mut self, ask: Ask) -> Result<Tally> {
        let (earlier, base) = (self.tally.clone(), self.site.base().0);
        let outcome = self.exchange_with(ask);
        self.reachable = outcome.is_ok();
        self.tell_contact(outcome.as_ref().err());
        let tally = self.tally.since(&earlier);
        self.tell(&tally, self.site.base().0 > base);
        outcome.map(|()| tally)
    }

    /// One turn of the background: exchanges everything.
    /// Returns how long to wait for the next turn unless there is a local commit before: longer
    /// each time while nothing happens, and never the same for devices that began together.
    pub fn turn(&mut self) -> Duration {
        let base = self.site.base().0;
        let exchanged = self.exchange(Ask::EVERYTHING);
        let moved = exchanged.is_ok() && self.site.base().0 > base;
        self.pause = if moved { limits::POLL_MIN } else { longer(self.pause) };
        if let Err(error) = exchanged
            && !is_silence(&error)
        {
            tracing::debug!(%error, "exchange failed");
            let site = self.site.name();
            self.events.push(Event::Failed { site, error });
        }
        self.jittered()
    }

    /// A random point of the upper half of the pause.
    fn jittered(&self) -> Duration {
        let mut random = [0; 8];
        self.env.fill_random(&mut random);
        let half = u64::try_from(self.pause.as_millis() / 2).unwrap_or(u64::MAX).max(1);
        self.pause / 2 + Duration::from_millis(u64::from_le_bytes(random) % half)
    }

    /// Whether the last exchange succeeded.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.reachable
    }

    fn exchange_with(&mut self, ask: Ask) -> Result<()> {
        let log = match &self.log {
            Some(log) => Arc::clone(log),
            None => {
                let log = self.open(ask.create)?;
                self.log = Some(Arc::clone(&log));
                log
            }
        };
        if ask.push {
            let done = self.site.exchange_with_log(log.as_ref())?;
            self.tally.pulled += done.pulled as u64;
            self.tally.pushed += done.pushed as u64;
            self.tally.merged += done.merged as u64;
            self.tally.confirmed += done.pushed as u64;
            for (seq, reason) in done.rejected {
                self.tally.reject(seq, reason);
            }
            self.tally.merge(done.stands);
            return Ok(());
        }
        let followed = self.site.follow(log.as_ref(), &mut |_| Ok(()))?;
        self.tally.integrated(followed.commits, &followed.outcome);
        self.tally.merge(followed.outcome.stands);
        Ok(())
    }

    /// Finds the site in the bucket, or creates it there, and adopts it.
    fn open(&self, create: bool) -> Result<Arc<BucketRemote>> {
        let name = self.site.name();
        let objects = self.objects.as_ref();
        let record = match find_site(objects, &name)? {
            Some(record) => record,
            None if create => {
                let SiteIds { site, volume, page_size } = self.site.ids();
                let created_ms = self.env.now_ms();
                let lineage = volume.into();
                create_site(objects, &name, &SiteRecord { site, lineage, page_size, created_ms })?
            }
            None => {
                let text = format!("no site `{name}` in {}", self.url);
                return Err(Error::new(ErrorKind::NotFound, text));
            }
        };
        let objects = Arc::clone(&self.objects);
        let log = Arc::new(BucketRemote::new(objects, record.lineage.clone(), record.page_size));
        let before = (self.site.ids(), self.site.volume().lineage());
        // ORDER: adopting replays the timeline, which may need pages of the new base.
        self.site.set_remote(Some(log.clone()));
        let SiteRecord { site, lineage, page_size, .. } = record;
        let volume = lineage.volume();
        let adopted = log.head().and_then(|head| {
            if volume == before.0.volume {
                self.site.heard_of(head.lsn);
                self.site.check_log(&head)?;
            }
            let ids = SiteIds { site, volume, page_size };
            self.site.adopt_branch(ids, lineage.parents().to_vec(), head)
        });
        if let Err(error) = adopted {
            let objects = Arc::clone(&self.objects);
            let back = BucketRemote::new(objects, before.1, before.0.page_size);
            self.site.set_remote(Some(Arc::new(back)));
            return Err(error);
        }
        Ok(log)
    }

    /// Tells whether the bucket answers, if that is news.
    fn tell_contact(&mut self, error: Option<&Error>) {
        let server = self.url.clone();
        let (is_online, event) = match error {
            None => (true, Event::Online { server }),
            Some(error) if is_silence(error) => {
                (false, Event::Offline { server, reason: error.clone() })
            }
            Some(_) => return,
        };
        if self.told_online.replace(is_online) != Some(is_online) {
            self.events.push(event);
        }
    }

    fn tell(&mut self, tally: &Tally, moved: bool) {
        let site = self.site.name();
        for (seq, reason) in &tally.rejected {
            let (seq, reason) = (*seq, reason.clone());
            self.events.push(Event::Rejected { site: site.clone(), seq, reason });
        }
        for (seq, ops) in &tally.merges {
            let (seq, ops) = (*seq, ops.clone());
            self.events.push(Event::Merged { site: site.clone(), seq, ops });
        }
        if moved {
            let (commits, confirmed, lsn) = (tally.pulled, tally.confirmed, self.site.base().0);
            self.events.push(Event::Changed { site: site.clone(), lsn, commits, confirmed });
        }
        let asking = self.site.asking();
        if let Some(Asking { seq, reason }) = &asking
            && asking != self.told_asking
        {
            self.events.push(Event::Asks { site, seq: *seq, reason: reason.clone() });
        }
        self.told_asking = asking;
    }
}

/// Whether the bucket did not answer, as opposed to what was wrong with its answer, or here.
fn is_silence(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Ambiguous)
}

fn longer(pause: Duration) -> Duration {
    (pause * 3 / 2).min(limits::POLL_MAX)
}

#[cfg(test)]
mod tests;
