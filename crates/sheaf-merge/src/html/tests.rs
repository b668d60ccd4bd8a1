//! Laws of the tree merge without its short cuts, over documents out of tag soup (specification
//! 3.13, P1 to P10).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{inline::Item, *};

fn cases() -> u32 {
    if std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1") {
        100_000
    } else {
        1_000
    }
}

fn merged(policy: Policy, [base, left, right]: [&String; 3]) -> String {
    merge_trees(policy, base, left, right).expect("short documents are within the limits").0
}

/// Pieces of markup: few names and ids, so that versions meet.
fn soup() -> impl Strategy<Value = Vec<String>> {
    let fixed =
        |parts: &'static [&'static str]| prop::sample::select(parts).prop_map(str::to_owned);
    let block = prop::sample::select(
        &[
            "p",
            "div",
            "ul",
            "li",
            "table",
            "tr",
            "td",
            "h1",
            "pre",
            "dl",
            "dd",
            "blockquote",
            "tbody",
            "x-y",
        ][..],
    );
    let id = prop::sample::select(&["1", "2", "3", "4", "5", "6", "7", "8"][..]);
    let part = prop_oneof![
        5 => fixed(&["a", "b", "c", "word", "x1", "'", ",", "recieve", "&lt;", "&amp;lt;"]),
        3 => fixed(&[" ", " ", "\n", "\u{a0}", "  "]),
        4 => fixed(&["<b>", "</b>", "<i>", "</i>", "<code>", "</code>", "<a href=1>", "<a href=2>", "</a>", "<span class='x y'>", "<span class=z>", "</span>"]),
        1 => fixed(&["<br>", "<img src=1>", "<img id=i src=2>", "<hr id=h>", "<hr>", "<iframe src=3>x</iframe>", "<script>a<b</script>", "<!-- c -->", "<textarea>q<b></textarea>"]),
        1 => fixed(&["&#0;", "\0", "<", "</", "<b", "\u{301}", "\u{65e5}", "&#13;", "<p class=\"a b\" style='color: red; top: 1px' id=s>", "\"", "\r\n"]),
        4 => (block.clone(), id).prop_map(|(tag, id)| format!("<{tag} id={id}>")),
        1 => block.clone().prop_map(|tag| format!("<{tag}>")),
        2 => block.prop_map(|tag| format!("</{tag}>")),
    ];
    prop::collection::vec(part, 0..24)
}

/// Canonical documents: a base and two edits of it, or strangers with the same ids.
fn three() -> impl Strategy<Value = [String; 3]> {
    let edits = || prop::collection::vec((0_usize..60, 0_usize..6, soup()), 1..3);
    prop_oneof![
        1 => [soup(), soup(), soup()].prop_map(|soups| soups.map(|soup| canon(&soup.concat()))),
        4 => (soup(), edits(), edits()).prop_map(|(base, left, right)| {
            let base = canon(&base.concat());
            // Cut where markup begins, so that an edit takes tags and words, not bytes.
            let parts: Vec<String> = base.split_inclusive(['>', ' ']).map(str::to_owned).collect();
            let apply = |edits: Vec<(usize, usize, Vec<String>)>| {
                let mut parts = parts.clone();
                for (at, gone, new) in edits {
                    let at = at.min(parts.len());
                    let end = (at + gone).min(parts.len());
                    parts.splice(at..end, new.into_iter().take(4));
                }
                canon(&parts.concat())
            };
            [base.clone(), apply(left), apply(right)]
        }),
    ]
}

fn ids(html: &str) -> BTreeSet<String> {
    let doc = parse(html, DEPTH_MAX);
    doc.preorder().into_iter().map(|(at, _)| doc.nodes[at].id.clone()).collect()
}

/// The visible signs and elements of a document, in no order: tags may cut words in two.
fn signs(html: &str) -> BTreeMap<String, usize> {
    let mut signs = BTreeMap::new();
    for node in parse(html, DEPTH_MAX).nodes {
        if let Content::Text(inline) = node.content {
            for leaf in &inline.leaves {
                let names = match &leaf.item {
                    Item::Text(text, _) => text.as_str().chars().map(String::from).collect(),
                    Item::Void { key, .. } => vec![key.clone()],
                };
                for name in names {
                    *signs.entry(name).or_default() += 1;
                }
            }
        }
    }
    signs
}

/// A tree in which every node but the root is the child of its parent once, and ids are distinct.
fn is_tree(html: &str) -> bool {
    let doc = parse(html, DEPTH_MAX);
    let order = doc.preorder();
    let places: BTreeSet<usize> = order.iter().map(|(at, _)| *at).collect();
    let names: BTreeSet<&str> = order.iter().map(|&(at, _)| doc.nodes[at].id.as_str()).collect();
    order.len() == places.len() && names.len() == order.len()
}

