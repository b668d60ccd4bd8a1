//! When to look at which bucket: the plan of the one task that serves all sites.
//!
//! Invariant: pure, on a clock that is told. A site is looked at only while it is online and
//! nobody else looks at it; one with a local commit goes before those that are merely due, and of
//! these the one that is due longest, so that no site waits for ever behind busy ones.

use std::{collections::BTreeMap, time::Duration};

/// Names a site in a [`Schedule`].
pub(super) type Seat = u64;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look at this one, then say [`Schedule::done`].
    Look(Seat),
    /// Nothing is due for so long, or until something changes.
    Wait(Option<Duration>),
}

/// All sites that a task looks at.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: BTreeMap<Seat, Entry>,
    seats: Seat,
}

#[derive(Debug, Default)]
struct Entry {
    online: bool,
    /// There is a local commit, or the site has just come online.
    dirty: bool,
    /// Somebody looks at it.
    busy: bool,
    /// When to look again, in milliseconds.
    due: u64,
}

impl Schedule {
    /// Takes in a site, which is not online yet.
    pub(super) fn enter(&mut self) -> Seat {
        self.seats += 1;
        self.entries.insert(self.seats, Entry::default());
        self.seats
    }

    /// Forgets a site. Whoever looks at it finishes.
    pub(super) fn leave(&mut self, seat: Seat) {
        self.entries.remove(&seat);
    }

    /// Whether somebody looks at a site.
    pub(super) fn is_busy(&self, seat: Seat) -> bool {
        self.entries.get(&seat).is_some_and(|entry| entry.busy)
    }

    /// Coming online looks at once.
    pub(super) fn set_online(&mut self, seat: Seat, online: bool) {
        if let Some(entry) = self.entries.get_mut(&seat) {
            entry.dirty |= online && !entry.online;
            entry.online = online;
        }
    }

    /// Whether a site is to be kept exchanged.
    pub(super) fn is_online(&self, seat: Seat) -> bool {
        self.entries.get(&seat).is_some_and(|entry| entry.online)
    }

    /// A site has something to push; true if that is to be looked at.
    pub(super) fn note_commit(&mut self, seat: Seat) -> bool {
        let Some(entry) = self.entries.get_mut(&seat) else { return false };
        entry.dirty = true;
        entry.online
    }

    /// What to do at this moment.
    pub(super) fn next(&mut self, now: u64) -> Next {
        let waiting = self.entries.iter_mut().filter(|(_, entry)| entry.online && !entry.busy);
        let Some((seat, entry)) = waiting.min_by_key(|(_, entry)| (!entry.dirty, entry.due)) else {
            return Next::Wait(None);
        };
        if !entry.dirty && entry.due > now {
            return Next::Wait(Some(Duration::from_millis(entry.due - now)));
        }
        (entry.busy, entry.dirty) = (true, false);
        Next::Look(*seat)
    }

    /// A site was looked at: again after `pause`.
    pub(super) fn done(&mut self, seat: Seat, now: u64, pause: Duration) {
        if let Some(entry) = self.entries.get_mut(&seat) {
            entry.busy = false;
            entry.due = now.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_site_is_looked_at_when_it_is_due_and_a_commit_goes_first() {
        let mut plan = Schedule::default();
        let [a, b, c] = [(); 3].map(|()| plan.enter());
        assert_eq!(plan.next(0), Next::Wait(None), "nobody is online");
        plan.set_online(a, true);
        plan.set_online(b, true);
        assert_eq!(plan.next(0), Next::Look(a));
        assert!(plan.is_busy(a) && !plan.is_busy(b));
        assert_eq!(plan.next(0), Next::Look(b), "another may be looked at meanwhile");
        assert_eq!(plan.next(0), Next::Wait(None));
        plan.done(a, 10, ms(500));
        plan.done(b, 20, ms(300));
        assert_eq!(plan.next(20), Next::Wait(Some(ms(300))));
        assert_eq!(plan.next(600), Next::Look(b), "due longest");
        assert_eq!(plan.next(600), Next::Look(a));
        plan.done(a, 600, ms(500));
        // A commit while it is being looked at is looked at again, at once.
        assert!(plan.note_commit(b));
        plan.done(b, 600, ms(30_000));
        assert_eq!(plan.next(5_000), Next::Look(b), "before one that is due");
        plan.done(b, 5_000, ms(30_000));
        assert_eq!(plan.next(5_000), Next::Look(a));
        plan.done(a, 5_000, ms(500));
        assert!(!plan.note_commit(c), "offline: later");
        plan.set_online(a, false);
        assert_eq!(plan.next(6_000), Next::Wait(Some(ms(29_000))));
        plan.set_online(c, true);
        assert_eq!(plan.next(6_000), Next::Look(c));
        plan.leave(c);
        plan.done(c, 6_000, ms(1));
        plan.leave(b);
        assert_eq!(plan.next(60_000), Next::Wait(None));
    }

    #[test]
    fn busy_sites_do_not_keep_the_others_from_their_turn() {
        let mut plan = Schedule::default();
        let seats: Vec<Seat> = (0..20).map(|_| plan.enter()).collect();
        seats.iter().for_each(|seat| plan.set_online(*seat, true));
        let mut looks = BTreeMap::new();
        let mut now = 0;
        for _ in 0..2_000 {
            match plan.next(now) {
                Next::Look(seat) => {
                    *looks.entry(seat).or_insert(0) += 1;
                    now += 10;
                    plan.done(seat, now, ms(500));
                }
                Next::Wait(pause) => {
                    now += pause.map_or(1, |pause| u64::try_from(pause.as_millis()).unwrap())
                }
            }
        }
        let counts: Vec<i32> = looks.into_values().collect();
        assert_eq!(counts.len(), 20);
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }
}
