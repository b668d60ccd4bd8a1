//! Runs that once broke a claim, kept by name: a file of `regressions/` says in a sentence what it
//! was, and then the options.
//!
//! Invariant: a kept run passes. A kept run is only as good as its schedule: when the engine
//! changes, it may no longer reach what it once found, which is why every finding also has a test
//! of its own near the code. Leaves out making the files: `cargo xtask sim` prints what to keep.

use crate::options::Options;

/// Reads a kept run.
///
/// # Errors
/// A line for people, when the text is not one.
pub fn read(text: &str) -> Result<Options, String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    if !lines.clone().any(|line| line.starts_with('#')) {
        return Err("a kept run begins with a sentence after `#`".to_owned());
    }
    let mut options = None;
    for line in lines.by_ref().filter(|line| !line.starts_with('#')) {
        let (name, value) =
            line.split_once('=').ok_or_else(|| format!("not `name=value`: `{line}`"))?;
        let value: u64 = value.trim().parse().map_err(|_| format!("not a number: `{line}`"))?;
        match (name.trim(), &mut options) {
            ("seed", None) => options = Some(Options::draw(value)),
            (name, Some(options)) => Options::set(options, name, value)?,
            (name, None) => return Err(format!("`{name}` comes before the seed")),
        }
    }
    options.ok_or_else(|| "a kept run names its seed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_runs_are_read() {
        let options = read("# It failed.\nseed=7\ndevices=2\n").unwrap();
        assert_eq!((options.seed, options.devices), (7, 2));
        for wrong in
            ["seed=7", "# a\n", "# a\ndevices=2\nseed=1", "# a\nseed=x", "# a\nseed=1\nno=1"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
