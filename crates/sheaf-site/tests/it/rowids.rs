//! Integers that mean rows, written while it is not known which number the log gives to a row.

use sheaf_site::Batch;
use sheaf_volume::Verdict;

use crate::support::{Device, World, exchange_all};

const SHOW: &str = "SELECT c.what, p.name FROM c LEFT JOIN p ON p.id = c.p ORDER BY c.what";

/// A, B and C, who agree on two empty tables, and the node that orders for A.
struct Apart {
    world: World,
    a: Device,
    b: Device,
    c: Device,
    node: Device,
}

impl Apart {
    fn new() -> Self {
        let world = World::new();
        let [a, b, c, node] = world.devices(
            "CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT);
             CREATE TABLE c(what TEXT PRIMARY KEY NOT NULL, p INTEGER REFERENCES p(id))",
        );
        Self { world, a, b, c, node }
    }

    /// What A would send now, after this number.
    fn outbox(&self, after: u64) -> Batch {
        self.a.site.outbox(after, usize::MAX).unwrap().unwrap()
    }

    /// The node orders a batch that reaches it.
    fn arrives(&self, batch: Batch) {
        let led = self.node.site.lead(&[batch], &*self.node.log, 4).unwrap();
        for answer in led.answers {
            let sheaf_site::Answer::Verdicts { verdicts, .. } = answer else {
                panic!("{answer:?}")
            };
            for (verdict, reason) in verdicts {
                assert_ne!(verdict, Verdict::Rejected, "{reason}");
            }
        }
    }

    /// A learns what is in the log, and says nothing.
    fn learns(&self) {
        self.a.pull();
    }

    fn ends_with(&self, children: &str, parents: &str) {
        exchange_all(&[&self.a, &self.b, &self.c, &self.node]);
        assert_eq!(self.a.local(SHOW), children);
        assert_eq!(self.a.local("SELECT name FROM p ORDER BY name"), parents);
    }
}

#[test]
fn a_number_written_while_a_push_is_under_way_means_the_row_that_was_seen() {
    for is_reopened in [false, true] {
        let mut apart = Apart::new();
        apart.a.sql("INSERT INTO p(name) VALUES ('of a')");
        let sent = apart.outbox(0);
        apart.b.sql("INSERT INTO p(name) VALUES ('of b')");
        apart.b.exchange();
        apart.learns();
        assert_eq!(apart.a.local("SELECT * FROM p"), "1|of b;2|of a");
        apart.c.sql("INSERT INTO p(name) VALUES ('of c')");
        apart.c.exchange();
        if is_reopened {
            let Device { site, dir, .. } = apart.a;
            drop(site);
            apart.a = apart.world.open(dir, 1);
        }
        apart.a.sql("INSERT INTO c VALUES ('of b', 1), ('of a', 2)");
        apart.a.sql("UPDATE p SET name = 'B' WHERE id = 1; UPDATE p SET name = 'A' WHERE id = 2");
        // The first push comes through only now, as it was sent, and the row becomes number 3.
        apart.arrives(sent);
        apart.arrives(apart.outbox(1));
        apart.ends_with("of a|A;of b|B", "A;B;of c");
    }
}

#[test]
fn a_guess_that_was_wrong_is_mended_before_it_is_sent() {
    let apart = Apart::new();
    apart.a.sql("INSERT INTO p(name) VALUES ('of a')");
    let sent = apart.outbox(0);
    apart.b.sql("INSERT INTO p(name) VALUES ('of b')");
    apart.b.exchange();
    apart.learns();
    apart.a.sql("INSERT INTO c VALUES ('of b', 1), ('of a', 2)");
    apart.c.exchange();
    apart.c.sql("INSERT INTO p(name) VALUES ('of c')");
    apart.c.exchange();
    apart.learns();
    assert_eq!(apart.a.local(SHOW), "of a|of a;of b|of b");
    apart.a.sql("INSERT INTO c VALUES ('also of b', 1), ('also of a', 3), ('of c', 2)");
    apart.arrives(sent);
    apart.learns();
    let children = "also of a|of a;also of b|of b;of a|of a;of b|of b;of c|of c";
    assert_eq!(apart.a.local(SHOW), children);
    apart.ends_with(children, "of a;of b;of c");
}

