//! Laws of the word merge without its short cuts (specification 3.13, P1 to P8).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Glued, Word, inside_word, is_white, merge_words, versions::read};

fn merged(base: &str, left: &str, right: &str) -> String {
    let (text, is_coarse) =
        merge_words(base, left, right).expect("short texts are within the limits");
    assert!(!is_coarse, "short texts are compared word by word");
    text
}

fn split(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    super::split(text, |range, class| words.push(Word { text: &text[range], class }));
    words
}

fn words(text: &str) -> Vec<String> {
    split(text).into_iter().map(|word| word.text.to_owned()).collect()
}

/// Few distinct tokens, many repeats, apostrophes, line ends, clusters: what found faults.
fn text() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        6 => prop::sample::select(vec!["a", "b", "c", "dd", "e1", "recieve", "_"]),
        4 => prop::sample::select(vec![" ", " ", " ", "\n", "\r\n", "  ", "\t"]),
        3 => prop::sample::select(vec![",", ".", "'", "\u{2019}", "(", "<b>", "&"]),
        2 => prop::sample::select(vec![
            "\u{65e5}", "\u{672c}", "\u{301}", "\u{200d}", "\u{1f469}", "\u{1f1e6}", "\u{a0}",
            "\u{600}", "\u{e33}", "\u{915}\u{94d}", "\u{1100}", "\u{1161}", "\u{1}", "\r",
        ]),
    ];
    prop::collection::vec(parts, 0..14).prop_map(|parts| parts.concat())
}

fn edit(text: &str, at: usize, gone: usize, new: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = at.min(chars.len());
    let end = (at + gone).min(chars.len());
    let (head, tail) = (&chars[..at], &chars[end..]);
    head.iter().copied().chain(new.chars()).chain(tail.iter().copied()).collect()
}

/// A base and two versions, which are strangers to it or edits of it.
fn three() -> impl Strategy<Value = [String; 3]> {
    let edits = || prop::collection::vec((0_usize..30, 0_usize..4, text()), 0..3);
    prop_oneof![
        1 => [text(), text(), text()],
        3 => (text(), edits(), edits()).prop_map(|(base, left, right)| {
            let apply = |edits: Vec<(usize, usize, String)>| {
                edits.into_iter().fold(base.clone(), |text, (at, gone, new)| {
                    edit(&text, at, gone, &new)
                })
            };
            [base.clone(), apply(left), apply(right)]
        }),
    ]
}

