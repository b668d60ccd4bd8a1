//! Inputs that are hard on one part of a merge each: three versions of up to so many bytes.

use sheaf_merge::Rule;

type Make = fn(usize) -> [String; 3];

/// Name, rule, versions.
pub(crate) const CASES: &[(&str, Rule, Make)] = &[
    ("one word again and again", Rule::Text, |size| edited(&repeat("words ", size))),
    ("more tokens than are merged", Rule::Text, |size| edited(&repeat(". ", size))),
    ("two words in turns", Rule::Text, |size| edited(&repeat("aaaaa bbbbb ", size))),
    ("two words in turns, out of step", Rule::Text, |size| {
        let words = repeat("aaaaa bbbbb ", size - 20);
        [words.clone(), format!("bbbbb l {words}"), format!("{words} r aaaaa")]
    }),
    ("few words in any order", Rule::Text, |size| edited(&random(size, 4, 1))),
    ("strangers of few words", Rule::Text, |size| [1, 2, 3].map(|seed| random(size, 4, seed))),
    ("strangers of some words", Rule::Text, |size| [1, 2, 3].map(|seed| random(size, 2_000, seed))),
    ("strangers without a common word", Rule::Text, |size| {
        ["b", "l", "r"].map(|name| numbered(name, size, false))
    }),
    ("words in reverse", Rule::Text, |size| {
        let words = numbered("w", size, false);
        [words.clone(), numbered("w", size, true), edited(&words)[2].clone()]
    }),
    ("islands between landmarks", Rule::Text, islands),
    ("every second word replaced", Rule::Text, |size| {
        let words =
            |name: &str, odd: usize| -> String {
                (0..size / 8)
                    .map(|at| {
                        if at % 2 == odd { format!("{name}{at:06} ") } else { format!("w{at:06} ") }
                    })
                    .collect()
            };
        [words("w", 0), words("l", 0), words("r", 1)]
    }),
    ("one word of a megabyte", Rule::Text, |size| {
        let word = repeat("w", size - 2);
        [word.clone(), format!("l{word}"), format!("{word}r")]
    }),
    ("one cluster of a megabyte", Rule::Text, |size| edited(&repeat("\u{301}", size))),
    ("apostrophes before long clusters", Rule::Text, |size| {
        edited(&repeat(&format!("a'{}", repeat("\u{301}", 200)), size))
    }),
    ("flags", Rule::Text, |size| edited(&repeat("\u{1f1e6}", size))),
    ("families", Rule::Text, |size| edited(&repeat("\u{1f469}\u{200d}", size))),
    ("conjuncts", Rule::Text, |size| edited(&repeat("\u{915}\u{94d}", size))),
    ("signs of a script without spaces", Rule::Text, |size| edited(&repeat("\u{65e5}", size))),
    ("line ends", Rule::Text, |size| edited(&repeat("words\r\n", size))),
    ("white space", Rule::Text, |size| edited(&repeat(" ", size))),
    ("one paragraph", Rule::Html, |size| {
        document(&format!("<p id=p>{}</p>", repeat("words ", size - 30)), size)
    }),
    ("few words in any order", Rule::Html, |size| {
        document(&format!("<p id=p>{}</p>", random(size - 40, 4, 1)), size)
    }),
    ("strangers of few words", Rule::Html, |size| {
        [1, 2, 3].map(|seed| format!("<p id=p>{}</p>", random(size - 40, 4, seed)))
    }),
    ("a mark on every word", Rule::Html, |size| document(&repeat("<b>word</b> ", size), size)),
    ("another mark on every word", Rule::Html, |size| {
        document(&many(size, |at| format!("<span class={at}>w</span> ")), size)
    }),
    ("marks inside marks", Rule::Html, |size| {
        let open: String = (0..31).map(|at| format!("<span class={at}>")).collect();
        document(&format!("{open}{}", repeat("ww<i>xx</i>", size - open.len() - 30)), size)
    }),
    ("as many marks as are merged", Rule::Html, |size| {
        document(&format!("<b><s>{}", repeat("ww<i>xx</i>", size - 50)), size)
    }),
    ("marks that cross", Rule::Html, |size| {
        document(&many(size, |at| format!("<span class={at}>w<span id={at}>w</span>")), size)
    }),
    ("marks of long attributes in a staircase", Rule::Html, |size| {
        let long = repeat("x", 2_000);
        document(
            &many(size, |at| {
                let names = [
                    "b", "i", "u", "s", "em", "strong", "sub", "sup", "code", "kbd", "mark",
                    "small",
                ];
                let name = |at: usize| names.iter().cycle().nth(at % 12).unwrap_or(&"b");
                let (name, ended) = (name(at), name(at + 1));
                format!("<{name} title={at}{long}>w</{ended}>w")
            }),
            size,
        )
    }),
    ("blocks without end", Rule::Html, |size| document(&repeat("<div>", size), size)),
    ("blocks as deep as they are kept", Rule::Html, |size| {
        document(
            &format!(
                "{}{}",
                repeat("<div>", 199 * 5),
                repeat("<p>some words here x", size - 1_100)
            ),
            size,
        )
    }),
    ("ends of nothing deep inside", Rule::Html, |size| {
        document(&format!("{}x{}", repeat("<div>", 199 * 5), repeat("</p>", size - 1_100)), size)
    }),
    ("more blocks than are merged", Rule::Html, |size| document(&repeat("<p>", size), size)),
    ("empty blocks", Rule::Html, |size| document(&repeat("<blockquote></blockquote>", size), size)),
    ("blocks of text", Rule::Html, |size| {
        document(&many(size, |at| format!("<p id={at}>word {at} of many words</p>")), size)
    }),
    ("blocks in reverse", Rule::Html, |size| {
        let block = |at: usize| format!("<p id={at:06}>word {at:06} of many</p>");
        let count = size / 40 - 2;
        let there: String = (0..count).map(block).collect();
        let back: String = (0..count).rev().map(block).collect();
        [there.clone(), format!("{back}<p id=l>l"), format!("<p id=r>r</p>{there}")]
    }),
    ("lists in lists", Rule::Html, |size| document(&repeat("<ul><li>x", size), size)),
    ("rows of tables to fill up", Rule::Html, |size| {
        let rows = repeat("<tr class=\"abcdefghi\">", 45 * 22);
        let table =
            format!("<table><tr>{}{rows}</table>", repeat("<td class=\"abcdefghi\">", 45 * 22));
        document(&repeat(&table, size), size)
    }),
    ("breaks", Rule::Html, |size| document(&repeat("xxxxxx<br>", size), size)),
    ("one attribute of a megabyte", Rule::Html, |size| {
        let value = repeat("&amp;", size - 60);
        document(&format!("<p id=p title=\"{value}\">x</p>"), size)
    }),
    ("one attribute of both, not the same", Rule::Html, |size| {
        let value = repeat("a ", size - 60);
        ["b", "l", "r"].map(|side| format!("<p id=p title=\"{side}{value}\">x</p>"))
    }),
    ("classes", Rule::Html, |size| {
        ["b", "l", "r"]
            .map(|side| format!("<p id=p class=\"{}\">x</p>", numbered(side, size - 30, false)))
    }),
    ("styles", Rule::Html, |size| {
        ["b", "l", "r"].map(|side| {
            let style = many(size - 30, |at| format!("{side}{at}:1;"));
            format!("<p id=p style=\"{style}\">x</p>")
        })
    }),
    ("attributes", Rule::Html, |size| {
        document(
            &many(size, |at| {
                let attrs: String = (0..4_000).map(|name| format!(" a{name}={at}")).collect();
                format!("<p{attrs}>x</p>")
            }),
            size,
        )
    }),
    ("one id again and again", Rule::Html, |size| {
        document(&repeat("<p id=p>some word</p>", size), size)
    }),
    ("ids that look renamed", Rule::Html, |size| {
        document(&many(size, |at| format!("<p id=p~{at}>some words</p><p id=p>more</p>")), size)
    }),
    ("more members than are merged", Rule::Set, |size| {
        [0, 7, 9].map(|from| {
            format!("[{}0]", (0..size / 10).map(|at| format!("{},", from + at)).collect::<String>())
        })
    }),
    ("members as many as are merged", Rule::Set, |size| {
        [0, 7, 9].map(|from| {
            let member =
                |at: usize| format!("\"{:0width$}\"", from + at, width = size / members(size) - 4);
            format!("[{}]", (0..members(size)).map(member).collect::<Vec<_>>().join(","))
        })
    }),
    ("members of many digits", Rule::Set, |size| {
        let digits = repeat("7", size / 10);
        [1, 2, 3].map(|end| {
            format!(
                "[{}]",
                (0..9).map(|at| format!("{digits}{at}{end}")).collect::<Vec<_>>().join(",")
            )
        })
    }),
    ("objects as deep as they are read", Rule::Json, |size| {
        [1, 2, 3].map(|end| {
            let text = repeat("x", size - 1_000);
            format!(
                "{}{end}{}",
                repeat("{\"a\":", 60 * 5),
                format!(",\"b\":\"{text}\"}}") + &repeat("}", 59)
            )
        })
    }),
    ("members of an object", Rule::Json, |size| {
        [0, 7, 9].map(|from| {
            let member = |at: usize| {
                let width = size / members(size) - 9;
                format!("\"{:0width$}\":{at}", from + at)
            };
            format!("{{{}}}", (0..members(size)).map(member).collect::<Vec<_>>().join(","))
        })
    }),
    ("escapes", Rule::Json, |size| {
        [1, 2, 3].map(|at| format!("{{\"a\":{at},\"b{at}\":\"{}\"}}", repeat("\\u0001", size - 40)))
    }),
];

