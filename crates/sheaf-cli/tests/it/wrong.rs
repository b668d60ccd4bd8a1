//! Damage and newer versions, met by the real program: in the store, in a replica, in a node.
//!
//! Invariant: the right answer, or exit status 1 and one line that says what to do; never a wrong
//! row, never the text of a panic, and after a refusal every byte of the store is as it was.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::bed::{Bed, Device, Done, Node, copy, files, write};

type Files = BTreeMap<PathBuf, Vec<u8>>;

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'x')";
/// Too much for the commit itself: it gets a segment.
const MUCH: &str = "WITH RECURSIVE c(x) AS (SELECT 2 UNION ALL SELECT x + 1 FROM c WHERE x < 600) \
    INSERT INTO t SELECT x, hex(randomblob(400)) FROM c";
const ASK: &str = "SELECT count(*), sum(id), sum(length(v)) FROM t; PRAGMA integrity_check";

/// Words of which each error about damage has one, because they say what to do.
const ADVICE: [&str; 5] = ["verify", "restore", "upgrade", "clone", "server's address"];

/// A directory of files that can be put back.
struct Kept {
    dir: PathBuf,
    files: Files,
}

impl Kept {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), files: files(dir) }
    }

    fn restore(&self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
        for (path, bytes) in &self.files {
            write(path, bytes);
        }
    }
}

/// A bucket with three commits, one of them with a segment, and the device that made them.
struct Store {
    bed: Bed,
    url: String,
    bucket: PathBuf,
    answer: String,
}

impl Store {
    fn new() -> Self {
        let bed = Bed::new();
        let bucket = bed.path("bucket");
        let url = format!("file://{}", bucket.display());
        let a = bed.device("a", &url);
        a.run(&["sql", "s", SETUP]).ok();
        a.run(&["sql", "s", MUCH]).ok();
        a.run(&["sql", "s", "UPDATE t SET v = 'y' WHERE id = 1"]).ok();
        let answer = a.run(&["sql", "s", ASK]).ok();
        Self { bed, url, bucket, answer }
    }

    /// A device that begins as the one that made everything.
    fn author(&self, name: &str) -> Device {
        let device = self.bed.device(name, &self.url);
        copy(&self.bed.path("a"), &device.dir);
        device
    }
}

/// Asserts that a command succeeded, or failed in one line that says what to do.
fn decent(done: &Done, what: &str) -> bool {
    if done.code == Some(0) {
        assert_eq!(done.err, "", "{what}");
        return true;
    }
    assert_eq!(done.code, Some(1), "{what}: {done:?}");
    assert_eq!(done.err.lines().count(), 1, "{what}: {done:?}");
    let clear = ADVICE.iter().any(|word| done.err.contains(word));
    assert!(clear && !done.err.contains("panicked"), "{what}: {done:?}");
    false
}

/// What may happen to an object or a file; `None` means that it is gone.
fn damages(bytes: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let flip = |at: usize| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 0x20;
        (format!("byte {at} flipped"), Some(flipped))
    };
    vec![
        flip(0),
        flip(bytes.len() / 2),
        flip(bytes.len() - 1),
        ("cut in half".to_owned(), Some(bytes[..bytes.len() / 2].to_vec())),
        ("emptied".to_owned(), Some(Vec::new())),
        ("longer".to_owned(), Some([bytes, b"more"].concat())),
        ("gone".to_owned(), None),
    ]
}

