//! `sheaf serve`: run a node until it is told to stop.
//!
//! Invariant: the first line on stdout is the URL, printed once connections are accepted; the
//! token of a first start goes to stderr only, so that it is not piped into a log by accident.
//! SIGINT and SIGTERM end it gracefully.

use std::path::Path;

use sheaf_node::{Node, NodeOptions, Running};

use crate::{
    args::ServeArgs,
    backend::{history_retention, node_failure, node_retention},
    console::Console,
    exit::{Exit, Failure},
    signals::{Signals, Wanted},
};

pub(super) fn run(args: ServeArgs, console: &mut Console) -> Result<Exit, Failure> {
    start_log(args.log_json);
    let data = args.data.clone();
    let options = NodeOptions {
        data: args.data,
        listen: args.listen,
        store: args.store,
        no_auth: args.no_auth,
        token_file: args.token_file,
        retention: Some(node_retention(args.retention)),
        history: history_retention(args.retention),
    };
    // Before the node starts, so that a signal during its start is not lost.
    let mut signals = Signals::listen(Wanted::InterruptOrTerminate)?;
    let running = Node::start(options).map_err(|error| node_failure(&error))?;
    announce(&running, &data, console);
    signals.next();
    end_at_the_next(signals);
    console.tell("stopping: finishing what was begun; a second signal ends it at once");
    running.stop().map_err(|error| node_failure(&error))?;
    Ok(Exit::Done)
}

fn announce(running: &Running, data: &Path, console: &mut Console) {
    console.line(&running.url());
    console.flush();
    if let Some(token) = running.first_token() {
        let message = format!(
            "token: {token} (shown this once; only its hash is kept, in {}; \
             devices give it with --token or SHEAF_TOKEN)",
            data.join("tokens").display()
        );
        // Also with --json: without the token the node is of no use to anybody.
        console.must_tell(&message);
    }
}

/// The node's own log on stderr; `SHEAF_LOG` chooses what is in it.
fn start_log(json: bool) {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_env("SHEAF_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if json { log.json().try_init() } else { log.try_init() };
    // Somebody else's log is as good.
    drop(started);
}

/// A second signal ends the process at once.
fn end_at_the_next(mut signals: Signals) {
    let end = move || {
        signals.next();
        std::process::exit(i32::from(Exit::Failed.code()));
    };
    // Without that thread a second signal is ignored; the first still does its work.
    drop(std::thread::Builder::new().name("sheaf-signals".into()).spawn(end));
}