/// As many members as are merged, if there is room for them.
fn members(size: usize) -> usize {
    (size / 40).min(9_998)
}

/// As many whole parts as fit.
fn repeat(part: &str, size: usize) -> String {
    part.repeat(size / part.len())
}

/// Parts by number, as many as fit with some room for what tests add.
fn many(size: usize, part: impl Fn(usize) -> String) -> String {
    let mut all = String::new();
    for at in 0.. {
        let part = part(at);
        if all.len() + part.len() + 40 > size {
            break;
        }
        all.push_str(&part);
    }
    all
}

/// A text and two edits of it, at places that lie far apart on each side.
fn edited(text: &str) -> [String; 3] {
    let end = text.len() - 40.min(text.len());
    let place = |at: usize| (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let with = |word: &str, at: [usize; 2]| {
        let [first, second] = at.map(place);
        format!(
            "{}{word}{}{word}{}",
            &text[..first],
            &text[first..second],
            &text[second..place(end)]
        )
    };
    let (left, right) =
        (with(" left ", [end / 10, end / 2]), with(" right ", [end / 3, end / 10 * 9]));
    [text.to_owned(), left, right]
}

/// A document, and one with a block more at either end.
fn document(html: &str, size: usize) -> [String; 3] {
    let html: &str = html.get(..html.len().min(size - 20)).unwrap_or(html);
    [html.to_owned(), format!("<p id=l>left</p>{html}"), format!("{html}<p id=r>right")]
}

fn numbered(name: &str, size: usize, is_backwards: bool) -> String {
    let count = size / (name.len() + 7);
    let word = |at: usize| format!("{name}{at:06} ");
    if is_backwards { (0..count).rev().map(word).collect() } else { (0..count).map(word).collect() }
}

/// Words of a small vocabulary in an order that a generator (SplitMix64) draws.
fn random(size: usize, words: u64, seed: u64) -> String {
    let mut state = seed;
    let mut all = String::with_capacity(size);
    while all.len() + 8 <= size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        all.push_str(&format!("w{:05} ", (z ^ (z >> 31)) % words));
    }
    all
}

/// Ranges just small enough for an exact table each, between words that occur once.
fn islands(size: usize) -> [String; 3] {
    [1, 2, 3].map(|seed| {
        let mut all = String::new();
        for island in 0..size / 14_100 {
            let words = random(7 * 1_990 + 8, 3, seed * 1_000 + island as u64);
            all.push_str(&format!("landmark{island} {words}"));
        }
        all
    })
}