#[test]
fn a_damaged_store_gives_the_right_answer_or_one_clear_line() {
    let store = Store::new();
    let good = Kept::new(&store.bucket);
    let last = good.files.keys().rfind(|path| path.to_string_lossy().contains("/log/")).unwrap();
    let mut refused = 0;
    for (number, (path, bytes)) in good.files.iter().enumerate() {
        let is_entry = path.ends_with("site.json");
        for (how, damaged) in damages(bytes) {
            let what = format!("{} {how}", path.display());
            match &damaged {
                Some(bytes) => write(path, bytes),
                None => std::fs::remove_file(path).unwrap(),
            }
            let name = format!("{number}-{how}");
            // Somebody new: nothing tells that an end or an entry is missing.
            let cannot_know = damaged.is_none() && (is_entry || path == last);
            if !cannot_know {
                let before = files(&store.bucket);
                let done = store.bed.device(&format!("new {name}"), &store.url);
                let done = done.run(&["sql", "s", ASK]);
                if decent(&done, &what) {
                    assert_eq!(done.out, store.answer, "{what}");
                } else {
                    assert_eq!(files(&store.bucket), before, "{what}");
                    refused += 1;
                }
            }
            // The author: what it appends must be readable once the damage is mended.
            let author = store.author(&name);
            let before = files(&store.bucket);
            let done = author.run(&["sql", "s", "INSERT INTO t VALUES (9000, 'z')"]);
            let went_on = decent(&done, &what);
            assert!(!(damaged.is_none() && path == last && went_on), "{what}: a hole in the log");
            if !went_on {
                assert_eq!(files(&store.bucket), before, "{what}");
            }
            write(path, bytes);
            let reader = store.bed.device(&format!("late {name}"), &store.url);
            let count = reader.run(&["sql", "s", "SELECT count(*) FROM t"]).ok();
            assert_eq!(count, if went_on { "601\n" } else { "600\n" }, "{what}");
            good.restore();
        }
    }
    assert!(refused > 10, "most of this damage is seen by those who need what it hit: {refused}");
}

/// Raises the version byte and mends the hash at the end.
fn made_newer(bytes: &[u8]) -> Vec<u8> {
    let mut newer = bytes.to_vec();
    newer[4] = 99;
    let body = newer.len() - 32;
    let hash = blake3::hash(&newer[..body]);
    newer[body..].copy_from_slice(hash.as_bytes());
    newer
}

#[test]
fn what_a_newer_version_wrote_is_refused_and_left_alone() {
    let store = Store::new();
    let commits = files(&store.bucket);
    let (last, bytes) =
        commits.iter().rfind(|(path, _)| path.to_string_lossy().contains("/log/")).unwrap();
    assert_eq!(&bytes[..5], b"SHFC\x01");
    write(last, made_newer(bytes));
    let before = files(&store.bucket);
    store.bed.device("new", &store.url).run(&["sql", "s", ASK]).fails(1, "upgrade");
    let author = store.author("author");
    author.run(&["log", "s"]).fails(1, "upgrade");
    assert_eq!(files(&store.bucket), before);
    // A device that is one commit behind keeps what it has, and can go on alone.
    write(last, bytes);
    author.run(&["sql", "s", "INSERT INTO t VALUES (9000, 'z')"]).ok();
    let newest = files(&store.bucket).into_keys().filter(|path| !commits.contains_key(path));
    let newest: Vec<PathBuf> = newest.collect();
    let behind = store.author("behind");
    write(&newest[0], made_newer(&files(&store.bucket)[&newest[0]]));
    let before = files(&store.bucket);
    for command in ["pull", "push"] {
        behind.run(&[command, "s"]).fails(1, "upgrade");
    }
    behind.run(&["sql", "s", "INSERT INTO t VALUES (9001, 'z')"]).fails(1, "nothing was changed");
    assert_eq!(behind.run(&["sql", "--offline", "s", ASK]).ok(), store.answer);
    assert_eq!(files(&store.bucket), before);
}

