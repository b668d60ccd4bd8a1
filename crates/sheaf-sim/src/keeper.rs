//! A keeper: somebody who reclaims what is old, and makes branches and looks after them.
//!
//! Invariant: every pass and every branch is the production engine's own, through a bucket with
//! faults, by a process that dies like any other; after each pass the oracle reads what must be
//! left. Leaves out the node's own reclaimer, which calls the same passes from a thread.

use std::{collections::BTreeMap, sync::Arc};

use sheaf::driver::Ask;
use sheaf_site::{Error, ErrorKind, View};
use sheaf_volume::{
    At, BucketRemote, Env as _, GcReport, Lsn, Objects, PageSize, Retention, SiteId, SiteRecord,
    VolumeId, create_branch, find_site,
};

use crate::{
    bucket::Reach,
    check::gc,
    env::HostEnv,
    oracle::{
        SiteOracle,
        kept::{Branch, newcomer},
        model::says,
    },
    rng::Rng,
    workload::{Runs, Step, Transaction},
    world::Host,
};

/// Branches of one site, at most.
const BRANCHES_MAX: usize = 4;
/// A branch that may be in more states than these is not written to.
const STATES_MAX: usize = 4;

/// Lives until it dies.
pub(crate) fn run(host: &Arc<Host>) {
    let env = Arc::new(HostEnv::new(Arc::clone(host), host.rng("env")));
    let sites = host.world.options.sites;
    let reaches = (0..sites).map(|site| Arc::new(Reach::of(host, site)) as Arc<dyn Objects>);
    let mut keeper = Keeper {
        host,
        env,
        rng: host.rng("keeper"),
        reaches: reaches.collect(),
        logs: BTreeMap::new(),
        at_rest: vec![false; sites],
    };
    keeper.live();
}

struct Keeper<'a> {
    host: &'a Arc<Host>,
    env: Arc<HostEnv>,
    rng: Rng,
    /// The bucket of each site.
    reaches: Vec<Arc<dyn Objects>>,
    /// Logs that were reclaimed before, as a node keeps them open.
    logs: BTreeMap<String, BucketRemote>,
    /// Sites of which a pass has ended well since the faults ended.
    at_rest: Vec<bool>,
}

