//! One replica of one site on a device: opening it, writing to it, exchanging it.
//!
//! Invariant: the ledger hears of every commit that returned, and of one that was cut short when
//! the restarted replica shows it. Leaves out what is read: see [`super::look`].

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use sheaf_site::{Error, ErrorKind, Site, SiteIds, SiteOptions, View};
use sheaf_volume::{
    DeviceId, Dir as _, Durability, PageSet, PageSize, PendingMutation, SiteId, TimelineId,
    VolumeId, mend_replica,
};

use super::{editor::Editor, look::Reader};
use crate::{
    check::{ambiguity, bounds, durability, recovery},
    disk::SimDisk,
    env::HostEnv,
    link::{Exchanged, Link},
    net::Packet,
    rng::Rng,
    workload::{Author, MUTATORS, Meant, Runs, Step, Transaction},
    world::Host,
};

/// A commit that is under way.
pub(super) struct Begun {
    timeline: TimelineId,
    expected: u64,
    base: u64,
}

/// A replica that is open.
pub(super) struct Replica {
    /// Which site of the world.
    pub(super) number: usize,
    pub(super) site: Site,
    link: Link,
    /// What the timeline was when the exchange under way was asked for, and where it began.
    asked: Option<(TimelineId, u64, u64)>,
    /// The connection through which its people look before they write.
    eyes: Option<Connection>,
    pub(super) readers: Vec<Reader>,
    /// Who has a document open.
    pub(super) editor: Option<Editor>,
    /// The position at which the last checks of the run were made.
    pub(super) checked_at: Option<u64>,
    /// The position that it had when it was opened.
    pub(super) opened_at: u64,
}

impl Replica {
    /// Opens what the disk holds; `None` when that cannot be now.
    pub(super) fn open(host: &Arc<Host>, number: usize) -> Option<Self> {
        let name = format!("s{number}");
        let disk = host.disk(&name);
        let env = Arc::new(HostEnv::new(Arc::clone(host), host.rng("env")));
        // Everybody begins alone; at first contact the site that is there is adopted.
        let create = Some(SiteIds {
            site: SiteId::mint(&*env),
            volume: VolumeId::mint(&*env),
            page_size: PageSize::new(host.world.options.page_size).unwrap_or(PageSize::DEFAULT),
        });
        let mut device = [0; 16];
        device.iter_mut().zip(host.name.bytes()).for_each(|(to, from)| *to = from);
        Self::mend(host, &name, &disk, env.clone());
        if host.flush_failed() {
            // Only a restart of the machine shows what is on the disk.
            return None;
        }
        let options = SiteOptions {
            create,
            cache_pages: host.world.options.cache_pages,
            ..SiteOptions::new(&*name, DeviceId::from_bytes(device))
        };
        let site = match Site::open(&disk, env.clone(), options) {
            Ok(site) => site,
            Err(error) => {
                host.trace(format_args!("{name} does not open: {error}"));
                if !host.disk_failed() {
                    host.violated(recovery::opens(&format!("{} {name}", host.name), &error));
                }
                return None;
            }
        };
        let link = Link::new(host, number, &site, env);
        let replica = Self {
            opened_at: site.base().0.0,
            number,
            site,
            link,
            asked: None,
            eyes: None,
            readers: Vec::new(),
            editor: None,
            checked_at: None,
        };
        replica.reconcile(host);
        Some(replica)
    }

