//! Rows in an order that people change while they are apart: what one puts together stays together.

mod random;

use sheaf_site::{Body, Mutation, Op, history::MutationName};

use crate::support::{Device, World, assert_converged};

/// Tables whose rows are a list, how a row is named, and what a letter stands for as a name.
const SHAPES: [(&str, &str, &str); 5] = [
    ("CREATE TABLE item(id TEXT PRIMARY KEY, pos LIST_TEXT) WITHOUT ROWID", "id", "'@'"),
    ("CREATE TABLE item(id INTEGER PRIMARY KEY, pos LIST_TEXT UNIQUE)", "id", "unicode('@')"),
    (
        "CREATE TABLE item(a INT NOT NULL, pos TEXT, id TEXT NOT NULL, PRIMARY KEY(id, a)) STRICT;
         SELECT sheaf_merge_rule('item', 'pos', 'list')",
        "a, id",
        "7, '@'",
    ),
    ("CREATE TABLE item(pos LIST_TEXT, id TEXT UNIQUE); CREATE INDEX i ON item(pos)", "id", "'@'"),
    ("CREATE TABLE item(id TEXT PRIMARY KEY NOT NULL, pos LIST_BLOB)", "id", "'@'"),
];

/// What a row is called in a test.
const NAME: &str = "CASE typeof(id) WHEN 'integer' THEN char(id) ELSE id END";

struct Lists {
    _world: World,
    devices: Vec<Device>,
    shape: (&'static str, &'static str, &'static str),
}

impl Lists {
    /// Devices that share a list of these rows, in one of the shapes.
    fn new(count: usize, shape: usize, base: &str) -> Self {
        let world = World::new();
        let devices: Vec<Device> = (0..count).map(|_| world.device()).collect();
        let all = Self { _world: world, devices, shape: SHAPES[shape] };
        all.devices[0].sql(all.shape.0);
        let mut last = "^".to_owned();
        for name in base.chars() {
            all.put(0, &name.to_string(), &last);
            last = name.to_string();
        }
        all.agree();
        all
    }

    /// A place directly behind a row, `^` standing for none.
    fn behind(name: &str, after: &str) -> String {
        let after = match after {
            "^" => "NULL".to_owned(),
            after => format!("(SELECT pos FROM item WHERE {NAME} = '{after}')"),
        };
        format!(
            "sheaf_between({after}, (SELECT min(pos) FROM item
               WHERE ({after} IS NULL OR pos > {after}) AND {NAME} <> '{name}'))"
        )
    }

    fn insert(&self, name: &str, after: &str) -> String {
        let (columns, key) = (self.shape.1, self.shape.2.replace('@', name));
        format!("INSERT INTO item({columns}, pos) VALUES ({key}, {})", Self::behind(name, after))
    }

    fn put(&self, device: usize, name: &str, after: &str) {
        self.devices[device].sql(&self.insert(name, after));
    }

    fn moved(name: &str, after: &str) -> String {
        let place = Self::behind(name, after);
        format!("UPDATE item SET pos = {place} WHERE {NAME} = '{name}'")
    }

    fn shift(&self, device: usize, name: &str, after: &str) {
        self.devices[device].sql(&Self::moved(name, after));
    }

    fn delete(&self, device: usize, name: &str) {
        self.devices[device].sql(&format!("DELETE FROM item WHERE {NAME} = '{name}'"));
    }

    /// The devices in order learn what the log has, and tell it what they have.
    fn agree(&self) {
        for device in &self.devices {
            device.pull();
            let done = device.exchange();
            assert!(done.rejected.is_empty(), "{:?}", done.rejected);
        }
        for device in &self.devices {
            device.exchange();
        }
        assert_converged(&self.devices.iter().collect::<Vec<_>>());
        let ties = "SELECT count(*) FROM item GROUP BY pos HAVING count(*) > 1";
        assert_eq!(self.devices[0].local(ties), "", "two rows at one position");
    }

    fn order(&self, device: usize) -> String {
        let order =
            format!("SELECT group_concat({NAME}, '') FROM (SELECT id FROM item ORDER BY pos)");
        self.devices[device].local(&order)
    }

    fn shows(&self, expected: &str) {
        for device in 0..self.devices.len() {
            assert_eq!(self.order(device), expected, "{}", self.shape.0);
        }
    }
}

