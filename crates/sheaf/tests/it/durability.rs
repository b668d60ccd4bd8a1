//! How durable a write is when it returns, what became of it, and giving up what is pending.

use sheaf::{Durability, Standing};

use super::*;

fn insert(site: &Site, durability: Durability, id: i64) -> sheaf::Written<()> {
    let sql = format!("INSERT INTO todo(id, what) VALUES ({id}, 'x')");
    let write = |tx: &rusqlite::Transaction<'_>| tx.execute_batch(&sql).map_err(sheaf::from_sqlite);
    site.write_with(durability, write).unwrap()
}

#[test]
fn a_remote_write_is_in_the_log_or_says_why_it_is_not_known() {
    let mut world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    for durability in [Durability::Memory, Durability::Normal, Durability::Local] {
        let id = 10 + i64::try_from(a.status().pending.len()).unwrap();
        let written = insert(&a, durability, id);
        assert_eq!(written.standing, Standing::Local, "{durability:?}");
    }
    let remote = Durability::Remote(TIMEOUT);
    let written = insert(&a, remote, 20);
    assert_eq!((written.standing, written.unknown.map(|e| e.kind())), (Standing::Confirmed, None));
    assert!(a.status().pending.is_empty(), "what came before it went with it");
    b.pull(TIMEOUT).unwrap();
    assert_eq!(rows(&b, View::Global).len(), 7);

    exec(&a, "CREATE UNIQUE INDEX one_of_each ON todo(what) WHERE what = 'once'");
    a.exchange(TIMEOUT).unwrap();
    exec(&a, "UPDATE todo SET what = 'once' WHERE id = 1");
    a.exchange(TIMEOUT).unwrap();
    let update = |tx: &rusqlite::Transaction<'_>| {
        let sql = "UPDATE todo SET what = 'once' WHERE id = 2";
        tx.execute_batch(sql).map_err(sheaf::from_sqlite)
    };
    let written = b.write_with(remote, update).unwrap();
    let Standing::Rejected(reason) = &written.standing else { panic!("{written:?}") };
    assert!(reason.contains("UNIQUE"), "{reason}");
    assert_eq!(b.engine().standing(written.seq.unwrap()), written.standing);

    world.stop_node();
    let written = insert(&a, Durability::Remote(Duration::from_millis(300)), 30);
    assert_eq!(written.standing, Standing::Local);
    assert_eq!(written.unknown.unwrap().kind(), ErrorKind::Unavailable);
    world.start_node();
    let (standing, unknown) = a.settle(written.seq.unwrap(), TIMEOUT);
    assert!(unknown.is_none() && standing == Standing::Confirmed, "{standing:?} {unknown:?}");
}

#[test]
fn a_reset_gives_up_what_is_pending_and_nothing_else() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    exec(&a, "UPDATE todo SET done = 1 WHERE id = 1");
    a.exchange(TIMEOUT).unwrap();
    exec(&a, "UPDATE todo SET what = 'mine' WHERE id = 2");
    let refused = a.reset(|| Err(sheaf::Error::invalid("the copy cannot be written")));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(a.status().unpushed(), 1, "not without the copy");
    let file = world.root.path().join("mine.db");
    assert_eq!(a.reset(|| a.export(View::Local, &file)).unwrap(), 1);
    assert_eq!(rows(&a, View::Local), ["1:milk:1", "2:bread:0", "3:eggs:0"]);
    let kept = rusqlite::Connection::open(&file).unwrap();
    let mine: String =
        kept.query_row("SELECT what FROM todo WHERE id = 2", [], |row| row.get(0)).unwrap();
    assert_eq!(mine, "mine");
    assert_eq!(a.reset(|| panic!("nothing to keep")).unwrap(), 0);

    // Life goes on, on a new timeline.
    exec(&a, "UPDATE todo SET what = 'bread!' WHERE id = 2");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    assert_eq!(rows(&b, View::Local), ["1:milk:1", "2:bread!:0", "3:eggs:0"]);
    let status = a.status();
    assert_eq!((status.acknowledged, status.remote), (1, status.base));
}
