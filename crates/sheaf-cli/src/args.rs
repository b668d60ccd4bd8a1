//! The command line: its grammar, and errors about it in one line.
//!
//! Invariant: an empty environment variable counts as unset, a flag wins over its variable, and
//! nothing is opened or contacted before the whole line has been understood.

use std::{
    ffi::OsString,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    exit::Failure,
    render::Mode,
    view::{self, ViewArg},
};

/// What `parse` found.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Help or the version: print it and be done.
    Print(String),
    /// A command.
    Run(Box<Cli>),
}

/// Offline-first, collaborative SQLite.
#[derive(Debug, Parser)]
#[command(name = "sheaf", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = "Exit status: 0 done; 1 refused or failed; 2 wrong usage; \
    3 done on this device, but the server could not be reached.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes, before or after its name.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Directory of this device's replicas [env: SHEAF_DIR, default: in your data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Node (http://, https://) or bucket (file://, s3://) [env: SHEAF_SERVER; a site remembers it]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Bearer token for the node [env: SHEAF_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Print results and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node: other devices share sites through it
    Serve(ServeArgs),
    /// Run SQL on a site; the site is created if it does not exist
    Sql(SqlArgs),
    /// Open an interactive SQL prompt
    Shell(ShellArgs),
    /// Make a site out of a SQLite database file
    Import(ImportArgs),
    /// Write a site as an ordinary SQLite database file
    Export(ExportArgs),
    /// Fetch a site that exists on the server
    Clone(CloneArgs),
    /// Show the state of one site or of all
    Status(StatusArgs),
    /// Show the newest entries of a site's log
    Log(LogArgs),
    /// Learn what others changed
    Pull(ContactArgs),
    /// Send what was changed here
    Push(ContactArgs),
    /// Call a named mutator
    Mutate(MutateArgs),
    /// List the named mutators of a site, or define some
    Mutators(MutatorsArgs),
    /// Define one named mutator: an SQL script with named parameters
    Define(DefineArgs),
    /// List the sites on this device
    Sites,
    /// Delete from a bucket what no kept state needs any more
    Gc(GcArgs),
}

/// `serve`
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Directory of the node: its replica, its embedded store, its tokens
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", value_parser = parse_address)]
    pub(crate) listen: SocketAddr,
    /// Bucket to keep the sites in, instead of the data directory
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// Ask for no token; only on a loopback address
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// File with the tokens that are let in
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Write the node's own log to stderr as JSON lines
    #[arg(long)]
    pub(crate) log_json: bool,
    #[command(flatten)]
    pub(crate) retention: RetentionArgs,
}

/// How much of the past is kept.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct RetentionArgs {
    /// Keep states as old as this, as in 90s, 12h, 30d, 8w, or `forever`
    #[arg(long, value_name = "AGE", default_value = "30d", value_parser = parse_age)]
    pub(crate) keep_for: u64,
    /// Keep so many of the newest states, however old
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) keep: u64,
}

/// `gc`
#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Names of sites in the bucket; without any, all of them
    pub(crate) sites: Vec<String>,
    /// Say what would be deleted and why, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) retention: RetentionArgs,
}

/// When and how long to talk to the server.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ExchangeArgs {
    /// Do not talk to the server
    #[arg(long)]
    pub(crate) offline: bool,
    /// Seconds to wait for the server
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = parse_timeout, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
}

/// How rows are printed.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FormatArgs {
    /// How rows are printed
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// Print the column names first
    #[arg(long)]
    pub(crate) header: bool,
    /// What stands between columns in the modes list and csv
    #[arg(long, value_name = "TEXT")]
    pub(crate) separator: Option<String>,
}