#[test]
fn runs_that_two_put_at_one_place_stay_whole() {
    for shape in 0..SHAPES.len() {
        let lists = Lists::new(2, shape, "azq");
        // One row after the other on A, all of them in one transaction on B, the names backwards.
        for (name, after) in [("1", "a"), ("2", "1"), ("3", "2")] {
            lists.put(0, name, after);
        }
        let run = [("9", "a"), ("8", "9"), ("7", "8")];
        let run: Vec<_> = run.iter().map(|(name, after)| lists.insert(name, after)).collect();
        lists.devices[1].sql(&format!("BEGIN; {}; COMMIT", run.join(";")));
        lists.agree();
        lists.shows("a987123zq");
        // And so they do at the end.
        lists.put(0, "x", "q");
        lists.put(0, "y", "x");
        lists.put(1, "X", "q");
        lists.put(1, "Y", "X");
        lists.agree();
        lists.shows("a987123zqXYxy");
    }
}

#[test]
fn three_devices_come_to_stand_one_before_the_other() {
    let lists = Lists::new(3, 0, "az");
    for (device, run) in ["12", "34", "56"].iter().enumerate() {
        lists.put(device, &run[..1], "a");
        lists.put(device, &run[1..], &run[..1]);
    }
    lists.agree();
    lists.shows("a563412z");
}

#[test]
fn the_vectors_of_the_specification() {
    // L03 and L07 have no form in SQL: the head is no row, and every place has a position.
    for (base, committed, local, result) in [
        ("abc", "-b", "bx", "axc"),
        ("ab", "-a", "-a", "b"),
        ("a", "ar rR", "al lL", "alLrR"),
        ("ab", "-a -b", "ax by", "xy"),
        ("a", "ax", "ax", "ax"),
        ("abc", "-a -b -c", "cn -b", "n"),
        ("", "^r", "^1 ^0", "01r"),
    ] {
        for is_one in [false, true] {
            for shape in 0..SHAPES.len() {
                // The same row twice is the same row only where it has a name of its own.
                if base == "a" && committed == "ax" && [1, 3].contains(&shape) {
                    continue;
                }
                let lists = Lists::new(2, shape, base);
                for (device, ops) in [committed, local].into_iter().enumerate() {
                    let sql = ops.split(' ').map(|op| match (op.get(..1), &op[1..]) {
                        (Some("-"), name) => format!("DELETE FROM item WHERE {NAME} = '{name}'"),
                        (after, name) => lists.insert(name, after.unwrap()),
                    });
                    let sql = sql.collect::<Vec<_>>().join(";");
                    let is_one = is_one && device == 1;
                    lists.devices[device].sql(&if is_one {
                        format!("BEGIN;{sql};COMMIT")
                    } else {
                        sql
                    });
                }
                lists.agree();
                lists.shows(result);
            }
        }
    }
}

#[test]
fn a_row_follows_the_one_it_was_put_behind() {
    for shape in 0..SHAPES.len() {
        let lists = Lists::new(2, shape, "abcd");
        lists.shift(0, "b", "d");
        lists.put(1, "x", "b");
        lists.put(1, "y", "x");
        lists.agree();
        lists.shows("acdbxy");
        // In front of what somebody else moved there before.
        lists.shift(0, "a", "d");
        lists.put(1, "z", "d");
        lists.agree();
        lists.shows("cdzabxy");
    }
}

#[test]
fn a_move_that_finds_its_row_in_place_is_still_meant() {
    for shape in 0..SHAPES.len() {
        let lists = Lists::new(3, shape, "abc");
        // Both move it to one position, and the second learns of that before somebody stands there.
        lists.shift(0, "c", "a");
        lists.shift(1, "c", "a");
        lists.devices[0].exchange();
        lists.devices[1].pull();
        lists.put(2, "x", "a");
        lists.devices[2].exchange();
        assert_eq!(lists.order(2), "axcb");
        lists.agree();
        lists.shows("acxb");
    }
}

