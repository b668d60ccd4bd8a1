//! A mutation that fails for a while in a prediction and is accepted in the end: neither it nor
//! what its author did on top of it loses anything of what was meant.

use crate::support::{Device, Rng, World, assert_converged, is_long};

const SCHEMA: &str = "CREATE TABLE list(id INTEGER PRIMARY KEY);
    CREATE TABLE note(id INTEGER PRIMARY KEY, body MERGE_TEXT, title TEXT, votes COUNTER_INT,
        slug TEXT UNIQUE, list INTEGER REFERENCES list(id));
    INSERT INTO list VALUES (1), (2);
    INSERT INTO note VALUES (1, 'one two three', 'a', 10, 'x', 1)";

const ROW: &str = "SELECT body, title, votes, slug, list FROM note";

/// What stands in the way for a while, and how it goes again.
const UNIQUE: [&str; 2] =
    ["INSERT INTO note VALUES (7, 'seven', 's', 0, 'taken', 1)", "DELETE FROM note WHERE id = 7"];
const FOREIGN: [&str; 2] = ["DELETE FROM list WHERE id = 2", "INSERT INTO list VALUES (2)"];

/// A works offline; B is in its way, and then no longer. What A shows in the end, after it has
/// seen both one by one.
fn through(way: [&str; 2], works: &[&str]) -> [Device; 2] {
    let devices = World::new().devices(SCHEMA);
    let [a, b] = &devices;
    works.iter().for_each(|sql| a.sql(sql));
    // One that changes nothing is none.
    let waiting = a.site.volume().held().len();
    b.sql(way[0]);
    b.exchange();
    let seen = a.pull();
    assert!(seen.unpredicted >= 1, "{seen:?}");
    b.sql(way[1]);
    b.exchange();
    let done = a.exchange();
    assert_eq!((done.pushed, done.rejected.len()), (waiting, 0), "{done:?}");
    b.exchange();
    assert_converged(&[a, b]);
    devices
}

#[test]
fn a_word_deleted_on_top_of_a_change_that_failed_stays_deleted() {
    for (way, set) in [(UNIQUE, "slug = 'taken'"), (FOREIGN, "list = 2")] {
        let first = format!(
            "UPDATE note SET body = 'one extra two', title = 'm', votes = votes + 5, {set}"
        );
        // All of it looks as if it had been done, where the first did not happen.
        let second = "UPDATE note SET body = 'one two three', title = 'a', votes = votes - 5";
        let [a, _] = through(way, &[&first, second]);
        let expected = match way {
            UNIQUE => "one two three|a|10|taken|1",
            _ => "one two three|a|10|x|2",
        };
        assert_eq!(a.local(ROW), expected);
        // A word that took the place of another.
        let second = "UPDATE note SET body = 'one other two'";
        let [a, _] = through(way, &[&first, second]);
        assert_eq!(a.local("SELECT body, title FROM note"), "one other two|m");
    }
}

#[test]
fn others_words_stay_when_a_failed_change_comes_through() {
    let first = "UPDATE note SET body = 'one two', slug = 'taken'";
    let second = "UPDATE note SET body = 'two', title = 'z'";
    let way = [
        "UPDATE note SET body = 'one two three four';
         INSERT INTO note VALUES (7, 'seven', 's', 0, 'taken', 1)",
        UNIQUE[1],
    ];
    let [a, _] = through(way, &[first, second]);
    assert_eq!(a.local(ROW), "two four|z|10|taken|1");
}

/// Of what a prediction merges that misses a change of one's own, nothing is left to look at.
#[test]
fn nobody_gave_way_where_a_failed_change_comes_through() {
    for way in [UNIQUE, FOREIGN] {
        let set = if way == UNIQUE { "slug = 'taken'" } else { "list = 2" };
        let first = format!("UPDATE note SET title = 'm', {set}");
        let [a, _] = through(way, &[&first, "UPDATE note SET title = 'z'"]);
        assert_eq!(a.local("SELECT title FROM note"), "z");
        assert_eq!(a.site.conflicts().unwrap(), []);
    }
    // Who did give way is listed still.
    let way = [&*format!("UPDATE note SET title = 'of b'; {}", UNIQUE[0]), UNIQUE[1]];
    let works = ["UPDATE note SET slug = 'taken'", "UPDATE note SET title = 'z'"];
    let [a, _] = through(way, &works);
    let [conflict] = &a.site.conflicts().unwrap()[..] else { panic!("one") };
    assert_eq!(conflict.theirs, Some("of b".into()));
    assert_eq!((conflict.kind.name(), conflict.is_decided), ("overridden", true));
}

/// What is kept as it was comes out elsewhere in each redo, so what is done on top of that is kept
/// as it was too, also where it puts a value beside others.
#[test]
fn a_word_deleted_on_top_of_a_change_on_top_of_one_that_failed_stays_deleted() {
    let devices: [Device; 2] = World::new().devices(
        "CREATE TABLE note(id INTEGER PRIMARY KEY, body MERGE_TEXT, slug TEXT UNIQUE, pick MVR_TEXT);
         INSERT INTO note VALUES (1, 'once a time', 'x', 'one'), (2, 'more', 'y', 'two')",
    );
    let [a, b] = &devices;
    a.sql("UPDATE note SET slug = 'taken', body = 'more and' WHERE id = 2");
    a.sql(
        "BEGIN; UPDATE note SET body = 'more and more' WHERE id = 2;
         UPDATE note SET body = 'once upon a time' WHERE id = 1; COMMIT",
    );
    a.sql("UPDATE note SET body = 'once a time', pick = 'of a' WHERE id = 1");
    let others = [
        "INSERT INTO note VALUES (7, '', 'taken', NULL);
         UPDATE note SET body = 'once such a time', pick = 'of b' WHERE id = 1",
        "UPDATE note SET body = 'such a time' WHERE id = 1",
        "DELETE FROM note WHERE id = 7",
    ];
    for sql in others {
        b.sql(sql);
        b.exchange();
        a.pull();
    }
    a.exchange();
    b.exchange();
    assert_converged(&[a, b]);
    let see = "SELECT body, sheaf_siblings('note', 'pick', id) FROM note";
    assert_eq!(a.local(see), r#"such a time|["of b","of a"];more and more|["two"]"#);
}

/// What fails for a while and what is done on top come out as if nothing had been in the way,
/// whatever they are.
#[test]
fn what_was_in_the_way_for_a_while_leaves_no_trace() {
    let words = ["one", "two", "three", "four", "five", "six"];
    for seed in 0..if is_long() { 200 } else { 10 } {
        let mut rng = Rng::new(seed);
        let mut works: Vec<String> = Vec::new();
        for at in 0..2 + rng.below(4) {
            let body: Vec<&str> = words.iter().filter(|_| rng.chance(50)).copied().collect();
            let title = rng.pick(&["a", "b", "c"]);
            let way = if at == 0 { ", slug = 'taken'" } else { "" };
            works.push(format!(
                "UPDATE note SET body = '{}', title = '{title}', votes = {}{way}",
                body.join(" "),
                rng.below(20)
            ));
        }
        let works: Vec<&str> = works.iter().map(String::as_str).collect();
        let [a, _] = through(UNIQUE, &works);
        let plain = World::new().device();
        plain.sql(SCHEMA);
        works.iter().for_each(|sql| plain.sql(sql));
        assert_eq!(a.local(ROW), plain.local(ROW), "seed {seed}: {works:?}");
    }
}
