//! The rule `text` from outside: the written vectors, devices behind one order, hostile input,
//! and other programs as oracles where they are installed.

mod vectors;

use std::{collections::BTreeMap, fmt::Write as _, process::Command};

use proptest::{prelude::*, strategy::ValueTree as _};
use sheaf_merge::text;

fn vectors() -> Vec<BTreeMap<String, String>> {
    vectors::read(include_str!("vectors/text.json"))
}

#[test]
fn all_vectors() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 35);
    for v in vectors {
        assert_eq!(text::merge(&v["base"], &v["left"], &v["right"]), v["result"], "{}", v["id"]);
    }
}

#[test]
fn the_vectors_results_absorb_a_new_base() {
    for v in vectors() {
        let result = &v["result"];
        assert_eq!(&text::merge(&v["right"], result, &v["right"]), result, "{}", v["id"]);
        assert_eq!(&text::merge(&v["left"], &v["left"], result), result, "{}", v["id"]);
    }
}

/// Devices that edit offline and one order in which their edits are merged. Each device keeps
/// what it last saw as its base and takes a new one with every merge, as a rebase does.
fn converge(devices: usize, steps: &[(usize, bool, usize)]) {
    let mut global = String::from("one two three four");
    // What each device last saw, and what it has made of it.
    let mut versions = vec![(global.clone(), global.clone()); devices];
    let mut written = Vec::new();
    let rounds = (0..2 * devices).map(|device| (device, false, 0));
    for (device, write, at) in steps.iter().copied().chain(rounds) {
        let (seen, local) = versions.get_mut(device % devices).expect("there are devices");
        if write {
            let mut words: Vec<&str> = local.split(' ').collect();
            let word = format!("w{}", written.len());
            words.insert(at.min(words.len()), &word);
            *local = words.join(" ");
            written.push(word);
        } else {
            global = text::merge(seen, local, &global);
            (*seen, *local) = (global.clone(), global.clone());
        }
    }
    assert!(versions.iter().all(|(_, local)| local == &global));
    let start = ["one", "two", "three", "four"];
    for word in start.into_iter().chain(written.iter().map(String::as_str)) {
        assert_eq!(global.split(' ').filter(|there| *there == word).count(), 1, "{word}: {global}");
    }
}

fn cases(short: u32) -> u32 {
    let long = std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1");
    if long { 100_000 } else { short }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(500)))]

    #[test]
    fn devices_behind_one_order_converge(
        devices in 2_usize..6,
        steps in prop::collection::vec((0_usize..5, prop::bool::weighted(0.7), 0_usize..20), 0..40),
    ) {
        converge(devices, &steps);
    }

    #[test]
    fn any_text_merges(base in ".{0,40}", left in ".{0,40}", right in ".{0,40}") {
        let result = text::merge(&base, &left, &right);
        prop_assert_eq!(text::merge(&right, &result, &right), result);
    }
}

#[test]
fn hostile_texts_are_merged_or_refused() {
    let repeat = |part: &str, bytes: usize| part.repeat(bytes / part.len());
    let size = 300_000;
    for part in [
        "a ",
        "a b ",
        "'",
        "\u{301}",
        "\r",
        "\0",
        "\u{1f1e6}",
        "\u{200d}\u{1f469}",
        "x'",
        "\\ud800 ",
    ] {
        let base = repeat(part, size);
        let left = format!("{base} left {base}");
        let right = format!("right {base}");
        let result = text::merge(&base, &left, &right);
        assert!(result.contains("left"), "{part:?}");
    }
}

#[test]
fn beyond_the_limits_left_stands_and_says_so() {
    let large = "a".repeat(text::TEXT_BYTES_MAX + 1);
    assert_eq!(text::try_merge("", "left", &large), None);
    assert_eq!(text::merge("", "left", &large), "left");
    assert_eq!(text::try_merge("", "", &large), Some(large));
    let many = ". ".repeat(text::TEXT_TOKENS_MAX + 1);
    assert_eq!(text::try_merge("", "left", &many), None);
}

/// Unique words, one per line, so that line tools see what we see; merges with which `tool` has
/// no difficulty must be ours. Gives how many these were, or `None` if there is no such program.
#[expect(clippy::disallowed_methods, reason = "another program reads what this test writes")]
fn agrees_with(tool: &str, arguments: &[&str]) -> Option<usize> {
    let dir = tempfile::tempdir().expect("the temporary directory can be written");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let edits = || prop::collection::vec((0_usize..24, any::<bool>()), 0..5);
    let mut clean = 0;
    for _ in 0..cases(60).min(5_000) {
        let (left, right) = (edits(), edits()).new_tree(&mut runner).expect("no filter").current();
        let start: Vec<String> = (0..24).map(|at| format!("b{at}")).collect();
        let side = |name: &str, edits: Vec<(usize, bool)>| {
            let mut words = start.clone();
            for (number, (at, insert)) in edits.into_iter().enumerate() {
                match insert {
                    true => words.insert(at.min(words.len()), format!("{name}{number}")),
                    false => drop(words.remove(at.min(words.len() - 1))),
                }
            }
            words.iter().fold(String::new(), |mut text, word| {
                writeln!(text, "{word}").expect("writing to a string");
                text
            })
        };
        let versions = [side("l", left), side("b", Vec::new()), side("r", right)];
        for (name, text) in ["left", "base", "right"].iter().zip(&versions) {
            std::fs::write(dir.path().join(name), text).expect("the directory is ours");
        }
        let output = Command::new(tool)
            .args(arguments)
            .args(["left", "base", "right"])
            .current_dir(dir.path())
            .output();
        let output = match output {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            output => output.expect("a program that is here runs"),
        };
        if output.status.success() {
            clean += 1;
            let theirs = String::from_utf8(output.stdout).expect("words are ASCII");
            assert_eq!(
                text::merge(&versions[1], &versions[0], &versions[2]),
                theirs,
                "{versions:?}"
            );
        }
    }
    assert!(clean >= 20, "{tool} merged {clean} times, too rarely to judge by");
    Some(clean)
}

#[test]
fn clean_merges_of_git_and_diff3_are_ours() {
    let git = agrees_with("git", &["merge-file", "-p"]);
    let diff3 = agrees_with("diff3", &["-m"]);
    eprintln!("clean merges: git {git:?}, diff3 {diff3:?}");
    // A build without both has no oracle, which the long form does not let pass.
    assert!(cases(0) == 0 || git.or(diff3).is_some(), "neither git nor diff3 is here");
}