#[test]
fn a_run_behind_a_move_that_finds_its_row_in_place_stays_whole() {
    for shape in 0..SHAPES.len() {
        let lists = Lists::new(2, shape, "abc");
        lists.put(0, "x", "a");
        lists.put(0, "y", "a");
        lists.shift(0, "c", "a");
        let run = [Lists::moved("c", "a"), lists.insert("d", "c")];
        lists.devices[1].sql(&format!("BEGIN; {}; COMMIT", run.join(";")));
        lists.devices[0].exchange();
        lists.devices[1].pull();
        assert_eq!(lists.order(1), "acdyxb");
        lists.put(0, "z", "b");
        lists.devices[0].exchange();
        lists.devices[1].pull();
        assert_eq!(lists.order(1), "acdyxbz");
        lists.agree();
        lists.shows("acdyxbz");
    }
}

#[test]
fn who_takes_back_a_move_that_found_its_row_in_place_moves_nothing() {
    let lists = Lists::new(2, 0, "abc");
    lists.shift(0, "c", "a");
    lists.shift(1, "c", "a");
    lists.devices[0].exchange();
    lists.devices[1].pull();
    let seq = lists.devices[1].site.last_seq();
    let undone = lists.devices[1].site.undo(&MutationName::Seq { timeline: None, seq }, false);
    assert!(undone.unwrap().seq.is_none());
    // Nor does who has moved it since, and takes back the first.
    lists.shift(1, "c", "b");
    let undone = lists.devices[1].site.undo(&MutationName::Seq { timeline: None, seq }, false);
    assert!(undone.unwrap().seq.is_none());
    lists.agree();
    lists.shows("abc");
}

#[test]
fn of_two_moves_the_later_counts_and_a_deleted_row_stays_so() {
    for shape in 0..SHAPES.len() {
        let lists = Lists::new(2, shape, "abcd");
        lists.shift(0, "a", "b");
        lists.shift(1, "a", "d");
        lists.agree();
        lists.shows("bcda");
        // Different rows to one place: left's before right's.
        lists.shift(0, "a", "b");
        lists.shift(1, "d", "b");
        lists.agree();
        lists.shows("bdac");
        lists.delete(0, "b");
        lists.shift(1, "b", "c");
        lists.agree();
        lists.shows("dac");
        lists.shift(0, "d", "c");
        lists.delete(1, "d");
        lists.agree();
        lists.shows("ac");
    }
}

#[test]
fn two_rows_that_change_places_in_one_transaction() {
    for shape in 0..SHAPES.len() {
        let lists = Lists::new(2, shape, "abcd");
        lists.put(0, "x", "b");
        let at =
            |name| lists.devices[1].local(&format!("SELECT pos FROM item WHERE {NAME} = '{name}'"));
        let set = |name, pos| format!("UPDATE item SET pos = '{pos}' WHERE {NAME} = '{name}'");
        let steps = [set("b", "zz".to_owned()), set("d", at("b")), set("b", at("d"))];
        lists.devices[1].sql(&format!("BEGIN; {}; COMMIT", steps.join(";")));
        lists.agree();
        lists.shows("adxcb");
    }
}

/// A device with a table of rows in lists.
fn boards(count: usize) -> (World, Vec<Device>) {
    let world = World::new();
    let devices: Vec<Device> = (0..count).map(|_| world.device()).collect();
    devices[0].sql(
        "CREATE TABLE card(id TEXT PRIMARY KEY NOT NULL, board TEXT, \"to do\" INT, pos LIST_TEXT);
         SELECT sheaf_merge_rule('card', 'pos', 'LIST(Board, \"TO DO\")')",
    );
    devices.iter().for_each(|device| drop(device.exchange()));
    (world, devices)
}

fn agree(devices: &[Device]) {
    for device in devices.iter().chain(devices) {
        assert!(device.exchange().rejected.is_empty());
    }
    assert_converged(&devices.iter().collect::<Vec<_>>());
}