    /// Now and then somebody repairs the replica before it is opened, whether it needs that or not.
    fn mend(host: &Arc<Host>, name: &str, disk: &SimDisk, env: Arc<HostEnv>) {
        let is_there = disk.list().is_ok_and(|names| names.iter().any(|file| file == "main.db"));
        if host.world.options.faults.disk.rot == 0 || !is_there || !host.chance(500_000) {
            return;
        }
        match mend_replica(disk, env, &PageSet::new()) {
            _ if host.disk_failed() => {}
            Ok(mended) => {
                host.count("repaired");
                host.trace(format_args!("repairs {name}: {:?}", mended.forgotten));
            }
            // A replica whose first files were cut short begins anew.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                host.violated(recovery::opens(&format!("{} {name} (repair)", host.name), &error));
            }
        }
    }

    /// Compares a replica that was just opened with what it had when its process ended.
    fn reconcile(&self, host: &Host) {
        let status = self.site.status();
        let pending: Vec<u64> = status.pending.iter().map(|info| info.seq).collect();
        let (timeline, last) = (self.site.timeline(), self.site.last_seq());
        let who = format!("{} s{}", host.name, self.number);
        host.trace(format_args!(
            "s{} opens at @{}, {} pending, last {last}",
            self.number,
            status.base,
            pending.len()
        ));
        host.expect(recovery::is_prefix(&who, &pending));
        let in_flight = host.memory(|memory| memory.in_flight.remove(&self.number));
        let name = format!("s{}", self.number);
        let cut = host.world.with_machine(host.id, |machine| machine.power_cut.remove(&name));
        host.oracle(self.number, |oracle| {
            let ledger = &mut oracle.ledger;
            if let Some((of, seq, transaction)) = in_flight
                && of == timeline
                && seq == last
                && ledger.last(timeline) < last
            {
                host.count("a commit that was cut short is there");
                ledger.commit(timeline, seq, transaction);
            }
            if last > ledger.last(timeline) {
                let what = format!("{who} has mutation {last}, which it never committed");
                host.violated(durability::violated(what));
            }
            let lost = ledger.cut(timeline, last);
            if !lost.is_empty() {
                host.count("a power cut took unflushed commits");
                host.trace(format_args!("{} unflushed commits are lost", lost.len()));
            }
            host.expect(durability::may_lose(&who, &lost, cut.flatten() == Some(true)));
        });
        if host.world.options.workload.lock > 0 {
            self.read_answers(host);
        }
    }

    /// Whether the replica must be opened anew.
    pub(super) fn is_broken(&self) -> bool {
        self.site.status().poisoned
    }

    /// Makes one transaction, if there is anything to write to.
    pub(super) fn write(&mut self, host: &Host, rng: &mut Rng) {
        let Some(transaction) = self.think(host) else { return };
        let begun = self.begins(host, &transaction);
        let plain = transaction.call().is_none()
            && !matches!(*transaction.steps, [Step::Define(_) | Step::Forge(_)]);
        let full = plain && rng.chance(host.world.options.flushed);
        let done =
            if full { self.commit_flushed(&transaction) } else { self.commit(host, &transaction) };
        let timeline = begun.timeline;
        let Some(seq) = self.ends(host, begun, transaction, done) else { return };
        if full {
            host.oracle(self.number, |oracle| oracle.ledger.flushed(timeline, seq));
        } else if rng.chance(host.world.options.flushed) {
            self.flush(host);
        }
    }

    /// A transaction is about to be committed: whether it was shows when it returns, or when the
    /// replica is opened again.
    pub(super) fn begins(&self, host: &Host, transaction: &Transaction) -> Begun {
        let (timeline, expected) = (self.site.timeline(), self.site.last_seq() + 1);
        host.memory(|memory| {
            memory.in_flight.insert(self.number, (timeline, expected, transaction.clone()))
        });
        Begun { timeline, expected, base: self.site.base().0.0 }
    }

    /// It has returned; its number, if it has one.
    pub(super) fn ends(
        &mut self,
        host: &Host,
        begun: Begun,
        transaction: Transaction,
        done: Result<Option<u64>, Error>,
    ) -> Option<u64> {
        if host.is_dead() || self.is_broken() {
            // Whether it is there shows when the replica is opened again: also when a flush
            // failed, which closes the replica.
            return None;
        }
        host.memory(|memory| memory.in_flight.remove(&self.number));
        match done {
            Ok(Some(seq)) => {
                host.trace(format_args!("s{} commits {seq}: {:?}", self.number, transaction.steps));
                host.count("committed");
                count_steps(host, &transaction);
                let Begun { timeline, base, .. } = begun;
                host.oracle(self.number, |oracle| {
                    oracle.ledger.commit(timeline, seq, transaction);
                    oracle.ledger.made_on(timeline, seq, base);
                });
                self.link.note_commit();
                return Some(seq);
            }
            Ok(None) => host.count("committed nothing"),
            Err(error) => {
                host.trace(format_args!(
                    "s{} refuses {:?}: {error}",
                    self.number, transaction.steps
                ));
                host.count("refused at home");
                if self.site.last_seq() >= begun.expected {
                    let what = format!("{}: a failed commit left a mutation: {error}", host.name);
                    host.violated(durability::violated(what));
                }
                self.eyes = None;
            }
        }
        None
    }

    /// What to write next. The first device makes the tables, the others wait for them.
    fn think(&mut self, host: &Host) -> Option<Transaction> {
        let founded = host.memory(|memory| memory.founded.get(&self.number).copied()).unwrap_or(0);
        if host.id == 0 && founded <= MUTATORS.len() {
            // Again after a power cut that took it.
            let transaction = match (self.site.last_seq(), founded) {
                (0, _) => Transaction::founding(&host.world.options.workload),
                (seq, _) => {
                    let next = usize::try_from(seq).unwrap_or(1) - 1;
                    Transaction { steps: vec![Step::Define(next)] }
                }
            };
            let done = usize::try_from(self.site.last_seq()).unwrap_or(0) + 1;
            host.memory(|memory| memory.founded.insert(self.number, done));
            return match transaction.steps.as_slice() {
                [Step::Define(k)] if *k >= MUTATORS.len() => None,
                _ => Some(transaction),
            };
        }
        if self.eyes.is_none() {
            let open = || -> Result<Connection, Error> {
                let conn = self.site.connection(View::Local)?;
                conn.execute_batch("ATTACH sheaf_view('global') AS global")
                    .map_err(|error| sheaf_site::explain(&conn, error))?;
                Ok(conn)
            };
            self.eyes = open().ok();
        }
        let eyes = self.eyes.as_ref()?;
        // The mutators come after the tables: a device without them is not ready.
        let ready = "SELECT count(*) FROM global.sqlite_schema WHERE name = '__sheaf_mutators'";
        let ready: Result<i64, _> = eyes.query_row(ready, [], |row| row.get(0));
        if !matches!(ready, Ok(1..)) {
            self.eyes = None;
            return None;
        }
        let workload = &host.world.options.workload;
        let mut transaction = self.author(host, |author| author.next(workload, eyes));
        if transaction.replaces() {
            let (timeline, pending) = (self.site.timeline(), self.pending());
            let base = self.site.base().0.0;
            host.oracle(self.number, |oracle| {
                let seen = oracle.sees(base, &mut transaction);
                let waiting = pending.iter().filter_map(|seq| oracle.ledger.entry(timeline, *seq));
                waiting.for_each(|entry| transaction.comes_after(&entry.transaction));
                seen
            })??;
        }
        Some(transaction)
    }

    /// Lends who writes here.
    pub(super) fn author<T>(&self, host: &Host, f: impl FnOnce(&mut Author) -> T) -> T {
        let name = format!("{}.s{}", host.name, self.number);
        host.memory(|memory| {
            let author = memory.authors.entry(self.number).or_insert_with(|| {
                let seed = host.world.options.seed;
                Author::new(Rng::new(seed).fork(&format!("author {name}")), &name)
            });
            f(author)
        })
    }

    fn commit(&self, host: &Host, transaction: &Transaction) -> Result<Option<u64>, Error> {
        if let Some(bytes) = transaction.forged() {
            return self.forge(host, bytes).map(Some);
        }
        if let Some((name, args)) = transaction.call() {
            return self.site.mutate(name, &args).map(Some);
        }
        if let [Step::Define(k)] = transaction.steps.as_slice() {
            let before = self.site.last_seq();
            if let Some((name, script)) = MUTATORS.get(*k) {
                self.site.define_mutator(name, script)?;
            }
            let after = self.site.last_seq();
            return Ok((after > before).then_some(after));
        }
        let run = |tx: &rusqlite::Transaction<'_>| {
            transaction.run(tx, Runs::Author).map_err(|error| sheaf_site::explain(tx, error))
        };
        self.site.write(run).map(|((), seq)| seq)
    }

    /// Puts bytes on the timeline that the engine would never put there.
    fn forge(&self, host: &Host, bytes: Bytes) -> Result<u64, Error> {
        let volume = self.site.volume();
        let (seq, base) = (self.site.last_seq() + 1, self.site.base().0);
        let mutation = PendingMutation { seq, base, time_ms: u64::MAX, bytes };
        let draft = volume.draft(volume.writer());
        drop(draft.save(Some(mutation), Vec::new(), Durability::Normal)?);
        host.count("people: forged");
        Ok(seq)
    }

    /// As an application does that sets `PRAGMA synchronous = FULL`: a commit that returns has
    /// been flushed.
    fn commit_flushed(&self, transaction: &Transaction) -> Result<Option<u64>, Error> {
        let conn = self.site.connection(View::Local)?;
        let explain = |error| sheaf_site::explain(&conn, error);
        conn.pragma_update(None, "synchronous", "full").map_err(explain)?;
        let before = self.site.last_seq();
        conn.execute_batch("BEGIN IMMEDIATE").map_err(explain)?;
        transaction.run(&conn, Runs::Author).map_err(explain)?;
        conn.execute_batch("COMMIT").map_err(explain)?;
        let after = self.site.last_seq();
        Ok((after > before).then_some(after))
    }

    /// Flushes, and tells the ledger what that promises.
    pub(super) fn flush(&self, host: &Host) {
        let (timeline, last) = (self.site.timeline(), self.site.last_seq());
        match self.site.volume().flush() {
            Ok(()) if !host.is_dead() => {
                host.oracle(self.number, |oracle| oracle.ledger.flushed(timeline, last));
            }
            Ok(()) => {}
            Err(error) => host.trace(format_args!("s{} does not flush: {error}", self.number)),
        }
    }

    /// Exchanges with a bucket, or reminds the link to a node.
    pub(super) fn exchange(&mut self, host: &Arc<Host>) {
        // After the faults, whoever is told of news has to hear of them without asking.
        if !host.world.is_faulty() && self.asked.is_none() && self.link.is_online() {
            return;
        }
        if self.asked.is_none() {
            let base = self.site.base().0.0;
            self.asked = Some((self.site.timeline(), self.offered(self.site.last_seq()), base));
        }
        match self.link.exchange(host) {
            Ok(Exchanged::Yes) => self.ended(host, Ok(())),
            Ok(Exchanged::Later) => {}
            Err(error) => self.ended(host, Err(error)),
        }
    }

    /// How far an exchange goes: what asks its author stays here, with all that is behind it.
    fn offered(&self, last: u64) -> u64 {
        self.site.asking().map_or(last, |asking| last.min(asking.seq.saturating_sub(1)))
    }

    /// An author has answered: the exchange under way may have been without this one.
    pub(super) fn answered(&mut self, seq: u64) {
        // The client library hears of it as it hears of a commit: there is something to send.
        self.link.note_commit();
        if let Some((_, last, _)) = &mut self.asked {
            *last = (*last).min(seq.saturating_sub(1));
        }
    }

    fn ended(&mut self, host: &Host, outcome: Result<(), Error>) {
        let asked = self.asked.take();
        self.eyes = None;
        match outcome {
            _ if host.is_dead() => {}
            Ok(()) => {
                host.count("exchanged");
                if let Some((timeline, last, base)) = asked {
                    self.told(host, timeline, self.offered(last), base);
                }
            }
            Err(error) => self.failed(host, &error),
        }
    }

    /// The device was told that all of this is in the log.
    fn told(&self, host: &Host, timeline: TimelineId, last: u64, base: u64) {
        host.oracle(self.number, |oracle| {
            if base > 0 && base + 1 < oracle.boundary {
                host.count("exchanged over a reclaimed part of the log");
            }
            if last > 0 {
                host.expect(ambiguity::told(oracle, timeline, last));
            }
        });
    }

    fn failed(&self, host: &Host, error: &Error) {
        host.trace(format_args!("s{} does not exchange: {error}", self.number));
        host.count(match error.kind() {
            ErrorKind::Conflict => "exchange: others were faster",
            ErrorKind::Ambiguous => "exchange: ambiguous",
            ErrorKind::Unavailable => "exchange: unavailable",
            ErrorKind::Corrupt => "exchange: damage found",
            ErrorKind::NotFound => "exchange: not found",
            _ => "exchange: failed otherwise",
        });
    }

    /// When the link wants its turn.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.link.deadline()
    }

    /// Takes a packet that is this replica's; gives back one that is not.
    pub(super) fn take_packet(&mut self, packet: Packet) -> Option<Packet> {
        self.link.take(packet)
    }

    /// Lets the link do what is due.
    pub(super) fn step(&mut self, host: &Arc<Host>) {
        if let Some(outcome) = self.link.step(host) {
            self.ended(host, outcome);
        }
    }

    /// Whether nothing is left to do: everything sent, everything taken, everything checked.
    pub(super) fn rests(&mut self, host: &Arc<Host>, past: &mut Option<Rng>) -> bool {
        if host.world.is_faulty() {
            return false;
        }
        let pending = self.site.status().pending.len();
        let base = self.site.base().0.0;
        let head = host.oracle(self.number, |oracle| oracle.head()).unwrap_or(0);
        let timeline = self.site.timeline();
        let made = host.oracle(self.number, |oracle| oracle.ledger.made(timeline)).unwrap_or(0);
        let who = format!("{} s{}", host.name, self.number);
        host.expect(bounds::timeline(&who, pending, made));
        if pending > 0 || base < head {
            host.trace(format_args!("{who}: {pending} pending, @{base} of @{head}"));
            return false;
        }
        if self.checked_at != Some(base) && self.last_look(host, past) {
            self.checked_at = Some(base);
        }
        self.checked_at == Some(base)
    }
}

fn count_steps(host: &Host, transaction: &Transaction) {
    for step in &transaction.steps {
        match step {
            Step::Together { meant: Meant::Choose { .. }, .. } => {
                host.count("people: chose a value");
            }
            Step::Together { .. } => host.count("people: changed a document"),
            Step::Page { .. } => host.count("people: wrote a page"),
            Step::Place { .. } => host.count("people: put a row in its place"),
            Step::Lock(_) => host.count("people: took a lock"),
            _ => {}
        }
    }
}
