//! The examples of `docs/consistency.md`, run as they stand, over a bucket and over a node.
//!
//! Invariant: a comment in an example is what is printed, so a document that is no longer true
//! fails here. Lines below a command are its output. Beside it, stands its output on one line
//! (`...` for anything, `, ` between lines), or `exit status N: WORDS` of the error; what is in
//! brackets at the end is for people. A command without any of these succeeds.

use std::process::{Command, Stdio};

use crate::bed::{Bed, Node};

const DOCUMENT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/consistency.md"));
/// Fewer would mean that the examples are not found any more.
const COMMANDS_MIN: usize = 130;

/// A command of an example, and what the document says of it.
#[derive(Debug, Default)]
struct Step {
    line: usize,
    command: String,
    /// What is beside the command.
    note: Option<String>,
    /// What is below it.
    below: Vec<String>,
}

/// The commands of all examples, without the first one, which says how they are run.
fn steps() -> Vec<Step> {
    let (mut steps, mut examples, mut is_in) = (Vec::<Step>::new(), 0, false);
    let mut open = String::new();
    for (line, text) in (1..).zip(DOCUMENT.lines()) {
        match (is_in, text) {
            (false, "```sh") => (is_in, examples) = (true, examples + 1),
            (true, "```") => is_in = false,
            (true, text) if examples > 1 => match text.strip_prefix("# ") {
                Some(below) => steps.last_mut().unwrap().below.push(below.to_owned()),
                None => {
                    open.push_str(text);
                    if open.matches('"').count() % 2 == 1 || open.matches('\'').count() % 2 == 1 {
                        open.push('\n');
                        continue;
                    }
                    let (command, note) = open.rsplit_once("  # ").unwrap_or((&open, ""));
                    let note = Some(note.to_owned()).filter(|note| !note.is_empty());
                    let command = command.trim_end().to_owned();
                    steps.push(Step { line, command, note, below: Vec::new() });
                    open.clear();
                }
            },
            _ => {}
        }
    }
    assert!(steps.len() >= COMMANDS_MIN, "{}", steps.len());
    steps
}

/// Whether a text is what a pattern says, where `...` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let pieces: Vec<&str> = pattern.split("...").map(str::trim).collect();
    let [first, middle @ .., last] = &pieces[..] else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for piece in middle {
        match rest.split_once(piece) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Runs one command in a shell; fails unless it does what the document says.
fn run(bed: &Bed, server: &str, token: &str, step: &Step) {
    let Step { line, command, note, below } = step;
    let prelude = "ann() { sheaf --dir ann \"$@\"; }\nbob() { sheaf --dir bob \"$@\"; }\n";
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_sheaf")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("{prelude}{command}")])
        .current_dir(bed.path(""))
        .env("PATH", format!("{}:{path}", program.display()))
        .env("SHEAF_SERVER", server)
        .env("SHEAF_TOKEN", token)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    let told = format!("docs/consistency.md:{line}: {command}\n{out}{err}");
    let note = note.as_deref().map(|note| match note.strip_suffix(')') {
        Some(_) if note.starts_with('(') => "",
        Some(_) => note.rsplit_once(" (").map_or(note, |(said, _)| said),
        None => note,
    });
    let (code, said) = match note.and_then(|note| note.strip_prefix("exit status ")) {
        None => (0, None),
        Some(status) => {
            let (code, said) = status.split_once(": ").unwrap_or((status, ""));
            (code.parse().unwrap(), Some(said))
        }
    };
    assert_eq!(output.status.code(), Some(code), "{told}");
    if let Some(said) = said {
        assert!(err.contains(said), "not `{said}`: {told}");
    } else if let Some(note) = note.filter(|note| !note.is_empty()) {
        let lines: Vec<String> =
            out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(is_like(note, &lines.join(", ")), "not `{note}`: {told}");
    }
    if !below.is_empty() {
        let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
        assert_eq!(&lines, below, "{told}");
    }
}

#[test]
fn the_examples_print_what_the_document_says_over_a_bucket() {
    let bed = Bed::new();
    let bucket = bed.bucket();
    steps().iter().for_each(|step| run(&bed, &bucket, "", step));
}

#[test]
fn the_examples_print_what_the_document_says_over_a_node() {
    let bed = Bed::new();
    let node = Node::start(&bed.path("node"), &[]);
    steps().iter().for_each(|step| run(&bed, &node.url, &node.token, step));
}

#[test]
fn patterns() {
    for (pattern, text, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a ...", "a and b", true),
        ("... b", "a and b", true),
        ("a ... c", "a and b", false),
        ("a ... d ...", "a and b", true),
    ] {
        assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
    }
}