impl Keeper<'_> {
    fn live(&mut self) {
        let keeping = self.host.world.options.keeping.clone();
        while !self.host.is_dead() {
            let pause = self.rng.between(1, 2 * keeping.pause_ms.max(1));
            self.host.sleep(pause);
            // Questions that nobody waited for may have brought something.
            while self.host.take_packet().is_some() {}
            let site = self.rng.index(self.host.world.options.sites);
            let is_quiet = !self.host.world.is_faulty();
            if !is_quiet && self.rng.chance(keeping.branches) {
                self.branch_or_visit(site);
            } else {
                let is_done = self.reclaim(site);
                if let Some(at_rest) = self.at_rest.get_mut(site) {
                    *at_rest |= is_quiet && is_done;
                }
            }
            self.host.rest(self.at_rest.iter().all(|rests| *rests));
        }
    }

    /// Says what failed; damage that no fault explains is a finding.
    fn failed(&self, what: &str, was_faulty: bool, error: &Error) {
        self.host.trace(format_args!("does not {what}: {error}"));
        self.host.count(match error.kind() {
            ErrorKind::Conflict => "keeper: others were faster",
            ErrorKind::Expired => "keeper: too late",
            ErrorKind::Unavailable | ErrorKind::Ambiguous => "keeper: store did not answer",
            ErrorKind::Corrupt => "keeper: damage found",
            _ => "keeper: failed otherwise",
        });
        if !was_faulty && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Internal) {
            self.host
                .violated(gc::violated(format!("{} does not {what}: {error}", self.host.name)));
        }
    }

    /// One pass over a site or one of its branches; whether it went well, or nothing is there.
    fn reclaim(&mut self, site: usize) -> bool {
        let was_faulty = self.host.world.is_faulty();
        let Some(objects) = self.reaches.get(site).cloned() else { return true };
        let name = self.whose_turn(site, was_faulty);
        let log = match self.log(&name, &objects) {
            Ok(Some(log)) => log,
            Ok(None) => return true,
            Err(error) => {
                self.failed(&format!("find {name}"), was_faulty, &error);
                return false;
            }
        };
        let keeping = &self.host.world.options.keeping;
        let retention = Retention {
            keep_for_ms: keeping.for_ms,
            keep_commits: keeping.commits,
            exact: self.rng.chance(keeping.exact),
        };
        let done = log.gc(&*self.env, &retention, false, &mut |_| Ok(()));
        self.logs.insert(name.clone(), log);
        if self.host.is_dead() {
            return false;
        }
        let options = self.host.world.options.clone();
        let mut rng = self.rng.fork("kept");
        self.host.oracle(site, |oracle| self.host.expect(oracle.keeps(&options, &mut rng)));
        match done {
            Ok(report) => self.reclaimed(&name, &report),
            Err(error) => {
                self.failed(&format!("reclaim {name}"), was_faulty, &error);
                return false;
            }
        }
        true
    }

    /// A site, or while there are faults now and then one of its branches.
    fn whose_turn(&mut self, site: usize, may_be_branch: bool) -> String {
        let names = |oracle: &mut SiteOracle| {
            oracle.branches.iter().map(|branch| branch.name.clone()).collect()
        };
        let branches: Vec<String> = self.host.oracle(site, names).unwrap_or_default();
        let branch = may_be_branch && self.rng.chance(200_000);
        let branch = branch.then(|| self.rng.pick(&branches).cloned()).flatten();
        branch.unwrap_or_else(|| format!("s{site}"))
    }

    fn reclaimed(&self, name: &str, report: &GcReport) {
        let GcReport { boundary_before, boundary, head, doomed, .. } = report;
        let objects = doomed.len();
        self.host.trace(format_args!(
            "reclaims {name}: @{boundary_before} to @{boundary} of @{head}, {objects} objects"
        ));
        self.host.count("keeper: passes");
        if objects > 0 {
            self.host.count("keeper: reclaimed");
        }
    }

    /// The log of a site: mostly as it is known from earlier, else as if for the first time.
    fn log(
        &mut self,
        name: &str,
        objects: &Arc<dyn Objects>,
    ) -> sheaf_site::Result<Option<BucketRemote>> {
        if let Some(log) = self.logs.remove(name)
            && self.rng.chance(700_000)
        {
            return Ok(Some(log));
        }
        let record = find_site(&**objects, name)?;
        Ok(record.map(|found| {
            let log = BucketRemote::new(Arc::clone(objects), found.lineage, found.page_size);
            log.with_leads(sheaf_site::leads)
        }))
    }

    fn branch_or_visit(&mut self, site: usize) {
        let there = self.host.oracle(site, |oracle| oracle.branches.clone()).unwrap_or_default();
        let mine: Vec<_> = there.iter().filter(|branch| branch.keeper == self.host.id).collect();
        match self.rng.pick(&mine).copied() {
            None if there.len() >= BRANCHES_MAX => {}
            Some(branch) if there.len() >= BRANCHES_MAX || self.rng.chance(600_000) => {
                self.visit(site, branch);
            }
            _ => self.branch(site),
        }
    }

    /// Makes a branch of a site, at a position that may be gone by then.
    fn branch(&mut self, site: usize) {
        let Some(objects) = self.reaches.get(site).cloned() else { return };
        let Some(head) = self.host.oracle(site, |oracle| oracle.head()).filter(|head| *head > 0)
        else {
            return;
        };
        let lsn = head.saturating_sub(self.rng.below(6)).max(1);
        let name = format!("b{}", self.host.number());
        let ids = SiteRecord {
            site: SiteId::mint(&*self.env),
            lineage: VolumeId::mint(&*self.env).into(),
            page_size: PageSize::DEFAULT,
            created_ms: self.env.now_ms(),
        };
        let at = At::Lsn(Lsn(lsn));
        let made = create_branch(&objects, &format!("s{site}"), at, &name, &ids);
        match made {
            _ if self.host.is_dead() => {}
            Ok(_) => {
                self.host.count("keeper: branches");
                self.host.trace(format_args!("branches s{site} at @{lsn} as {name}"));
                self.host.oracle(site, |oracle| {
                    let image = oracle.position(lsn).map(|position| position.image.clone());
                    oracle
                        .branches
                        .extend(image.map(|image| Branch::new(name, self.host.id, lsn, image)));
                });
            }
            Err(error) => self.failed("branch", true, &error),
        }
    }

    /// Opens a branch as somebody who comes anew, reads it, and sometimes writes to it.
    fn visit(&mut self, site: usize, branch: &Branch) {
        let Some(objects) = self.reaches.get(site).cloned() else { return };
        let size = PageSize::new(self.host.world.options.page_size).unwrap_or(PageSize::DEFAULT);
        let arrived = newcomer(&branch.name, size, objects, self.env.clone());
        let seen = arrived.and_then(|(site, driver)| {
            let seen = says(&site, View::Global)?;
            Ok((site, driver, seen))
        });
        let (replica, mut driver, seen) = match seen {
            _ if self.host.is_dead() => return,
            Ok(seen) => seen,
            Err(error) => return self.failed(&format!("visit {}", branch.name), true, &error),
        };
        self.host.count("keeper: visits");
        let states = self.with_branch(site, &branch.name, |branch| {
            self.host.expect(branch.is(&seen));
            branch.may_be.len()
        });
        if states.is_none_or(|states| states > STATES_MAX) || !self.rng.chance(500_000) {
            return;
        }
        let id = format!("{}-{}", branch.name, self.host.number());
        let step = Step::Append { id, who: self.host.name.clone(), bytes: 20 };
        let transaction = Transaction { steps: vec![step] };
        let run = |tx: &rusqlite::Transaction<'_>| {
            transaction.run(tx, Runs::Author).map_err(|error| sheaf_site::explain(tx, error))
        };
        // A branch of the time before the tables were made takes none.
        let Ok(((), Some(_))) = replica.write(run) else { return };
        self.with_branch(site, &branch.name, |branch| branch.may_get(&transaction));
        let pushed = driver.exchange(Ask::EVERYTHING);
        match pushed.and_then(|_| says(&replica, View::Global)) {
            _ if self.host.is_dead() => {}
            Ok(seen) => {
                self.host.count("keeper: wrote to a branch");
                self.with_branch(site, &branch.name, |branch| {
                    self.host.expect(branch.is(&seen));
                    branch.settles(&seen);
                });
            }
            Err(error) => self.failed(&format!("write to {}", branch.name), true, &error),
        }
    }

    fn with_branch<T>(
        &self,
        site: usize,
        name: &str,
        f: impl FnOnce(&mut Branch) -> T,
    ) -> Option<T> {
        self.host.oracle(site, |oracle| {
            oracle.branches.iter_mut().find(|branch| branch.name == name).map(f)
        })?
    }
}
