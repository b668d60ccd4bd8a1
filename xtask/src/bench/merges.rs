//! Merges of ordinary size: texts of 10 KB and documents of 500 blocks, a thousand of each.
//!
//! Invariant: every merge is of another base with edits of its own, and takes both sides' edits.
//! The peer compares each side with the base word by word, and merges nothing: crate `similar`,
//! Myers' algorithm. A process such as `diff3` would be measured by its start. What hostile input
//! takes is printed by `sheaf-merge/tests/bounds`.

use std::time::Duration;

use anyhow::{Result, ensure};
use sheaf_merge::{Note, Rule, Value, merge_cell};
use similar::{Algorithm, DiffTag, capture_diff_slices};

use super::Lcg;

const MERGES: i64 = 1_000;
const TEXT_BYTES: usize = 10_000;
const BLOCKS: i64 = 500;
/// What the median of a merge may take.
const TEXT_MAX: Duration = Duration::from_millis(1);
const TREE_MAX: Duration = Duration::from_millis(5);

/// Makes the three versions of one merge.
type Make = fn(&mut Lcg) -> [String; 3];

pub(super) fn run() -> Result<()> {
    println!();
    println!(
        "| 1,000 merges, processor time | median ms | 99th of 100 | both plain diffs, median ms | ratio | limit, ms |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    let texts = measure("texts of 10 KB", Rule::Text, text, TEXT_MAX)?;
    let trees = measure("documents of 500 blocks", Rule::Html, tree, TREE_MAX)?;
    ensure!(texts <= TEXT_MAX && trees <= TREE_MAX, "merges take longer than they may");
    Ok(())
}

fn measure(name: &str, rule: Rule, make: Make, most: Duration) -> Result<Duration> {
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for seed in 0..MERGES {
        let sides = make(&mut Lcg(u64::try_from(seed)?));
        let start = thread_time();
        let changes = diffs(&sides);
        plain.push(thread_time().saturating_sub(start));
        ensure!(changes > 1, "there is nothing to merge");
        let [base, left, right] = sides.map(Value::Text);
        let start = thread_time();
        let merged = merge_cell(rule, Some(&base), &left, &right);
        ours.push(thread_time().saturating_sub(start));
        ensure!(merged.value != left && merged.value != right, "an edit is lost");
        ensure!(merged.note != Some(Note::Fallback), "nothing was merged");
    }
    let (median, last, plain) = (at(&mut ours, 50), at(&mut ours, 99), at(&mut plain, 50));
    println!(
        "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
        ms(median),
        ms(last),
        ms(plain),
        ms(median) / ms(plain),
        ms(most)
    );
    Ok(median)
}

/// Processor time of this thread: what the machine does beside it does not count as ours.
fn thread_time() -> Duration {
    let mut time = std::mem::MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: clock_gettime fills the struct it is given; a zeroed one is valid if it fails.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr());
        time.assume_init()
    };
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(secs) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Compares each side with the base, cut at spaces; gives how many changes there are.
fn diffs([base, left, right]: &[String; 3]) -> usize {
    let [base, left, right] =
        [base, left, right].map(|text| text.split_inclusive(' ').collect::<Vec<_>>());
    let changes = |side: &[&str]| {
        let ops = capture_diff_slices(Algorithm::Myers, &base, side);
        ops.iter().filter(|op| op.tag() != DiffTag::Equal).count()
    };
    changes(&left) + changes(&right)
}

fn at(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A word; short ones come often, as in prose.
fn word(random: &mut Lcg) -> String {
    let common = random.below(3) > 1;
    let number = random.below(if common { 60 } else { 4_000 });
    format!("{}{number:x}", if common { "t" } else { "word" })
}

fn prose(random: &mut Lcg, bytes: usize) -> Vec<String> {
    let (mut words, mut len) = (Vec::new(), 0);
    while len < bytes {
        let mut word = word(random);
        match random.below(12) {
            1 => word.push(','),
            2 => word.push('.'),
            _ => {}
        }
        len += word.len() + 1;
        words.push(word);
    }
    words
}

/// Some words replaced, deleted and inserted.
fn edited(random: &mut Lcg, words: &[String], edits: i64) -> String {
    let mut words = words.to_vec();
    for _ in 0..edits {
        let at = place(random, words.len());
        match random.below(3) {
            1 => words.insert(at, word(random)),
            2 if words.len() > 1 => drop(words.remove(at)),
            _ => words.splice(at..=at, [word(random)]).for_each(drop),
        }
    }
    words.join(" ")
}

fn place(random: &mut Lcg, len: usize) -> usize {
    usize::try_from(random.below(i64::try_from(len).unwrap_or(1)) - 1).unwrap_or(0)
}

fn text(random: &mut Lcg) -> [String; 3] {
    let words = prose(random, TEXT_BYTES);
    let (left, right) = (edited(random, &words, 10), edited(random, &words, 10));
    [words.join(" "), left, right]
}

/// A list: its id, the ids of its items, and their words.
type List = (String, Vec<(String, String)>);

/// Lists of four items, one block each; either side rewrites some, inserts, deletes and moves some.
fn tree(random: &mut Lcg) -> [String; 3] {
    let lists = BLOCKS / 5;
    let mut base: Vec<List> = Vec::new();
    for list in 0..lists {
        let item = |item: i64| (format!("{list}.{item}"), prose(random, 80).join(" "));
        base.push((format!("list{list}"), (0..4).map(item).collect()));
    }
    let (left, right) = (edited_tree(random, &base, "l"), edited_tree(random, &base, "r"));
    [write(&base), left, right]
}

fn edited_tree(random: &mut Lcg, base: &[List], name: &str) -> String {
    let mut lists = base.to_vec();
    for number in 0..20 {
        let (from, to) = (place(random, lists.len()), place(random, lists.len()));
        let new = (format!("{name}{number}"), format!("<b>{}</b>", word(random)));
        let Some((_, items)) = lists.get_mut(from) else { continue };
        let at = place(random, items.len());
        match (number % 5, items.get_mut(at)) {
            (0, _) => items.insert(at, new),
            (1, Some(_)) => drop(items.remove(at)),
            (2, Some(_)) => {
                let item = items.remove(at);
                lists.get_mut(to).into_iter().for_each(|(_, items)| items.push(item.clone()));
            }
            (_, Some((_, text))) => {
                let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                *text = format!("{} {}", edited(random, &words, 2), new.1);
            }
            (_, None) => {}
        }
    }
    write(&lists)
}

fn write(lists: &[List]) -> String {
    let item = |(id, text): &(String, String)| format!("<li id=\"{id}\">{text}</li>");
    let list = |(id, items): &List| {
        format!("<ul id=\"{id}\">{}</ul>", items.iter().map(item).collect::<String>())
    };
    lists.iter().map(list).collect()
}
