//! The arrows between our crates: down only, and roles do not know each other.
//!
//! Leaves out dev-dependencies: a test may set a crate beside one that it must not know.

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::process::{cargo, output};

/// What each crate may know of ours. A crate that is missing here has no place in the house yet.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("sheaf-merge", &[]),
    ("sheaf-volume", &[]),
    ("sheaf-site", &["sheaf-merge", "sheaf-volume"]),
    ("sheaf-sync", &["sheaf-site", "sheaf-volume"]),
    ("sheaf", &["sheaf-merge", "sheaf-site", "sheaf-sync", "sheaf-volume"]),
    ("sheaf-node", &["sheaf-merge", "sheaf-site", "sheaf-sync", "sheaf-volume"]),
    ("notes", &["sheaf"]),
    ("sheaf-cli", ALL),
    ("sheaf-fuzz", ALL),
    ("sheaf-sim", ALL),
    ("xtask", ALL),
];
/// Faces and tools combine what they like.
const ALL: &[&str] =
    &["sheaf", "sheaf-merge", "sheaf-node", "sheaf-site", "sheaf-sync", "sheaf-volume"];
/// Crates of others that would bring a layer what it must not know.
const MUST_NOT_KNOW: &[(&str, &[&str])] = &[
    ("sheaf-merge", &["rusqlite", "sheaf-volume", "tokio"]),
    ("sheaf-volume", &["rusqlite", "libsqlite3-sys"]),
    ("sheaf-site", &["tokio", "object_store"]),
    ("sheaf-sync", &["axum", "reqwest", "tokio", "tokio-tungstenite"]),
];

/// One crate and one crate it depends on.
type Arrow = (String, String);

/// Reads the manifests of the workspace and checks every arrow.
///
/// # Errors
/// When a crate knows what it must not; all such arrows are printed first.
pub(super) fn check() -> anyhow::Result<()> {
    let text = output(cargo()?.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata = serde_json::from_str(&text).context("read cargo metadata")?;
    let (crates, arrows) = read(&metadata).context("cargo metadata has another shape")?;
    let wrong = violations(&crates, &arrows);
    for line in &wrong {
        eprintln!("{line}");
    }
    if !wrong.is_empty() {
        bail!("{} arrows point the wrong way", wrong.len());
    }
    Ok(())
}

fn read(metadata: &Value) -> Option<(Vec<String>, Vec<Arrow>)> {
    let mut crates = Vec::new();
    let mut arrows = Vec::new();
    for package in metadata.get("packages")?.as_array()? {
        let name = package.get("name")?.as_str()?.to_owned();
        for dependency in package.get("dependencies")?.as_array()? {
            if dependency.get("kind")?.as_str() != Some("dev") {
                arrows.push((name.clone(), dependency.get("name")?.as_str()?.to_owned()));
            }
        }
        crates.push(name);
    }
    Some((crates, arrows))
}

fn violations(crates: &[String], arrows: &[Arrow]) -> Vec<String> {
    let unplaced = crates.iter().filter(|name| look_up(MAY_KNOW, name).is_none());
    let unplaced = unplaced.map(|name| format!("{name} has no place in the layers yet"));
    let wrong = arrows.iter().filter(|(from, to)| {
        let ours = crates.contains(to);
        let may = look_up(MAY_KNOW, from).is_none_or(|may| may.contains(&to.as_str()));
        let must_not = look_up(MUST_NOT_KNOW, from).is_some_and(|not| not.contains(&to.as_str()));
        must_not || (ours && !may)
    });
    unplaced.chain(wrong.map(|(from, to)| format!("{from} must not know {to}"))).collect()
}

fn look_up<'a>(table: &'a [(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(key, _)| *key == name).map(|(_, values)| *values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(from: &str, to: &str) -> usize {
        let crates: Vec<String> = MAY_KNOW.iter().map(|(name, _)| (*name).to_owned()).collect();
        violations(&crates, &[(from.to_owned(), to.to_owned())]).len()
    }

    #[test]
    fn arrows_go_down_only() {
        for (from, to) in [
            ("sheaf-site", "sheaf-volume"),
            ("sheaf-sync", "sheaf-volume"),
            ("sheaf", "sheaf-sync"),
            ("sheaf-cli", "sheaf-node"),
            ("sheaf-volume", "bytes"),
        ] {
            assert_eq!(wrong(from, to), 0, "{from} -> {to}");
        }
        for (from, to) in [
            ("sheaf-volume", "sheaf-merge"),
            ("sheaf-volume", "rusqlite"),
            ("sheaf-merge", "sheaf-volume"),
            ("sheaf-site", "sheaf-sync"),
            ("sheaf-sync", "tokio"),
            ("sheaf", "sheaf-node"),
            ("sheaf-node", "sheaf"),
            ("sheaf-node", "sheaf-cli"),
        ] {
            assert_eq!(wrong(from, to), 1, "{from} -> {to}");
        }
    }

    #[test]
    fn a_new_crate_must_be_placed() {
        assert_eq!(violations(&["sheaf-new".to_owned()], &[]).len(), 1);
    }

    #[test]
    fn manifests_are_read_without_their_dev_dependencies() {
        let metadata = serde_json::json!({ "packages": [{ "name": "a", "dependencies": [
            { "name": "b", "kind": null }, { "name": "c", "kind": "dev" },
            { "name": "d", "kind": "build" },
        ] }] });
        let arrow = |to: &str| ("a".to_owned(), to.to_owned());
        let expected = (vec!["a".to_owned()], vec![arrow("b"), arrow("d")]);
        assert_eq!(read(&metadata), Some(expected));
        assert_eq!(read(&Value::Null), None);
    }
}
