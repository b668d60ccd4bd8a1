//! The rule `html` from outside: the written vectors, devices behind one order, hostile input.

mod vectors;

use std::collections::BTreeMap;

use proptest::prelude::*;
use sheaf_merge::html::{self, Policy};

fn vectors() -> Vec<BTreeMap<String, String>> {
    vectors::read(include_str!("vectors/html.json"))
}

fn policy(vector: &BTreeMap<String, String>) -> Policy {
    match vector.get("policy").map(String::as_str) {
        None => Policy::Hoist,
        Some("drop") => Policy::Drop,
        Some("update-wins") => Policy::UpdateWins,
        Some(other) => panic!("no such policy: {other}"),
    }
}

fn merge(policy: Policy, base: &str, left: &str, right: &str) -> String {
    html::try_merge(policy, base, left, right).expect("short documents are within the limits")
}

#[test]
fn all_vectors() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 51);
    let wrong: Vec<String> = vectors
        .iter()
        .filter_map(|v| {
            let ours = merge(policy(v), &v["base"], &v["left"], &v["right"]);
            (ours != v["result"])
                .then(|| format!("{}\n ours   {ours}\n theirs {}", v["id"], v["result"]))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_vectors_results_absorb_a_new_base() {
    for v in vectors() {
        let (policy, result) = (policy(&v), &v["result"]);
        let [left, right] = [&v["left"], &v["right"]].map(|html| html::canon(html));
        assert_eq!(&html::canon(result), result, "{}", v["id"]);
        assert_eq!(&merge(policy, &right, result, &right), result, "{}", v["id"]);
        assert_eq!(&merge(policy, &left, &left, result), result, "{}", v["id"]);
    }
}

#[test]
fn what_needs_no_merge_is_returned_as_it_is() {
    assert_eq!(html::merge("<b>x", "<b>x", "<i>y"), "<i>y");
    assert_eq!(html::merge("<b>x", "<i>y", "<b>x"), "<i>y");
    assert_eq!(html::merge("", "<i>y", "<i>y"), "<i>y");
}

#[test]
fn blocks_without_ids_are_known_by_what_they_hold() {
    let result = html::merge("<p>a<p>b<p>c", "<p>a<p>c", "<p>a<p>b<p>new<p>c");
    let text = result
        .replace("</p>", "")
        .split('>')
        .map(|part| part.split('<').next().unwrap_or("").to_owned())
        .collect::<String>();
    assert_eq!(text, "anewc");
    assert_eq!(html::canon(&result), result);
}

#[test]
fn words_survive_where_the_other_side_made_blocks_of_the_text() {
    // Left puts a list into the item; its text becomes a paragraph, into which right's words go.
    let result = html::merge(
        "<ul id=u><li id=a>one two</li></ul>",
        "<ul id=u><li id=a>one two<ul id=v><li id=b>sub</li></ul></li></ul>",
        "<ul id=u><li id=a>one new two</li></ul>",
    );
    assert!(result.contains(">one new two</p><ul id=\"v\">"), "{result}");
    // Left replaces the text by blocks that have none of it.
    let result = html::merge(
        "<blockquote id=q>one two</blockquote>",
        "<blockquote id=q><hr id=h><ul id=u><li id=l>x</li></ul></blockquote>",
        "<blockquote id=q>one new two</blockquote>",
    );
    assert!(result.contains("<p id=\"w:q\">new</p>"), "{result}");
    // And the other way round: right writes into a block that left made a text.
    let result = html::merge(
        "<blockquote id=q><p id=a>one</p></blockquote>",
        "<blockquote id=q>one</blockquote>",
        "<blockquote id=q><p id=a>one</p><p id=b>two</p></blockquote>",
    );
    assert!(result.contains(">one</p>") && result.contains("<p id=\"b\">two</p>"), "{result}");
}

#[test]
fn words_survive_where_the_other_side_made_a_block_without_content() {
    for (base, text, line, words) in [
        ("", "<p id=5>hello</p>", "<hr id=5>", "hello"),
        ("<p id=a>one</p>", "<p id=a>one two</p>", "<hr id=a>", "two"),
        (
            "<p id=a>one</p><p id=b>x</p>",
            "<p id=a>more one</p><p id=b>x</p>",
            "<hr id=a><p id=b>x</p>",
            "more",
        ),
    ] {
        for (left, right) in [(text, line), (line, text)] {
            let merged = html::merge(base, left, right);
            assert!(merged.contains(words), "{left} and {right}: {merged}");
            assert_eq!(html::canon(&merged), merged);
        }
    }
    // Where nothing was written, the line stands.
    assert_eq!(html::merge("<p id=a>one</p>", "<p id=a>one</p>", "<hr id=a>"), "<hr id=a>");
    let gone = html::merge("<p id=a>one two</p>", "<p id=a>one</p>", "<hr id=a>");
    assert_eq!(gone, "<hr id=\"a\">");
}

#[test]
fn words_that_one_side_deleted_are_gone_where_the_other_side_wrapped_them() {
    let (base, wrapped) =
        ("<ul id=u><li id=a>hello</li></ul>", "<ul id=u><li id=a><p id=b>hello</p></li></ul>");
    for (left, right) in
        [(wrapped, "<ul id=u><li id=a></li></ul>"), ("<ul id=u><li id=a></li></ul>", wrapped)]
    {
        let merged = html::merge(base, left, right);
        assert!(!merged.contains("hello"), "{merged}");
        assert_eq!(html::canon(&merged), merged);
    }
}

#[test]
fn styles_merge_by_property() {
    let p = |style: &str| format!("<p id=\"p\" style=\"{style}\">x</p>");
    let (base, left, right) =
        (p("color: red; top: 1px"), p("color: blue; top: 1px"), p("top: 2px"));
    assert_eq!(html::merge(&base, &left, &right), p("top: 2px").replace("top", "color: blue; top"));
}

#[test]
fn what_html_does_not_allow_is_wrapped() {
    let text = |html: &str| html::canon(html);
    assert_eq!(
        text("<li id=a>x<li id=b>y"),
        "<ul id=\"w:a\"><li id=\"a\">x</li><li id=\"b\">y</li></ul>"
    );
    assert_eq!(
        text("<ul id=u><p id=p>x</ul>"),
        "<ul id=\"u\"><li id=\"w:p\"><p id=\"p\">x</p></li></ul>"
    );
    assert_eq!(text("<td id=a>x"), "<p id=\"a\">x</p>");
    assert_eq!(
        text("<table id=t><td id=a>x</table>"),
        "<table id=\"t\"><tr id=\"w:a\"><td id=\"a\">x</td></tr></table>"
    );
    assert_eq!(text("<pre id=p>\n\n x\n</pre>"), "<pre id=\"p\">\n\n x\n</pre>");
    assert_eq!(text("<p id=p>a &amp;lt; &quot;b&quot;</p>"), "<p id=\"p\">a &amp;lt; \"b\"</p>");
    assert_eq!(text("<p id=p>x<script>a<b</script>y<!-- c --></p>"), "<p id=\"p\">xy</p>");
}

/// Devices that edit offline and one order in which their edits are merged, with a new base on
/// every merge. Every word that was written into a block that stays is there once, in the end.
fn converge(devices: usize, steps: &[(usize, bool, usize)]) {
    let start = "<p id=\"a\">one</p><ul id=\"u\"><li id=\"b\">two</li><li id=\"c\">three</li></ul>";
    let mut global = String::from(start);
    let mut versions = vec![(global.clone(), global.clone()); devices];
    let mut written = Vec::new();
    let rounds = (0..2 * devices).map(|device| (device, false, 0));
    for (device, write, at) in steps.iter().copied().chain(rounds) {
        let (seen, local) = versions.get_mut(device % devices).expect("there are devices");
        if write {
            // Behind some tag: a word, a bold word, or a block.
            let ends: Vec<usize> = local
                .match_indices("</p>")
                .chain(local.match_indices("</li>"))
                .map(|(at, _)| at)
                .collect();
            let word = format!("w{}", written.len());
            match (at % 4, ends.get(at % ends.len())) {
                (0, Some(&end)) => local.insert_str(end, &format!(" <b>{word}</b>")),
                (1 | 2, Some(&end)) => local.insert_str(end, &format!(" {word}")),
                _ => {
                    let end = local.find("</ul>").expect("the list stays");
                    local.insert_str(end, &format!("<li id=\"{word}\">{word}</li>"));
                }
            }
            *local = html::canon(local);
            written.push(word);
        } else {
            global = html::merge(seen, local, &global);
            (*seen, *local) = (global.clone(), global.clone());
        }
    }
    assert!(versions.iter().all(|(_, local)| local == &global));
    for word in ["one", "two", "three"].into_iter().chain(written.iter().map(String::as_str)) {
        let words = global.split(['<', '>', ' ']).filter(|there| *there == word);
        assert_eq!(words.count(), 1, "{word}: {global}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if long() { 100_000 } else { 100 }))]

    #[test]
    fn devices_behind_one_order_converge(
        devices in 2_usize..6,
        steps in prop::collection::vec((0_usize..5, prop::bool::weighted(0.7), 0_usize..20), 0..30),
    ) {
        converge(devices, &steps);
    }

    #[test]
    fn any_text_is_a_document(base in ".{0,60}", left in "[<>/&;a-z =\"'!-]{0,60}", right in "[<>/bpi ]{0,60}") {
        let result = merge(Policy::Hoist, &base, &left, &right);
        if ![&base, &left, &right].contains(&&result) {
            prop_assert_eq!(html::canon(&result), result);
        }
    }
}

fn long() -> bool {
    std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1")
}

#[test]
fn hostile_documents_become_documents() {
    let size = if long() { 1_000_000 } else { 20_000 };
    let parts = [
        "<div>",
        "<ul><li>",
        "<table><tr><td>",
        "<b>",
        "<b>x<i>y</b>",
        "<span class=a>x",
        "<a href=1>x",
        "</p>",
        "<p>",
        "<",
        "&",
        "<li>",
        "<dl><dd>",
        "<p id=a>",
        "\0",
        "<p \0=\0>",
        "&#xd800;",
        "<b a=\"",
        "<td>",
        "<tr><td><tr>",
        "<blockquote>x",
        "<!--",
        "<textarea>",
        "<svg><path d=1>",
        "x<br>",
        "<pre>\n",
        "<table>x",
        "<ul>x</ul><li>",
        "<iframe>",
        "\u{fdd0}",
        "<dt><li><tr>",
    ];
    // Documents of this size are not for reading, so failures do not print them.
    let is_canonical = |html: &str| html::canon(html) == html;
    for part in parts {
        let html = part.repeat(size / part.len());
        assert!(is_canonical(&html::canon(&html)), "{part:?}");
        let (left, right) = (format!("<p id=l>left</p>{html}"), format!("{html}<p id=r>right"));
        let result = html::merge(&html, &left, &right);
        assert!(result.contains("left"), "{part:?}");
        assert!(is_canonical(&result), "{part:?}");
    }
}

#[test]
fn attributes_may_be_large_and_many() {
    let value = "\"&<x".repeat(10_000);
    let escaped = value.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let html = format!("<p id=\"p\" title=\"{escaped}\">x</p>");
    assert_eq!(html::canon(&html), html);
    let many: String = (0..html::ATTRS_MAX + 1).map(|n| format!(" a{n}=1")).collect();
    let many = format!("<p id=p{many}>x</p>");
    assert_eq!(html::try_merge(Policy::Hoist, "", &many, "<p id=q>y</p>"), None);
}

#[test]
fn beyond_the_limits_left_stands_and_says_so() {
    let none = |left: &str, right: &str| {
        assert_eq!(html::try_merge(Policy::Hoist, "", left, right), None);
        assert_eq!(html::merge("", left, right), html::canon(left));
    };
    none("<b>left", &"x".repeat(html::HTML_BYTES_MAX + 1));
    none("<b>left", &"<hr>".repeat(html::NODES_MAX + 1));
    none("<b>left", &format!("{}x", "<div>".repeat(html::DEPTH_MAX + 1)));
    let deep = format!("{}x", "<div>".repeat(html::DEPTH_MAX));
    assert!(html::try_merge(Policy::Hoist, "", "<b>left", &deep).is_some());
}

#[test]
fn moves_into_each_other_cannot_nest_without_bound() {
    // Left puts each even block into the next, right each odd one: one chain of all of them.
    let count = 3_000;
    let flat: String = (0..count).map(|n| format!("<div id={n}></div>")).collect();
    let pairs = |from: usize| -> String {
        let pair = |n: usize| format!("<div id={}><div id={n}></div></div>", n + 1);
        (0..from)
            .map(|n| format!("<div id={n}></div>"))
            .chain((from..count - 1).step_by(2).map(pair))
            .collect()
    };
    let result = html::merge(&flat, &pairs(0), &pairs(1));
    assert!(html::canon(&result) == result, "it is not canonical");
    let (mut depth, mut deepest) = (0_usize, 0);
    for part in result.split('<').filter(|part| !part.is_empty()) {
        depth = if part.starts_with('/') { depth - 1 } else { depth + 1 };
        deepest = deepest.max(depth);
    }
    assert!(deepest <= html::DEPTH_MAX, "{deepest}");
}

/// Paragraphs that nobody wrote are named before they are taken up into their items, and what they
/// are called stays taken.
#[test]
fn names_given_to_what_is_gone_are_not_given_again() {
    assert_eq!(
        html::canon("<ul id=u><li id=a>x<li id=b>y<li id=c>z</ul><p id=~2>p</p><p id=~4>q</p>"),
        "<ul id=\"u\"><li id=\"a\">x</li><li id=\"b\">y</li><li id=\"c\">z</li></ul>\
         <p id=\"~2~2\">p</p><p id=\"~4\">q</p>"
    );
}