fn counts(texts: &[String]) -> BTreeMap<&str, i64> {
    let mut counts = BTreeMap::new();
    for text in texts {
        *counts.entry(text.as_str()).or_default() += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn splitting_is_lossless(text in text()) {
        let mut ranges = Vec::new();
        super::split(&text, |range, _| ranges.push(range));
        let mut end = 0;
        for range in ranges {
            prop_assert!(text[end..range.start].chars().all(is_white));
            prop_assert!(!range.is_empty());
            end = range.end;
        }
        prop_assert!(text[end..].chars().all(is_white));
    }

    #[test]
    fn what_is_taken_from_the_base_is_what_is_there([base, left, right] in three()) {
        let texts = [base.as_str(), &left, &right];
        let versions = read(texts);
        let mut keys = BTreeMap::new();
        for (text, version) in texts.into_iter().zip(&versions) {
            let there = (0..version.words()).filter_map(|at| version.word(at));
            prop_assert_eq!(there.clone().collect::<Vec<_>>(), split(text));
            let glue: String = (0..=version.words()).map(|at| version.glue(at)).collect();
            prop_assert_eq!(glue.len() + there.clone().map(|word| word.text.len()).sum::<usize>(), text.len());
            prop_assert!(glue.chars().all(is_white));
            prop_assert_eq!(version.tokens.len(), version.words());
            for (word, token) in there.zip(&version.tokens) {
                prop_assert_eq!(*keys.entry(word.text).or_insert(*token), *token);
            }
        }
        let distinct: BTreeSet<u32> = keys.values().map(|token| token.key).collect();
        prop_assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn plain_text_needs_no_tables(text in "[ -~]{0,24}") {
        // A sign beyond ASCII in every stretch takes the long way round.
        let long = text.split(' ').map(|part| format!("{part}\u{e9}\u{1}")).collect::<Vec<_>>().join(" ");
        let short = text.split(' ').map(|part| format!("{part}e\u{1}")).collect::<Vec<_>>().join(" ");
        let plain: Vec<String> = words(&long).iter().map(|word| word.replace('\u{e9}', "e")).collect();
        prop_assert_eq!(plain, words(&short));
    }

    #[test]
    fn identities([base, left, right] in three()) {
        prop_assert_eq!(&merged(&base, &base, &right), &right); // P1
        prop_assert_eq!(&merged(&base, &left, &base), &left); // P2
        prop_assert_eq!(&merged(&base, &left, &left), &left); // P3
        let result = merged(&base, &left, &right);
        prop_assert_eq!(&merged(&right, &result, &right), &result); // P4
        prop_assert_eq!(&merged(&left, &result, &left), &result);
    }

    #[test]
    fn sides_can_be_swapped_but_for_order([base, left, right] in three()) {
        let (one, two) = (words(&merged(&base, &left, &right)), words(&merged(&base, &right, &left)));
        prop_assert_eq!(counts(&one), counts(&two)); // P7
    }

    #[test]
    fn distinct_words_survive_exactly_once(
        (base, left, right) in (0_usize..12, prop::collection::vec((0_usize..12, any::<bool>()), 0..8),
            prop::collection::vec((0_usize..12, any::<bool>()), 0..8)),
    ) {
        // Every word is its own: what must be there can be counted (P5, P6, P8).
        let start: Vec<String> = (0..base).map(|at| format!("b{at}")).collect();
        let side = |name: &str, edits: &[(usize, bool)]| {
            let mut words = start.clone();
            for (number, &(at, insert)) in edits.iter().enumerate() {
                if insert {
                    words.insert(at.min(words.len()), format!("{name}{number}"));
                } else if at < words.len() {
                    words.remove(at);
                }
            }
            words
        };
        let (l, r) = (side("l", &left), side("r", &right));
        let result = words(&merged(&start.join(" "), &l.join(" "), &r.join(" ")));
        let expected: Vec<String> = start
            .iter()
            .filter(|word| l.contains(word) && r.contains(word))
            .chain(l.iter().filter(|word| word.starts_with('l')))
            .chain(r.iter().filter(|word| word.starts_with('r')))
            .cloned()
            .collect();
        prop_assert_eq!(counts(&result), counts(&expected));
        for side in [&l, &r] {
            for run in side.split(|word| word.starts_with('b')).filter(|run| !run.is_empty()) {
                prop_assert!(result.windows(run.len()).any(|window| window == run), "{:?}", run);
            }
        }
    }

    #[test]
    fn no_word_fuses_with_another([base, left, right] in three()) {
        // P8: each word of the result is a word of a side, or both sides' edit of one word.
        let texts = [&base, &left, &right].map(|text| text.replace("\r\n", "\n"));
        let [b, l, r] = texts.each_ref().map(|text| split(text));
        let both = |word: &str| {
            let made = |b, l| r.iter().any(|r| inside_word(b, l, *r).is_some_and(|made| made == word));
            b.iter().any(|b| l.iter().any(|l| made(*b, *l)))
        };
        for word in words(&merged(&base, &left, &right)) {
            let known = b.iter().chain(&l).chain(&r).any(|there| there.text == word.as_str());
            prop_assert!(known || both(&word), "{:?}", word);
        }
    }
}

/// The full length of issue and specification on request, else a second's worth.
fn cases() -> u32 {
    if std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1") {
        100_000
    } else {
        2_000
    }
}