#[test]
fn a_replica_of_a_newer_version_is_refused_and_left_alone() {
    let store = Store::new();
    for file in ["meta-0", "meta-1", "log-0", "log-1"] {
        let device = store.author(file);
        let path = device.dir.join("sites/s").join(file);
        let bytes = files(&device.dir)[&path].clone();
        if bytes.is_empty() {
            continue;
        }
        let newer = if file.starts_with("meta") {
            made_newer(&bytes)
        } else {
            [&bytes[..4], &[2], &bytes[5..]].concat()
        };
        write(&path, newer);
        let kept = |mut all: Files| {
            // Whose text is the process id of whoever looked last.
            all.retain(|path, _| !path.ends_with("lock"));
            all
        };
        let before = kept(files(&device.dir));
        let done = device.run(&["sql", "--offline", "s", ASK]);
        // The other log file may be one that nobody needs any more.
        if done.code == Some(0) {
            assert_eq!(done.out, store.answer);
        } else {
            done.fails(1, "upgrade");
            assert_eq!(kept(files(&device.dir)), before, "{file}");
        }
    }
}

#[test]
fn a_damaged_replica_gives_the_right_answer_or_one_clear_line() {
    let store = Store::new();
    let template = store.author("template");
    // Something that exists nowhere else, so that fetching afresh is no way out.
    template.run(&["sql", "--offline", "s", "UPDATE t SET v = 'own' WHERE id = 2"]).ok();
    let answer = template.run(&["sql", "--offline", "s", ASK]).ok();
    let mut refused = 0;
    for (number, (path, bytes)) in files(&template.dir).into_iter().enumerate() {
        if bytes.is_empty() || path.ends_with("lock") {
            continue;
        }
        for (how, damaged) in damages(&bytes) {
            let what = format!("{} {how}", path.display());
            let device = store.bed.device(&format!("{number}-{how}"), &store.url);
            copy(&template.dir, &device.dir);
            let path = device.dir.join(path.strip_prefix(&template.dir).unwrap());
            match damaged {
                Some(bytes) => write(&path, bytes),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let done = device.run(&["sql", "--offline", "s", ASK]);
            // A torn end of the log is what a crash leaves: at most the newest commits are gone,
            // which were never said to be on the disk.
            let is_torn = path.to_string_lossy().contains("log-");
            if decent(&done, &what) {
                assert!(done.out == answer || (is_torn && done.out.ends_with("ok\n")), "{what}");
            } else {
                refused += 1;
            }
            decent(&device.run(&["status", "s"]), &what);
        }
    }
    assert!(refused > 3, "{refused}");
}

#[cfg(unix)]
#[test]
fn a_node_that_was_set_back_is_found_out() {
    let bed = Bed::new();
    let data = bed.path("node");
    let node = Node::start(&data, &["--no-auth"]);
    let a = bed.device("a", &node.url);
    a.run(&["sql", "s", SETUP]).ok();
    assert_eq!(node.end("-INT").0, Some(0));
    copy(&data, &bed.path("old"));
    let node = Node::start(&data, &["--no-auth"]);
    let a = Device { server: node.url.clone(), ..a };
    a.run(&["sql", "s", "INSERT INTO t VALUES (2, 'two')"]).ok();
    assert_eq!(node.end("-INT").0, Some(0));
    // All of it from an older copy: the device knows more than the node.
    let node = Node::start(&bed.path("old"), &["--no-auth"]);
    let a = Device { server: node.url.clone(), ..a };
    let done = a.run(&["sql", "s", "INSERT INTO t VALUES (3, 'three')"]);
    done.fails(1, "restored from an older copy");
    assert_eq!(a.run(&["sql", "--offline", "s", "SELECT id FROM t"]).ok(), "1\n2\n3\n");
    drop(node);
    // Only its store has lost the last commit: the node itself knows.
    let last = files(&data).into_keys().rfind(|path| path.to_string_lossy().contains("/log/"));
    std::fs::remove_file(last.unwrap()).unwrap();
    let before = files(&data.join("store"));
    let node = Node::start(&data, &["--no-auth"]);
    let b = bed.device("b", &node.url);
    b.run(&["sql", "s", "INSERT INTO t VALUES (4, 'four')"]).fails(1, "restore the store");
    assert_eq!(files(&data.join("store")), before);
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_is_one_line_and_loses_nothing() {
    use std::process::Command;
    let store = Store::new();
    let a = store.author("full");
    let much = "INSERT INTO t SELECT id + 10000, hex(randomblob(4000)) FROM t";
    // No file may grow beyond 256 blocks of 512 bytes; the signal about it is ignored.
    let limited = |command: &[&str]| {
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 256; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_sheaf"))
            .args(command)
            .env("SHEAF_DIR", &a.dir)
            .env("SHEAF_SERVER", "")
            .output()
            .unwrap();
        Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    };
    limited(&["sql", "--offline", "s", much]).fails(1, "disk");
    assert_eq!(a.run(&["sql", "--offline", "s", ASK]).ok(), store.answer);
    let target = store.bed.path("out.db");
    limited(&["export", "s", target.to_str().unwrap()]).fails(1, "disk");
    let left = std::fs::read_dir(store.bed.path("")).unwrap();
    let left = left.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("out.db")
    });
    assert_eq!(left.count(), 0, "what was begun is removed");
    a.run(&["sql", "--offline", "s", much]).ok();
    assert_eq!(a.run(&["sql", "--offline", "s", "SELECT count(*) FROM t"]).ok(), "1200\n");
}

