//! A client against a real node and against a bucket, through the public interface only.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails it like the test itself")]

use std::{path::Path, time::Duration};

use sheaf::{Client, ClientOptions, ErrorKind, Event, Site, View};
use sheaf_node::{Node, NodeOptions, Running};

mod bucket;
mod durability;
mod fork;
mod node;
mod subscribe;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A node that lets everybody in, and the directory it lives in.
struct World {
    root: tempfile::TempDir,
    node: Option<Running>,
    url: String,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let node = start(root.path(), 0);
        let url = node.url();
        Self { root, node: Some(node), url }
    }

    fn device(&self, name: &str) -> Client {
        client(&self.root.path().join(name), Some(&self.url), None)
    }

    fn stop_node(&mut self) {
        self.node.take().unwrap().stop().unwrap();
    }

    fn start_node(&mut self) {
        let port = self.url.rsplit(':').next().unwrap().parse().unwrap();
        self.node = Some(start(self.root.path(), port));
    }
}

fn start(root: &Path, port: u16) -> Running {
    let mut options = NodeOptions::new(root.join("node"), ([127, 0, 0, 1], port).into());
    options.no_auth = true;
    Node::start(options).unwrap()
}

fn client(dir: &Path, server: Option<&str>, token: Option<&str>) -> Client {
    Client::open(ClientOptions {
        dir: dir.to_owned(),
        server: server.map(str::to_owned),
        token: token.map(str::to_owned),
    })
    .unwrap()
}

fn exec(site: &Site, sql: &str) {
    site.write(|tx| tx.execute_batch(sql).map_err(sheaf::from_sqlite)).unwrap();
}

fn rows(site: &Site, view: View) -> Vec<String> {
    site.read(view, |db| {
        let mut statement = db
            .prepare("SELECT id || ':' || what || ':' || done FROM todo ORDER BY id")
            .map_err(sheaf::from_sqlite)?;
        let rows = statement.query_map([], |row| row.get(0)).map_err(sheaf::from_sqlite)?;
        rows.collect::<Result<_, _>>().map_err(sheaf::from_sqlite)
    })
    .unwrap()
}

fn schema(site: &Site) {
    exec(site, "CREATE TABLE todo(id INTEGER PRIMARY KEY, what TEXT, done INTEGER DEFAULT 0)");
}

/// Two devices that share three rows.
fn two(a: &Client, b: &Client) -> (Site, Site) {
    let (a, b) = (a.site("team/todo").unwrap(), b.site("team/todo").unwrap());
    schema(&a);
    exec(&a, "INSERT INTO todo(id, what) VALUES (1,'milk'),(2,'bread'),(3,'eggs')");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    assert_eq!(rows(&b, View::Global), ["1:milk:0", "2:bread:0", "3:eggs:0"]);
    (a, b)
}

/// Waits until an event is what is looked for; other events pass.
fn expect(client: &Client, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Event {
    let events = client.events();
    loop {
        let event = events.next_within(TIMEOUT).unwrap_or_else(|| panic!("no event: {what}"));
        if wanted(&event) {
            return event;
        }
    }
}