#[test]
fn rows_of_different_parents_do_not_meet() {
    let (_world, devices) = boards(2);
    let card = |id: &str, board: &str, pos: &str| {
        format!("INSERT INTO card VALUES ('{id}', {board}, 1, '{pos}')")
    };
    devices[0].sql(&card("a", "'x'", "V"));
    devices[0].sql(&card("n", "NULL", "V"));
    devices[1].sql(&card("b", "'y'", "V"));
    agree(&devices);
    let all = "SELECT id, pos FROM card ORDER BY id";
    assert_eq!(devices[0].local(all), "a|V;b|V;n|V");
    // NULL is a parent like others.
    devices[1].sql(&card("m", "NULL", "W"));
    devices[0].sql(&card("o", "NULL", "W"));
    agree(&devices);
    assert_eq!(devices[0].local("SELECT id FROM card WHERE board IS NULL ORDER BY pos"), "n;m;o");
    assert_eq!(devices[0].local("SELECT id, pos FROM card WHERE board IS NOT NULL"), "a|V;b|V");
    // A row that changes its list meets what somebody put at its position there.
    devices[0].sql("UPDATE card SET board = 'y' WHERE id = 'a'");
    devices[1].sql("DELETE FROM card WHERE id = 'b'");
    devices[1].sql(&card("c", "'y'", "V"));
    agree(&devices);
    let y = "SELECT id FROM card WHERE board = 'y' ORDER BY pos";
    assert_eq!(devices[0].local(y), "c;a");
    assert_eq!(devices[0].local("SELECT count(DISTINCT pos) FROM card WHERE board = 'y'"), "2");
}

/// Two devices with these rows in lists by page; a name may be taken.
fn named(rows: &str) -> [Device; 2] {
    let world = World::new();
    let devices = [world.device(), world.device()];
    devices[0].sql(&format!(
        "CREATE TABLE item(id INTEGER PRIMARY KEY, page INT, pos TEXT, name TEXT UNIQUE);
         SELECT sheaf_merge_rule('item', 'pos', 'list(page)');
         INSERT INTO item VALUES {rows}"
    ));
    devices[0].exchange();
    devices[1].pull();
    devices
}

#[test]
fn a_row_given_to_a_list_in_front_of_one_that_was_refused_does_not_jump_to_the_end() {
    let devices = named("(5, 2, 'F', NULL), (9, 2, 'T', NULL), (3, 1, 'H', NULL)");
    devices[1].sql("INSERT INTO item VALUES (7, 2, 'K', 'taken')");
    devices[1].sql("UPDATE item SET page = 2 WHERE id = 3");
    devices[0].sql("INSERT INTO item VALUES (1, 3, 'V', 'taken')");
    devices[0].exchange();
    devices[1].pull();
    devices[0].sql("DELETE FROM item WHERE id = 5");
    devices[0].exchange();
    devices[1].pull();
    assert_eq!(devices[1].exchange().rejected.len(), 1);
    devices[0].pull();
    for device in &devices {
        assert_eq!(device.local("SELECT id FROM item WHERE page = 2 ORDER BY pos"), "3;9");
    }
}

#[test]
fn a_row_behind_one_that_is_refused_for_now_follows_it_when_it_comes_through() {
    for comes in [false, true] {
        let devices = named("(3, 1, 'T', NULL)");
        devices[1].sql("INSERT INTO item VALUES (7, 2, 'K', 'taken')");
        devices[1].sql("UPDATE item SET page = 2 WHERE id = 3");
        devices[0].sql("INSERT INTO item VALUES (1, 3, 'V', 'taken')");
        devices[0].sql("UPDATE item SET page = 2 WHERE id = 3");
        devices[0].sql("INSERT INTO item VALUES (9, 2, 'X', NULL)");
        devices[0].exchange();
        devices[1].pull();
        let order = "SELECT id FROM item WHERE page = 2 ORDER BY pos";
        let shown = devices[1].local(order);
        if comes {
            devices[0].sql("DELETE FROM item WHERE id = 1");
        } else {
            devices[0].sql("UPDATE item SET name = 'else' WHERE id = 9");
        }
        devices[0].exchange();
        devices[1].pull();
        let expected = if comes { "7;3;9".to_owned() } else { shown };
        assert_eq!(devices[1].local(order), expected);
        assert_eq!(devices[1].exchange().rejected.len(), usize::from(!comes));
        devices[0].pull();
        for device in &devices {
            assert_eq!(device.local(order), expected);
        }
    }
}

