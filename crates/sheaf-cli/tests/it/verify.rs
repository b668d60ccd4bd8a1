//! `verify`, `repair` and `verify-store`: every kind of file and object, damaged, named, mended.

use std::path::{Path, PathBuf};

use crate::bed::{Bed, Device, Done, Node, copy, files, write};

/// More than is fetched at a first contact, and than a log may hold when everything is agreed.
const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, b BLOB); \
    WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 500) \
    INSERT INTO t SELECT i, 0, randomblob(3000) FROM c";
const SUM: &str = "SELECT count(*), sum(n), sum(length(b)) FROM t";

/// A device with a bucket, a folded base file, and changes in the log that nobody else has.
fn site(bed: &Bed) -> (Device, String) {
    let url = bed.bucket_dir();
    let a = bed.device("a", &url);
    a.run(&["sql", "s", SETUP]).ok();
    a.run(&["sql", "s", "UPDATE t SET n = 1 WHERE id % 7 = 0"]).ok();
    a.run(&["sql", "s", "UPDATE t SET b = randomblob(3000) WHERE id > 100"]).ok();
    let offline = ["sql", "--offline", "s", "UPDATE t SET n = n + 10 WHERE id < 20"];
    a.run(&offline).ok();
    let sum = a.run(&["sql", "--offline", "s", SUM]).ok();
    (a, sum)
}

fn replica(device: &Device) -> PathBuf {
    device.dir.join("sites").join("s")
}

fn read(path: &Path) -> Vec<u8> {
    files(path.parent().unwrap()).remove(path).unwrap()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = read(path);
    let at = at % bytes.len();
    bytes[at] ^= 0x10;
    write(path, bytes);
}

/// Objects of a kind, in order.
fn objects(bed: &Bed, part: &str) -> Vec<PathBuf> {
    let all = files(&bed.path("bucket")).into_keys();
    all.filter(|path| path.to_str().unwrap().contains(part)).collect()
}

fn json(done: &Done) -> serde_json::Value {
    serde_json::from_str(&done.out).unwrap()
}

/// What is wrong, as `place: what`.
fn found(device: &Device, more: &[&str]) -> Vec<(String, String, bool)> {
    let args = [&["--json", "verify", "s"], more].concat();
    let done = device.run(&args);
    let value = json(&done);
    let findings = value["findings"].as_array().unwrap();
    assert_eq!(done.code, Some(i32::from(!findings.is_empty())), "{done:?}");
    assert_eq!(value["sound"], findings.is_empty());
    let text = |f: &serde_json::Value, of: &str| f[of].as_str().unwrap().to_owned();
    let each = |f: &serde_json::Value| {
        assert!(!text(f, "remedy").is_empty());
        (text(f, "place"), text(f, "what"), f["by_repair"] == true)
    };
    findings.iter().map(each).collect()
}

#[test]
fn a_sound_site_is_sound_however_it_is_looked_at() {
    let bed = Bed::new();
    let (a, sum) = site(&bed);
    let said = a.run(&["verify", "s"]).ok();
    assert!(said.contains("1 pending change") && said.contains("nothing wrong in s"), "{said}");
    assert!(said.contains("log       3 commits") && said.contains("looked at by SQLite"), "{said}");
    let said = a.run(&["verify", "s", "--full"]).ok();
    assert!(said.contains("every page compared"), "{said}");
    // A lazy replica fetches nothing to be looked at, unless it is told to.
    let b = bed.device("b", &a.server);
    b.run(&["clone", "s"]).ok();
    let before = files(&replica(&b)).len();
    assert_eq!(found(&b, &[]), []);
    assert_eq!(files(&replica(&b)).len(), before);
    assert_eq!(found(&b, &["--full"]), []);
    // A repair of what is whole changes nothing.
    let said = a.run(&["repair", "s"]).ok();
    assert!(said.contains("nothing wrong"), "{said}");
    assert_eq!(a.run(&["sql", "--offline", "s", SUM]).ok(), sum);
    a.run(&["verify", "nope"]).fails(1, "no site `nope`");
}