#[test]
fn damaged_databases_are_not_imported() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    let good = bed.path("good.db");
    let db = rusqlite::Connection::open(&good).unwrap();
    db.execute_batch(&format!("{SETUP}; {MUCH}")).unwrap();
    drop(db);
    let bytes = files(&bed.path(""))[&good].clone();
    let mut torn = bytes.clone();
    torn[8192..16384].fill(0xff);
    for (name, bytes) in [("torn", &torn[..]), ("short", &bytes[..9000]), ("tiny", &bytes[..50])] {
        let file = bed.path(&format!("{name}.db"));
        write(&file, bytes);
        let done = a.run(&["import", file.to_str().unwrap(), name]).fails(1, name);
        assert_eq!(done.out, "");
        assert!(!a.has_site(name), "{name}");
    }
    a.run(&["import", "/", "dir"]).fails(1, "check the path");
}

#[test]
fn wrong_usage_makes_and_changes_nothing() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    let cases: [(&[&str], &str); 14] = [
        (&["sql", "s", "SELECT 1", "--view", "nonsense"], "@LSN"),
        (&["sql", "s", "SELECT 1", "--view", ""], "@LSN"),
        (&["sql", "s", "SELECT 1", "--nonsense"], "sheaf sql --help"),
        (&["sql", "s", "SELECT 1", "--timeout", "-3"], "seconds"),
        (&["sql", "s", "SELECT 1", "--timeout", "never"], "seconds"),
        (&["sql", "s", "SELECT 1", "--mode", "poem"], "list"),
        (&["mutate", "s", "f", "{\"a\":"], "JSON"),
        (&["mutate", "s", "f", "null"], "JSON object"),
        (&["log", "s", "-n", "few"], "--help"),
        (&["status", "s", "--server", "http://"], "http://HOST:PORT"),
        (&["status", "s", "--server", "s3://"], "s3://BUCKET"),
        (&["status", "s", "--server", "not a url"], "http://HOST:PORT"),
        (&["serve"], "--data"),
        (&["import", "file.db"], "--help"),
    ];
    for (args, part) in cases {
        assert_eq!(a.run(args).fails(2, part).out, "");
    }
    assert!(!a.dir.join("sites").exists());
    for args in [&["export", "nope", "x.db"][..], &["mutate", "nope", "f"], &["log", "nope"]] {
        a.run(args).fails(1, "sheaf sites");
    }
    let wrong = bed.path("no/such/dir/x.db");
    a.run(&["sql", "s", "SELECT 1"]).ok();
    a.run(&["export", "s", wrong.to_str().unwrap()]).fails(1, "can be written");
    assert!(!bed.path("x.db").exists() && !bed.path("no").exists());
}