#[test]
fn the_columns_of_a_list_are_checked_and_listed() {
    let (_world, devices) = boards(1);
    let device = &devices[0];
    let stored = "SELECT rule FROM __sheaf_rules";
    assert_eq!(device.local(stored), "list(board, \"to do\")");
    for (rule, why) in [
        ("list(nobody)", "rule list(nobody): there is no column nobody"),
        ("list(pos)", "rule list(pos): pos cannot tell lists apart"),
        ("list()", "no merge rule is called `list()`"),
        ("list(board", "no merge rule is called `list(board`"),
    ] {
        let error = device.try_sql(&format!("SELECT sheaf_merge_rule('card', 'pos', '{rule}')"));
        assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{error:?}");
    }
    let pos = || device.site.rules(Some("card")).unwrap().pop().unwrap();
    assert_eq!((pos().rule.as_deref(), pos().problem), (Some("list(board, \"to do\")"), None));
    // Without one of its columns it orders nothing, and says so.
    device.sql("ALTER TABLE card RENAME COLUMN board TO shelf");
    let problem = pos().problem.unwrap();
    assert!(problem.contains("there is no column board"), "{problem}");
    device.sql("INSERT INTO card VALUES ('a', 'x', 1, 'V'), ('b', 'x', 1, 'V')");
    agree(&devices);
    assert_eq!(device.local("SELECT id, pos FROM card"), "a|V;b|V");
}

#[test]
fn what_is_no_position_is_a_value_like_others() {
    let lists = Lists::new(2, 0, "az");
    let put = |id: &str, pos: &str| format!("INSERT INTO item VALUES ('{id}', {pos})");
    lists.devices[0].sql(&put("n", "NULL"));
    lists.devices[0].sql(&put("s", "'no position'"));
    lists.devices[1].sql(&put("m", "NULL"));
    lists.devices[1].sql(&put("t", "'no position'"));
    lists.put(0, "x", "a");
    lists.put(1, "y", "a");
    for device in lists.devices.iter().chain(&lists.devices) {
        assert!(device.exchange().rejected.is_empty());
    }
    assert_converged(&[&lists.devices[0], &lists.devices[1]]);
    lists.shows("mnayxzst");
}

#[test]
fn a_thousand_rows_at_one_place_get_new_positions_which_are_no_part_of_what_is_sent() {
    for shape in [0, 1] {
        let lists = Lists::new(4, shape, "az");
        let row = |name: u32| char::from_u32(0x4e00 + name).unwrap().to_string();
        for device in 0..4 {
            // Backwards, so that each device needs nearly all the digits that a position may have.
            let run: Vec<String> =
                (0..250).map(|n| lists.insert(&row(device * 250 + n), "a")).collect();
            lists.devices[device as usize].sql(&format!("BEGIN; {}; COMMIT", run.join(";")));
        }
        lists.devices[0].exchange();
        lists.devices[1].exchange();
        lists.devices[3].exchange();
        let [number] = lists.devices[2].pull().merged[..] else { panic!("one was merged") };
        let redone = lists.devices[2].site.volume().mutation(number).unwrap().unwrap();
        let redone = Mutation::decode(&redone.bytes[8..]).unwrap();
        let Body::Rows(ops) = &redone.body else { panic!("{redone:?}") };
        assert!(ops.len() == 250 && ops.iter().all(|op| matches!(op, Op::Insert { .. })));
        lists.agree();
        let backwards = |device: u32| (0..250).rev().map(move |n| row(device * 250 + n));
        let rows: String = [2, 3, 1, 0].into_iter().flat_map(backwards).collect();
        lists.shows(&format!("a{rows}z"));
        let longest: usize =
            lists.devices[0].local("SELECT max(length(pos)) FROM item").parse().unwrap();
        assert!(longest <= 64, "{longest}");
    }
}

#[test]
fn rows_that_get_other_numbers_stay_behind_one_another() {
    for key in ["id INTEGER PRIMARY KEY, ", ""] {
        let world = World::new();
        let devices: Vec<Device> = (0..3).map(|_| world.device()).collect();
        devices[0].sql(&format!(
            "CREATE TABLE item({key}title TEXT, pos LIST_TEXT);
             INSERT INTO item(title, pos) VALUES ('x', sheaf_between(NULL, NULL))"
        ));
        agree(&devices);
        let put = |device: usize, title: &str| {
            devices[device].sql(&format!(
                "INSERT INTO item(title, pos) SELECT '{title}', sheaf_between(max(pos), NULL) FROM item"
            ));
        };
        for (device, who) in ["a", "b", "c"].into_iter().enumerate() {
            put(device, &format!("{who}1"));
            put(device, &format!("{who}2"));
        }
        devices[0].exchange();
        // B shows its rows under numbers that are a guess, and goes on behind one of them.
        devices[1].pull();
        let after = |title| format!("(SELECT pos FROM item WHERE title = '{title}')");
        devices[1].sql(&format!(
            "INSERT INTO item(title, pos) VALUES ('b3', sheaf_between({}, {}))",
            after("b2"),
            after("a1")
        ));
        devices[2].exchange();
        agree(&devices);
        let order = devices[0]
            .local("SELECT group_concat(title, ' ') FROM (SELECT title FROM item ORDER BY pos)");
        assert_eq!(order, "x b1 b2 b3 c1 c2 a1 a2");
    }
}

