//! What no compiler checks: sources are ASCII, and no file has grown past what one can hold in
//! mind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// Lines from which a file is worth a thought, and lines at which it must be split.
const LINES_LONG: usize = 500;
const LINES_MAX: usize = 800;

/// Checks every `.rs` and `.toml` below `root`.
///
/// # Errors
/// When a file is not ASCII or too long; all of them are printed first.
pub(super) fn check(root: &Path) -> anyhow::Result<()> {
    let mut files = Vec::new();
    collect(root, &mut files).context("list the sources")?;
    files.sort();
    let mut bad = 0;
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let shown = file.strip_prefix(root).unwrap_or(file).display();
        for problem in problems(&text) {
            eprintln!("{shown}:{problem}");
            bad += 1;
        }
        let lines = text.lines().count();
        if lines > LINES_LONG && lines <= LINES_MAX {
            eprintln!("note: {shown} has {lines} lines; think about splitting it");
        }
    }
    if bad > 0 {
        bail!("{bad} problems in {} files", files.len());
    }
    Ok(())
}

fn problems(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .lines()
        .enumerate()
        .filter_map(|(at, line)| {
            let odd = line.chars().find(|c| !c.is_ascii())?;
            Some(format!("{}: {:?} is not ASCII", at + 1, odd))
        })
        .collect();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        found.push(format!("{lines}: more than {LINES_MAX} lines, split the file"));
    }
    found
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() {
            if !hidden && name != "target" {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "toml") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_characters_and_long_files_are_found() {
        assert!(problems("fn main() {}\n").is_empty());
        assert_eq!(problems("a\nb \u{2013} c\n"), ["2: '\u{2013}' is not ASCII"]);
        assert!(problems(&"x\n".repeat(LINES_MAX)).is_empty());
        assert_eq!(problems(&"x\n".repeat(LINES_MAX + 1)).len(), 1);
    }
}