#[test]
fn a_row_that_does_not_fit_here_may_get_another_number_there() {
    let apart = Apart::new();
    apart.a.sql("CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE)");
    for device in [&apart.a, &apart.b, &apart.c, &apart.node] {
        device.exchange();
    }
    apart
        .a
        .sql("BEGIN; INSERT INTO p(name) VALUES ('of a'); INSERT INTO u VALUES ('a', 'x'); COMMIT");
    let sent = apart.outbox(0);
    apart.b.sql("INSERT INTO p(name) VALUES ('of b'); INSERT INTO u VALUES ('b', 'x')");
    apart.b.exchange();
    apart.learns();
    // A's own row is not shown: the name is taken.
    assert_eq!(apart.a.local("SELECT * FROM p"), "1|of b");
    apart.a.sql("INSERT INTO c VALUES ('of b', 1)");
    apart.b.sql("DELETE FROM u");
    apart.b.exchange();
    apart.arrives(sent);
    apart.arrives(apart.outbox(3));
    apart.ends_with("of b|of b", "of a;of b");
}

#[test]
fn a_number_that_its_author_used_twice_means_the_second_row() {
    let apart = Apart::new();
    apart.a.sql("INSERT INTO p(name) VALUES ('first')");
    let sent = apart.outbox(0);
    apart.a.sql("DELETE FROM p");
    apart.a.sql("INSERT INTO p(name) VALUES ('second')");
    apart.a.sql("INSERT INTO c VALUES ('of second', 1)");
    let rest = apart.outbox(1);
    apart.b.sql("INSERT INTO p(name) VALUES ('of b')");
    apart.b.exchange();
    apart.arrives(sent);
    apart.b.sql("DELETE FROM p WHERE name = 'of b'");
    apart.b.exchange();
    apart.arrives(rest);
    apart.ends_with("of second|second", "second");
}

#[test]
fn what_refers_to_a_refused_row_is_refused_too() {
    let apart = Apart::new();
    apart.a.sql("CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE)");
    for device in [&apart.a, &apart.b, &apart.c, &apart.node] {
        device.exchange();
    }
    apart
        .a
        .sql("BEGIN; INSERT INTO p(name) VALUES ('of a'); INSERT INTO u VALUES ('a', 'x'); COMMIT");
    apart.a.sql("INSERT INTO c VALUES ('of a', 1); UPDATE p SET name = 'A' WHERE id = 1");
    apart.b.sql("INSERT INTO p(name) VALUES ('of b'); INSERT INTO u VALUES ('b', 'x')");
    apart.b.exchange();
    // Redone or as it was made, in one batch or in two: B's row is nobody's but B's.
    let sent = apart.outbox(0);
    apart.learns();
    assert_eq!(apart.a.local(SHOW), "");
    assert_eq!(apart.a.local("SELECT * FROM p"), "1|of b");
    let Batch { mutations, .. } = &sent;
    let first = Batch { mutations: mutations[..1].to_vec(), ..sent.clone() };
    for batch in [first, sent] {
        apart.node.site.lead(&[batch], &*apart.node.log, 4).unwrap();
    }
    apart.ends_with("", "of b");
}

#[test]
fn an_earlier_guess_means_the_same_row_when_a_later_one_is_granted() {
    let apart = Apart::new();
    apart.a.sql("CREATE TABLE u(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE)");
    for device in [&apart.a, &apart.b, &apart.c, &apart.node] {
        device.exchange();
    }
    apart.a.sql("INSERT INTO p(name) VALUES ('of a')");
    apart.b.sql("INSERT INTO p(name) VALUES ('of b')");
    apart.b.exchange();
    apart.learns();
    // Under the first guess, and together with what will not fit for a while.
    apart.a.sql("BEGIN; INSERT INTO c VALUES ('of a', 2); INSERT INTO u VALUES ('a', 'x'); COMMIT");
    apart.c.exchange();
    apart.c.sql("INSERT INTO p(name) VALUES ('of c'); INSERT INTO u VALUES ('c', 'x')");
    apart.c.exchange();
    apart.learns();
    assert_eq!(apart.a.local("SELECT * FROM p"), "1|of b;2|of c;3|of a");
    assert_eq!(apart.a.local(SHOW), "");
    // The second guess is granted, in a batch of its own, and the name is given up meanwhile.
    let mut all = apart.outbox(0);
    let rest = all.mutations.split_off(1 + all.mutations.len() - 2);
    apart.arrives(all);
    apart.c.exchange();
    apart.c.sql("DELETE FROM u");
    apart.c.exchange();
    let first_seq = rest[0].seq;
    let decided = apart.outbox(first_seq - 1);
    assert_eq!(decided.mutations, rest);
    apart.arrives(decided);
    apart.ends_with("of a|of a", "of a;of b;of c");
}