#[test]
fn a_list_of_a_newer_version_decides_nothing() {
    let lists = Lists::new(2, 0, "az");
    lists.put(1, "x", "a");
    lists.put(0, "y", "a");
    let newer = "CREATE TABLE __sheaf_rules(tbl, col, rule);
        INSERT INTO __sheaf_rules VALUES ('item', 'pos', 'list@2(by)')";
    lists.devices[0].sql(newer);
    lists.devices[0].exchange();
    let error = lists.devices[1].site.exchange_with_log(&*lists.devices[1].log).unwrap_err();
    let why = "item 'x': column pos has merge rule `list@2(by)`, which this version";
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(lists.devices[1].site.status().pending.len(), 1);
    lists.devices[0].site.merge_rule("item", "pos", None).unwrap();
    lists.agree();
    lists.shows("axyz");
}

#[test]
fn a_row_that_an_undo_brings_back_stands_beside_the_one_that_took_its_place() {
    let lists = Lists::new(2, 0, "abc");
    lists.delete(1, "b");
    lists.devices[1].exchange();
    let deleted = format!("@{}", lists.devices[1].site.base().0.0).parse().unwrap();
    lists.agree();
    lists.put(0, "n", "a");
    lists.devices[0].exchange();
    lists.devices[1].pull();
    lists.devices[1].site.undo(&deleted, false).unwrap();
    lists.agree();
    lists.shows("anbc");
}

#[test]
fn a_row_behind_one_that_was_moved_with_it_and_is_gone_stays_there() {
    for shape in 0..SHAPES.len() {
        let lists = Lists::new(2, shape, "abcd");
        lists.delete(0, "d");
        let names: Vec<String> = ('A'..='Z').map(String::from).collect();
        // One more, and many: asked for one by one, and in one walk.
        for count in [1, names.len()] {
            let place = Lists::behind("d", "a");
            let mut steps = vec![format!("UPDATE item SET pos = {place} WHERE {NAME} = 'd'")];
            let behind = std::iter::once("d").chain(names.iter().map(String::as_str));
            let run = names.iter().zip(behind).take(count);
            steps.extend(run.map(|(name, after)| lists.insert(name, after)));
            lists.devices[1].sql(&format!("BEGIN; {}; COMMIT", steps.join(";")));
            lists.agree();
            let run = names[..count].concat();
            lists.shows(&format!("a{run}bc"));
            names[..count].iter().for_each(|name| lists.delete(0, name));
            lists.agree();
            lists.put(0, "d", "c");
            lists.agree();
            lists.delete(0, "d");
        }
    }
}

#[test]
fn a_row_that_is_moved_and_given_to_another_list_is_in_that() {
    let (_world, devices) = boards(2);
    devices[0].sql(
        "INSERT INTO card VALUES ('a', 'x', 1, 'B'), ('b', 'x', 1, 'D'), ('c', 'x', 1, 'F'),
           ('m', 'y', 1, 'C'), ('n', 'y', 1, 'E')",
    );
    agree(&devices);
    devices[0].sql("UPDATE card SET board = 'y' WHERE id = 'a'");
    devices[1].sql("UPDATE card SET pos = 'E' WHERE id = 'a'");
    agree(&devices);
    let order =
        "SELECT group_concat(id, '') FROM (SELECT id FROM card WHERE board = '@' ORDER BY pos)";
    assert_eq!(devices[0].local(&order.replace('@', "x")), "bc");
    assert_eq!(devices[0].local(&order.replace('@', "y")), "man");
}