const POLICIES: [Policy; 3] = [Policy::Hoist, Policy::Drop, Policy::UpdateWins];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn canonical_is_canonical(soup in soup()) {
        let once = canon(&soup.concat());
        prop_assert_eq!(canon(&once), once);
    }

    #[test]
    fn canonical_keeps_the_words(soup in soup()) {
        let soup: Vec<String> = soup.into_iter().filter(|part| !part.contains(['<', '&', '\0', '"'])).collect();
        let words: String = soup.concat().split_whitespace().collect();
        let text: String = canon(&soup.join("<i>")).split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect();
        prop_assert_eq!(text.split_whitespace().collect::<String>(), words);
    }

    #[test]
    fn identities([base, left, right] in three()) {
        for policy in POLICIES {
            prop_assert_eq!(&merged(policy, [&base, &base, &right]), &right); // P1
            prop_assert_eq!(&merged(policy, [&base, &left, &base]), &left); // P2
            prop_assert_eq!(&merged(policy, [&base, &left, &left]), &left); // P3
            let result = merged(policy, [&base, &left, &right]);
            prop_assert_eq!(&merged(policy, [&right, &result, &right]), &result); // P4
            prop_assert_eq!(&merged(policy, [&left, &result, &left]), &result);
        }
    }

    #[test]
    fn results_are_canonical_trees([base, left, right] in three()) {
        for policy in POLICIES {
            let result = merged(policy, [&base, &left, &right]);
            prop_assert_eq!(&canon(&result), &result); // P8
            prop_assert!(is_tree(&result)); // P9
        }
    }

    #[test]
    fn blocks_are_those_of_the_inclusion_rule([base, left, right] in three()) {
        let result = ids(&merged(Policy::Hoist, [&base, &left, &right]));
        let [base, left, right] = [&base, &left, &right].map(|html| ids(html));
        for id in base.iter().chain(&left).chain(&right) {
            let (b, l, r) = (base.contains(id), left.contains(id), right.contains(id));
            let included = (l && r) || (!b && (l || r));
            // Padding and wrappers are made anew where they are needed.
            prop_assert!(id.starts_with("w:") || result.contains(id) == included, "{}", id); // P6
        }
        for id in &result {
            let known = base.contains(id) || left.contains(id) || right.contains(id);
            prop_assert!(known || id.starts_with("w:"), "{}", id);
        }
    }

    #[test]
    fn nothing_that_was_typed_is_lost(left in typing(), right in typing()) {
        let base = blocks(&[], 'x');
        let sides = [blocks(&left, 'l'), blocks(&right, 'r')];
        let result = merged(Policy::Hoist, [&base, &sides[0], &sides[1]]);
        let [there, in_left, in_right] = [&result, &sides[0], &sides[1]].map(|html| ids(html));
        for (side, other) in [(&left, &in_right), (&right, &in_left)] {
            let name = if std::ptr::eq(side, &left) { 'l' } else { 'r' };
            for (number, (at, what)) in side.iter().enumerate() {
                let word = format!("{name}{number}");
                let count = result.split(['<', '>', ' ']).filter(|there| **there == word).count();
                let block = format!("b{}", at % 6);
                let mine = if name == 'l' { &in_left } else { &in_right };
                match what {
                    // A block that somebody deleted is gone with what was typed into its text.
                    0 | 1 if there.contains(&block) => prop_assert_eq!(count, 1, "{}", result),
                    0 | 1 => prop_assert!(!(other.contains(&block) && mine.contains(&block))),
                    2 => prop_assert_eq!((count, there.contains(&word)), (1, true), "{}", result),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn sides_can_be_swapped_but_for_order([base, left, right] in three()) {
        let one = merged(Policy::Hoist, [&base, &left, &right]);
        let two = merged(Policy::Hoist, [&base, &right, &left]);
        let real = |html: &str| ids(html).into_iter().filter(|id| !id.starts_with("w:")).collect::<Vec<_>>();
        prop_assert_eq!(real(&one), real(&two)); // P7
    }

    #[test]
    fn one_block_merges_its_words_like_a_text(
        [base, left, right] in [inline(), inline(), inline()],
    ) {
        let html = [&base, &left, &right].map(|parts| format!("<p id=p>{}</p>", parts.concat()));
        let [b, l, r] = html.each_ref().map(|html| canon(html));
        let one = merged(Policy::Hoist, [&b, &l, &r]);
        let two = merged(Policy::Hoist, [&b, &r, &l]);
        prop_assert_eq!(signs(&one), signs(&two)); // P7
    }

    #[test]
    fn marks_on_one_side_and_words_on_the_other_meet(
        marks in prop::collection::vec((0_usize..8, 1_usize..4, prop::bool::ANY), 0..3),
        words in prop::collection::vec((0_usize..9, prop::bool::ANY), 0..4),
    ) {
        marks_and_words(&marks, &words)?;
    }
}

/// What a person does to which block: type a plain word (0) or a bold one (1), put a block behind
/// it (2), delete it (3).
fn typing() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((0_usize..12, 0_u8..4), 0..6)
}

/// Lists with blocks of text, after what a person did to them.
fn blocks(edits: &[(usize, u8)], name: char) -> String {
    let mut items: Vec<(String, String)> =
        (0..6).map(|at| (format!("b{at}"), format!("one{at} two{at}"))).collect();
    for (number, (at, what)) in edits.iter().enumerate() {
        let word = format!("{name}{number}");
        let Some(place) = items.iter().position(|(id, _)| *id == format!("b{}", at % 6)) else {
            // Its block is gone already, so it is typed as a block of its own.
            if *what == 2 {
                items.push((word.clone(), word));
            }
            continue;
        };
        match what {
            0 => items[place].1.push_str(&format!(" {word}")),
            1 => items[place].1.insert_str(0, &format!("<b>{word}</b> ")),
            2 => items.insert(place + 1, (word.clone(), word)),
            _ => drop(items.remove(place)),
        }
    }
    let item = |(id, text): &(String, String)| match id.as_str() {
        "b0" => format!("<p id={id}>{text}</p><ul id=u>"),
        _ => format!("<li id={id}>{text}</li>"),
    };
    canon(&items.iter().map(item).collect::<String>())
}

/// Text with marks, in which marks are closed or not, as people's editors leave it.
fn inline() -> impl Strategy<Value = Vec<String>> {
    let part = prop::sample::select(
        &[
            "a ",
            "b ",
            "c ",
            "d ",
            "e",
            " ",
            ",",
            "<b>",
            "</b>",
            "<i>",
            "</i>",
            "<a href=1>",
            "<a href=2>",
            "</a>",
            "<img src=1>",
        ][..],
    );
    prop::collection::vec(part.prop_map(str::to_owned), 0..14)
}

/// P10: eight words; left makes stretches of them bold or slanted, right inserts and deletes.
/// Every word that stays keeps left's marks, whichever side comes first.
fn marks_and_words(
    marks: &[(usize, usize, bool)],
    words: &[(usize, bool)],
) -> Result<(), TestCaseError> {
    let names: Vec<String> = (0..8).map(|at| format!("w{at}")).collect();
    let marked = |at: usize, mark: bool| {
        marks.iter().any(|&(from, len, which)| which == mark && (from..from + len).contains(&at))
    };
    let write = |words: &[String], with_marks: bool| {
        let word =
            |word: &String| match word.strip_prefix('w').and_then(|n| n.parse::<usize>().ok()) {
                Some(at) if with_marks => {
                    let (b, i) = (marked(at, true), marked(at, false));
                    let bold = if b { format!("<b>{word}</b>") } else { word.clone() };
                    if i { format!("<i>{bold}</i>") } else { bold }
                }
                _ => word.clone(),
            };
        canon(&format!("<p id=p>{}</p>", words.iter().map(word).collect::<Vec<_>>().join(" ")))
    };
    let mut edited = names.clone();
    for (number, &(at, insert)) in words.iter().enumerate() {
        if insert {
            edited.insert(at.min(edited.len()), format!("n{number}"));
        } else if at < edited.len() {
            edited.remove(at);
        }
    }
    let (base, bold, typed) = (write(&names, false), write(&names, true), write(&edited, false));
    for result in [
        merged(Policy::Hoist, [&base, &bold, &typed]),
        merged(Policy::Hoist, [&base, &typed, &bold]),
    ] {
        let doc = parse(&result, DEPTH_MAX);
        let Content::Text(inline) = &doc.nodes[1].content else { panic!("{result}") };
        let expected: BTreeSet<&str> = edited.iter().map(String::as_str).collect();
        let mut there = BTreeSet::new();
        for leaf in &inline.leaves {
            let Item::Text(text, _) = &leaf.item else { panic!("{result}") };
            let text = text.as_str();
            there.insert(text);
            if let Some(at) = text.strip_prefix('w').and_then(|n| n.parse::<usize>().ok()) {
                let has = |name| leaf.marks.iter().any(|mark| mark.name == name);
                prop_assert_eq!(
                    (has("b"), has("i")),
                    (marked(at, true), marked(at, false)),
                    "{}",
                    result
                );
            }
        }
        prop_assert_eq!(there, expected, "{}", result);
    }
    Ok(())
}