/// `sql`
#[derive(Args, Debug)]
pub(crate) struct SqlArgs {
    /// Name of the site, as in team/todos
    pub(crate) site: String,
    /// SQL, run in order; `-` reads it from stdin
    #[arg(required = true, value_name = "SQL")]
    pub(crate) sql: Vec<String>,
    /// State to read: local, global, @LSN or @TIME
    #[arg(long, value_parser = view::parse, default_value = "local")]
    pub(crate) view: ViewArg,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// `shell`
#[derive(Args, Debug)]
pub(crate) struct ShellArgs {
    /// Name of the site; may be left out if this device has only one
    pub(crate) site: Option<String>,
    /// State to read: local, global, @LSN or @TIME
    #[arg(long, value_parser = view::parse, default_value = "local")]
    pub(crate) view: ViewArg,
    /// Stop at the first error when reading a script
    #[arg(long)]
    pub(crate) bail: bool,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// `import`
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// SQLite database file
    pub(crate) file: PathBuf,
    /// Name of the site to make
    pub(crate) site: String,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// `export`
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Database file to write
    pub(crate) file: PathBuf,
    /// State to write: local, global, @LSN or @TIME
    #[arg(long, value_parser = view::parse, default_value = "local")]
    pub(crate) view: ViewArg,
    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
}

/// `clone`
#[derive(Args, Debug)]
pub(crate) struct CloneArgs {
    /// Name of the site on the server
    pub(crate) site: String,
    /// Fetch every page now, instead of when it is first read
    #[arg(long)]
    pub(crate) full: bool,
    /// Seconds to wait for the server
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = parse_timeout, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
}

/// `status`
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Name of the site; without it, all sites of this device
    pub(crate) site: Option<String>,
}

/// `log`
#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// Name of the site
    pub(crate) site: String,
    /// How many entries to show
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
}

/// `pull` and `push`
#[derive(Args, Debug)]
pub(crate) struct ContactArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Seconds to wait for the server
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = parse_timeout, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
}

/// `mutate`
#[derive(Args, Debug)]
pub(crate) struct MutateArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Name of the mutator
    pub(crate) name: String,
    /// Its arguments, a JSON object
    #[arg(value_name = "JSON", default_value = "{}")]
    pub(crate) args: String,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// `mutators`
#[derive(Args, Debug)]
pub(crate) struct MutatorsArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Define a mutator by a file; may be given several times
    #[arg(long, value_name = "NAME=FILE.sql", value_parser = parse_definition)]
    pub(crate) define: Vec<(String, PathBuf)>,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// `define`
#[derive(Args, Debug)]
pub(crate) struct DefineArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Name of the mutator
    pub(crate) name: String,
    /// File with its SQL; parameters are written :name
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// Understands a command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    match Cli::try_parse_from(args) {
        Ok(cli) => Ok(Parsed::Run(Box::new(cli))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Parsed::Print(error.render().to_string()))
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(Failure::usage("no command was given; `sheaf --help` lists them"))
            }
            _ => Err(usage_failure(&error.render().to_string())),
        },
    }
}

/// Whether errors are to be JSON; also for lines that cannot be understood.
pub(crate) fn asks_for_json(args: impl IntoIterator<Item = OsString>) -> bool {
    args.into_iter().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json")
}

/// Folds the parser's several lines into one that ends with where to look.
fn usage_failure(rendered: &str) -> Failure {
    let mut said = Vec::new();
    let mut command = String::from("sheaf");
    for line in rendered.lines().map(str::trim) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let is_word = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphabetic());
            let words: Vec<&str> = usage.split_whitespace().take_while(is_word).collect();
            command = words.join(" ");
        } else if !line.is_empty() && !line.starts_with("For more information") {
            said.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    Failure::usage(format!("{}; see `{command} --help`", said.join(" ")))
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let wrong = || "give a number of seconds above 0, as in 10 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    let timeout = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if timeout.is_zero() { Err(wrong()) } else { Ok(timeout) }
}

/// An age in milliseconds.
fn parse_age(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 5] =
        [('s', 1), ('m', 60), ('h', 60 * 60), ('d', 24 * 60 * 60), ('w', 7 * 24 * 60 * 60)];
    if text == "forever" {
        return Ok(u64::MAX);
    }
    let wrong = || "give a number and s, m, h, d or w, as in 30d, or `forever`".to_owned();
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
    let (unit, seconds) = unit.ok_or_else(wrong)?;
    let digits = text.trim_end_matches(*unit);
    if digits.len() + 1 != text.len() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds * 1_000).ok_or_else(wrong)
}

/// An address, or a name that has one, such as `localhost:7070`.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "give IP:PORT, as in 127.0.0.1:7070; port 0 picks a free one".to_owned();
    text.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)
}

fn parse_definition(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        _ => Err("give NAME=FILE.sql".to_owned()),
    }
}

#[cfg(test)]
mod tests;
