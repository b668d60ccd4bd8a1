//! Devices and nodes for tests, each in a directory of its own.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Asserts success and gives what was printed.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.err, "");
        self.out
    }

    /// Asserts a status and exactly one line on stderr that contains `part`.
    pub(crate) fn fails(self, code: i32, part: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(!self.err.contains("panicked") && !self.err.contains("bug in sheaf"), "{self:?}");
        assert!(self.err.contains(part), "no `{part}` in {self:?}");
        self
    }
}

/// A directory that holds everything of one test.
pub(crate) struct Bed(tempfile::TempDir);

impl Bed {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn device(&self, name: &str, server: &str) -> Device {
        Device { dir: self.path(name), server: server.to_owned(), token: String::new() }
    }

    /// A bucket of this test alone: a directory, or what `SHEAF_TEST_STORE` names.
    pub(crate) fn bucket(&self) -> String {
        match std::env::var("SHEAF_TEST_STORE") {
            // The name of the directory is of this test alone.
            Ok(store) => {
                format!("{store}/{}", self.0.path().file_name().unwrap().to_str().unwrap())
            }
            Err(_) => format!("file://{}", self.path("bucket").display()),
        }
    }

    /// The address of a bucket in a new directory, for who looks at its files.
    pub(crate) fn bucket_dir(&self) -> String {
        std::fs::create_dir(self.path("bucket")).unwrap();
        format!("file://{}", self.path("bucket").display())
    }

    /// Starts a node that asks for a token.
    pub(crate) fn node(&self) -> Node {
        Node::start(&self.path("node"), &[])
    }
}

/// One device, as a script that sets the three variables.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) dir: PathBuf,
    pub(crate) server: String,
    pub(crate) token: String,
}

impl Device {
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.run_with(args, "")
    }

    /// Runs a command with something on stdin.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Done {
        finish(self.command(args), input)
    }

    /// Runs a command that is killed when it comes to a fault point, as `NAME@N` the Nth time.
    #[cfg(all(unix, debug_assertions))]
    pub(crate) fn run_until(&self, point: &str, args: &[&str]) -> Done {
        let mut command = self.command(args);
        command.env("SHEAF_KILL_AT", point);
        finish(command, "")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = sheaf();
        command
            .args(args)
            .env("SHEAF_DIR", &self.dir)
            .env("SHEAF_SERVER", &self.server)
            .env("SHEAF_TOKEN", &self.token);
        command
    }

    /// Whether this device has a replica of a site.
    pub(crate) fn has_site(&self, name: &str) -> bool {
        self.run(&["sites"]).ok().lines().any(|line| line == name)
    }
}

/// The program.
pub(crate) fn sheaf() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sheaf"))
}

/// Starts a command whose input and outputs are ours.
pub(crate) fn spawn_piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs a command to its end.
fn finish(mut command: Command, input: &str) -> Done {
    let mut child = spawn_piped(&mut command);
    // A command that reads no input may have ended already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A running node; killed when dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Node {
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::launch(data, more, !more.contains(&"--no-auth"))
    }

    /// Starts it on a directory that has tokens already: it shows none.
    pub(crate) fn start_again(data: &Path) -> Self {
        Self::launch(data, &[], false)
    }

    fn launch(data: &Path, more: &[&str], shows_token: bool) -> Self {
        let mut child = sheaf()
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        let mut line = String::new();
        if shows_token {
            BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        }
        let token = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        Self { child, url: url.trim().to_owned(), token }
    }

    /// Asks it to end, and gives its exit status.
    #[cfg(unix)]
    pub(crate) fn terminate(self) -> Option<i32> {
        self.end("-TERM").0
    }

    /// Sends it a signal; its exit status, and what it wrote to stderr besides a token.
    #[cfg(unix)]
    pub(crate) fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "stdout is for the URL");
        self.child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
        (status.code(), rest)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Every file below a directory, and what is in it.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let mut bytes = Vec::new();
            let file = std::fs::OpenOptions::new().read(true).open(&path);
            file.unwrap().read_to_end(&mut bytes).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Copies a directory that no process has open.
pub(crate) fn copy(from: &Path, to: &Path) {
    for (path, bytes) in files(from) {
        write(&to.join(path.strip_prefix(from).unwrap()), &bytes);
    }
}

/// What people have put into a database file, in an order of its own: schema, then rows.
pub(crate) fn dump(file: &Path) -> String {
    let db = rusqlite::Connection::open(file).unwrap();
    let own = "name NOT GLOB '__sheaf_*' AND name NOT GLOB 'sqlite_autoindex_*'";
    let mut text = rows(&db, &format!("SELECT type, name, sql FROM sqlite_schema WHERE {own}"));
    let tables = format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND {own}");
    let mut tables = db.prepare(&tables).unwrap();
    let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut names: Vec<String> = names.collect::<Result<_, _>>().unwrap();
    names.sort();
    for name in names {
        text.push_str(&format!("-- {name}\n"));
        text.push_str(&rows(&db, &format!("SELECT * FROM \"{name}\"")));
    }
    text
}

fn rows(db: &rusqlite::Connection, sql: &str) -> String {
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let values = (0..columns).map(|column| shown(row.get_ref(column).unwrap()));
        lines.push(values.collect::<String>() + "\n");
    }
    lines.sort();
    lines.concat()
}

/// A value on one line, its type included; a long one by its hash.
fn shown(value: rusqlite::types::ValueRef<'_>) -> String {
    use rusqlite::types::ValueRef;
    let (kind, bytes) = match value {
        ValueRef::Text(text) => ("text", text),
        ValueRef::Blob(blob) => ("blob", blob),
        number => return format!("{number:?}|"),
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() < 200 => format!("{kind} {text:?}|"),
        _ => format!("{kind} of {} bytes, {}|", bytes.len(), blake3::hash(bytes)),
    }
}

/// Asserts that two dumps are equal; shows the lines that are not.
pub(crate) fn assert_equal(left: &str, right: &str, what: &str) {
    let lacks = |some: &str, other: &str| -> Vec<String> {
        let other: Vec<&str> = other.lines().collect();
        some.lines().filter(|line| !other.contains(line)).map(str::to_owned).collect()
    };
    let (more, less) = (lacks(left, right), lacks(right, left));
    assert!(left == right, "{what}: only in the first {more:#?}, only in the second {less:#?}");
}

/// Writes a file, making the directories above it.
#[expect(clippy::disallowed_methods, reason = "a test makes the files that a person would have")]
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