#[test]
fn damaged_files_are_named_and_repaired() {
    let bed = Bed::new();
    let (a, sum) = site(&bed);
    let whole = bed.path("whole");
    copy(&replica(&a), &whole);
    // What own mutations did is a convenience: a damaged one is forgotten, and nothing is wrong.
    let is_store = |name: &str| name != "lock" && !name.starts_with("deeds-");
    let names: Vec<String> = files(&whole)
        .iter()
        .filter(|(_, bytes)| !bytes.is_empty())
        .map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| is_store(name))
        .collect();
    assert!(names.len() >= 4, "{names:?}");
    let (mut mended, mut fatal) = (0, 0);
    for name in &names {
        let path = replica(&a).join(name);
        let bytes = read(&path);
        let forms: Vec<(String, Vec<u8>)> = [3, bytes.len() / 2, bytes.len() - 5]
            .into_iter()
            .map(|at| {
                let mut flipped = bytes.clone();
                flipped[at] ^= 4;
                (format!("{name} flipped at {at}"), flipped)
            })
            .chain([(format!("{name} cut"), bytes[..bytes.len() * 2 / 3].to_vec())])
            .collect();
        for (how, damaged) in forms {
            write(&path, &damaged);
            let findings = found(&a, &[]);
            assert!(findings.iter().any(|(place, ..)| place == name), "{how}: {findings:?}");
            if findings.iter().any(|(.., by_repair)| !by_repair) {
                fatal += 1;
                let done = a.run(&["repair", "s"]).fails(1, "sheaf clone s");
                assert!(done.out.contains("WRONG"), "{done:?}");
                assert_eq!(
                    read(&path),
                    damaged,
                    "{how}: a repair that cannot mend changes nothing"
                );
            } else {
                let before = read(&path);
                a.run(&["repair", "s", "--dry-run"]).ok();
                assert_eq!(read(&path), before, "{how}: a dry run changed something");
                let said = a.run(&["repair", "s"]).ok();
                assert!(
                    said.contains("mended    ") && said.contains("nothing wrong"),
                    "{how}: {said}"
                );
                let cut_off = findings.iter().any(|(_, what, _)| what.contains("no whole record"));
                let now = a.run(&["sql", "--offline", "s", SUM]).ok();
                assert!(now == sum || cut_off, "{how}: {now}");
                mended += 1;
            }
            for file in files(&replica(&a)).into_keys() {
                std::fs::remove_file(file).unwrap();
            }
            copy(&whole, &replica(&a));
        }
    }
    assert!(mended >= 4 && fatal >= 3, "{mended} {fatal}");
    assert_eq!(found(&a, &["--full"]), []);
}

#[test]
fn damaged_drafts_are_made_again_from_their_changes() {
    let bed = Bed::new();
    let (a, sum) = site(&bed);
    // A second change, which says that the first was flushed: its pages are damage, not a torn end.
    a.run(&["sql", "--offline", "s", "UPDATE t SET n = n + 1 WHERE id = 1"]).ok();
    let log = ["log-0", "log-1"].map(|name| replica(&a).join(name));
    let log = log.iter().find(|path| read(path).len() > 8192).unwrap();
    let bytes = read(log);
    let is_record = |at: &usize| bytes[*at..].starts_with(b"SHFR");
    let records: Vec<usize> = (0..bytes.len()).filter(is_record).collect();
    let has_pages = |at: usize| bytes[at + 8..at + 12] != [0; 4];
    let first = records.iter().position(|&at| has_pages(at)).unwrap();
    // The last byte of its pages.
    flip(log, records[first + 1] - 1);
    let findings = found(&a, &[]);
    assert!(
        findings.iter().all(|(.., by_repair)| *by_repair) && findings.len() >= 2,
        "{findings:?}"
    );
    a.run(&["sql", "--offline", "s", SUM]).fails(1, "damaged");
    let said = a.run(&["repair", "s"]).ok();
    assert!(said.contains("redone    2 pending changes"), "{said}");
    let (rows, rest) = sum.split_once('|').unwrap();
    let n: u64 = rest.split('|').next().unwrap().parse().unwrap();
    let now = a.run(&["sql", "--offline", "s", SUM]).ok();
    assert!(now.starts_with(&format!("{rows}|{}|", n + 1)), "{now} {sum}");
    a.run(&["push", "s"]).ok();
    assert_eq!(found(&a, &["--full"]), []);
}

