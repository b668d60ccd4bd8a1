//! `cargo xtask demo`: two offline devices edit one database, reconnect and converge.
//!
//! Everything is real: a node on a loopback port with a bucket in a directory, and two clients of
//! the library with replicas of their own. Nothing here knows the engine's insides.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sheaf::{Client, ClientOptions, Exchange, Site, View};
use sheaf_node::{Node, NodeOptions, Running};

mod show;
mod story;

use show::{heading, note, say};

const SITE: &str = "team/board";
const TIMEOUT: Duration = Duration::from_secs(30);

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Use the tables of this SQLite file instead of the small board
    #[arg(long, value_name = "FILE.db")]
    import: Option<PathBuf>,
    /// Where the node and the two devices live; emptied first
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    dir: PathBuf,
    /// Where the node listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Stop after the show instead of serving on
    #[arg(long)]
    once: bool,
}

/// A person with a device.
struct Person {
    name: &'static str,
    site: Site,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let dir = prepare(&args.dir)?;
    heading("A node with a bucket in a directory");
    let (node, token) = start_node(args, &dir)?;
    say(&format!("{} keeps the log in {}", node.url(), dir.join("node/store").display()));

    heading("Two devices, each with a whole SQLite database of its own");
    let ada = Person { name: "ada", site: open(&dir, "ada", &node, &token)? };
    let bob = Person { name: "bob", site: open(&dir, "bob", &node, &token)? };
    let story = match &args.import {
        Some(file) => story::imported(&ada, file)?,
        None => story::board(&ada)?,
    };
    exchange(&ada)?;
    exchange(&bob)?;
    for query in &story.queries {
        bob.show(query)?;
    }

    heading("Both go offline and work on");
    for act in &story.acts {
        let person = if act.by_ada { &ada } else { &bob };
        act.perform(person)?;
    }
    note("Each sees its own world; the agreed state has not moved:");
    for person in [&ada, &bob] {
        for query in &story.queries {
            person.show(query)?;
        }
        say(&format!(
            "{}: {} changes wait to be sent",
            person.name,
            person.site.status().pending.len()
        ));
    }

    heading("They reconnect");
    let mut done = Vec::new();
    for person in [&ada, &bob, &ada] {
        done.push((person.name, exchange(person)?));
    }
    verdicts(&done);

    heading("What both have now");
    for query in &story.queries {
        ada.show(query)?;
    }
    compare(&ada, &bob)?;
    if args.once {
        drop((ada, bob));
        node.stop()?;
        return Ok(());
    }
    serve_on(&dir, node, &token)
}

fn prepare(dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        // Only what an earlier demo made is removed, never a directory of somebody else's.
        let ours = dir.join(".sheaf-demo").exists() || dir.read_dir()?.next().is_none();
        let shown = dir.display();
        ensure!(ours, "`{shown}` holds other files; choose an empty directory with --dir");
        std::fs::remove_dir_all(dir).with_context(|| format!("empty `{shown}`"))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("create `{}`", dir.display()))?;
    std::fs::File::create(dir.join(".sheaf-demo"))?;
    Ok(dir.canonicalize()?)
}

fn start_node(args: &Args, dir: &Path) -> Result<(Running, String)> {
    let node = Node::start(NodeOptions::new(dir.join("node"), args.listen))?;
    let token = node.first_token().context("a new node makes a token")?;
    Ok((node, token))
}

fn open(dir: &Path, name: &str, node: &Running, token: &str) -> Result<Site> {
    let client = Client::open(ClientOptions {
        dir: dir.join(name),
        server: Some(node.url()),
        token: Some(token.to_owned()),
    })?;
    Ok(client.site(SITE)?)
}

fn exchange(person: &Person) -> Result<Exchange> {
    let done = person.site.exchange(TIMEOUT)?;
    say(&format!(
        "{}: {} sent, {} commits learnt, {} bytes up, {} down, {} round trips, {} ms",
        person.name,
        done.pushed,
        done.pulled,
        done.bytes_up,
        done.bytes_down,
        done.round_trips,
        done.ms
    ));
    Ok(done)
}

fn verdicts(done: &[(&str, Exchange)]) {
    for (name, exchange) in done {
        if exchange.merged > 0 {
            say(&format!(
                "{name}: {} of the changes met others on the same rows and were merged",
                exchange.merged
            ));
        }
        for (seq, reason) in &exchange.rejected {
            say(&format!("{name}: change {seq} was rejected, and kept to look at: {reason}"));
        }
    }
}

fn compare(ada: &Person, bob: &Person) -> Result<()> {
    let (one, two) = (ada.fingerprint()?, bob.fingerprint()?);
    say(&format!("ada: pages {}  rows {}  integrity {}", one.pages, one.rows, one.integrity));
    say(&format!("bob: pages {}  rows {}  integrity {}", two.pages, two.rows, two.integrity));
    ensure!(one == two, "the two databases differ");
    ensure!(one.integrity == "ok", "the databases fail their integrity check");
    say("Both databases are identical, page by page and row by row.");
    Ok(())
}

fn serve_on(dir: &Path, node: Running, token: &str) -> Result<()> {
    let url = node.url();
    heading("The node keeps serving; join from a second terminal");
    for line in [
        format!("export SHEAF_SERVER={url} SHEAF_TOKEN={token}"),
        format!("export SHEAF_DIR={}", dir.join("you").display()),
        "cargo run -q -p sheaf-cli -- shell team/board".to_owned(),
        "cargo run -q -p sheaf-cli -- sql team/board 'SELECT name FROM sqlite_schema'".to_owned(),
        "cargo run -q -p sheaf-cli -- status team/board".to_owned(),
    ] {
        say(&format!("  {line}"));
    }
    note("Ctrl-C ends it.");
    node.wait()?;
    Ok(())
}

/// What two replicas must have in common.
#[derive(PartialEq, Eq)]
struct Fingerprint {
    pages: String,
    rows: String,
    integrity: String,
}

impl Person {
    fn show(&self, sql: &str) -> Result<()> {
        let connection = self.site.connection(View::Local)?;
        show::table(self.name, &connection, sql)
    }

    fn fingerprint(&self) -> Result<Fingerprint> {
        let connection = self.site.connection(View::Global)?;
        let integrity =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?;
        let mut rows = show::dump(&connection)?;
        rows.sort_unstable();
        let pages = blake3::Hash::from(self.site.engine().volume().global().content_hash()?);
        let rows = blake3::hash(rows.join("\n").as_bytes());
        Ok(Fingerprint { pages: short(pages), rows: short(rows), integrity })
    }
}

fn short(hash: blake3::Hash) -> String {
    hash.to_hex().chars().take(16).collect()
}