#[test]
fn damaged_objects_are_named_and_segments_are_given_back() {
    let bed = Bed::new();
    let (a, _) = site(&bed);
    let b = bed.device("b", &a.server);
    b.run(&["clone", "s"]).ok();
    let mut tried = 0;
    for part in ["/log/", "/segments/", "/sites/"] {
        let all = objects(&bed, part);
        for (at, path) in all.iter().enumerate() {
            let whole = read(path);
            let mut forms =
                vec![("empty", Some(Vec::new())), ("cut", Some(whole[..whole.len() / 2].to_vec()))];
            forms.push((
                "flipped",
                Some({
                    let mut bytes = whole.clone();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    bytes
                }),
            ));
            forms.push(("missing", None));
            if all.len() > 1 {
                forms.push(("swapped", Some(read(&all[(at + 1) % all.len()]))));
            }
            for (how, bytes) in forms {
                match bytes {
                    Some(bytes) => write(path, bytes),
                    None => std::fs::remove_file(path).unwrap(),
                }
                let what = format!("{} {how}", path.display());
                let name = path.file_name().unwrap().to_str().unwrap();
                let findings = found(&a, &[]);
                let named = findings.iter().find(|(place, ..)| {
                    place.contains(name) || (part == "/sites/" && place == "site record of s")
                });
                let (.., by_repair) = named.unwrap_or_else(|| panic!("{what}: {findings:?}"));
                if part == "/segments/" {
                    // One who lacks the pages says so; one who has them gives them back.
                    assert!(by_repair);
                    let failed = b.run(&["repair", "s"]);
                    assert!(
                        failed.code == Some(1) && failed.err.contains("another device"),
                        "{failed:?}"
                    );
                    let said = a.run(&["repair", "s"]);
                    if at + 1 == all.len() {
                        assert!(said.ok().contains("rewritten"), "{what}");
                        assert_eq!(read(path), whole, "{what}");
                    }
                } else {
                    assert!(!by_repair);
                    a.run(&["repair", "s"]).fails(1, "from a copy of the store");
                }
                write(path, &whole);
                tried += 1;
            }
        }
    }
    assert!(tried >= 12, "{tried}");
    assert_eq!(found(&a, &[]), []);
}

#[test]
fn the_log_is_followed_through_a_node() {
    let bed = Bed::new();
    let data = bed.path("node");
    let node = Node::start(&data, &["--no-auth"]);
    let a = bed.device("a", &node.url);
    a.run(&["sql", "s", SETUP]).ok();
    let said = a.run(&["verify", "s", "--full"]).ok();
    assert!(said.contains("log       1 commit") && said.contains("compared"), "{said}");
    drop(node);
    let done = a.run(&["verify", "s"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.err.contains("could not be asked"), "{done:?}");
    // The node's own store, looked at directly.
    let url = format!("file://{}", data.join("store").display());
    let direct = Device { server: url, ..a };
    let said = direct.run(&["verify", "s"]).ok();
    assert!(said.contains("frames"), "{said}");
}

#[test]
fn a_store_that_was_set_back_is_found_out() {
    let bed = Bed::new();
    let (a, _) = site(&bed);
    let last = objects(&bed, "/log/").pop().unwrap();
    std::fs::remove_file(&last).unwrap();
    let findings = found(&a, &[]);
    assert!(findings[0].1.contains("lost commits"), "{findings:?}");
}

#[test]
fn a_store_is_tried_before_it_is_used() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    let url = bed.bucket();
    let tried = a.run(&["--json", "verify-store", &url, "--creators", "16", "--rounds", "20"]);
    let value = json(&tried);
    assert_eq!((&value["sound"], &value["rounds"]), (&true.into(), &20.into()));
    assert_eq!(tried.ok().lines().count(), 1);
    if url.starts_with("file:") {
        assert!(files(&bed.path("bucket")).is_empty());
    }
    a.run(&["verify-store", "nowhere"]).fails(2, "accepted are");
    a.run(&["verify-store", &url, "--creators", "1"]).fails(2, "at least two");
}
