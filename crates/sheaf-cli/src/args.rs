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
    view::{self, SiteAt, ViewArg},
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
    /// Drop pages that the server has, to save disk space; they come back when they are read
    Evict(EvictArgs),
    /// Show the state of one site or of all
    Status(StatusArgs),
    /// Show the newest entries of a site's log
    Log(LogArgs),
    /// Make a branch: a new site that goes on from a state of this one
    Branch(BranchArgs),
    /// Show how the rows of two states differ
    Diff(DiffArgs),
    /// Make the present state equal to an earlier one, as an ordinary change
    Restore(RestoreArgs),
    /// Show what became of one row, newest first
    History(HistoryArgs),
    /// Show for each column of a row, or of a table's rows, which change gave it its value
    Blame(BlameArgs),
    /// Take one change back, by a new one that leaves what others did since
    Undo(UndoArgs),
    /// Learn what others changed
    Pull(ContactArgs),
    /// Send what was changed here
    Push(PushArgs),
    /// Give up what was changed here and is not in the log yet
    Reset(ResetArgs),
    /// Call a named mutator
    Mutate(MutateArgs),
    /// List the named mutators of a site, or define some
    Mutators(MutatorsArgs),
    /// Define one named mutator, an SQL script with named parameters, or a merge function
    Define(DefineArgs),
    /// Show how concurrent changes of a site's tables are merged, or declare it
    Rules(RulesArgs),
    /// List the sites on this device
    Sites,
    /// Look for damage: this device's files, the log on the server, the database
    Verify(VerifyArgs),
    /// Mend what `verify` finds, as far as it can be mended; pending changes are kept
    Repair(RepairArgs),
    /// Find out whether a store keeps what Sheaf relies on, under load
    VerifyStore(VerifyStoreArgs),
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
    /// Keep what became of each row as long as this, also when its states are gone
    #[arg(long, value_name = "AGE", default_value = "365d", value_parser = parse_age)]
    pub(crate) history_for: u64,
    /// Record nothing of what became of rows before their states go
    #[arg(long, conflicts_with = "history_for")]
    pub(crate) no_history: bool,
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

/// What a site is made with, if the command makes one.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct CreateArgs {
    /// Bytes per page, if the site is made now: a power of two from 512 to 65536
    #[arg(long, value_name = "BYTES", value_parser = parse_page_size)]
    pub(crate) page_size: Option<u32>,
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
    /// Name of the site, as in team/todos; team/todos@17 reads an old state
    pub(crate) site: String,
    /// SQL, run in order; `-` reads it from stdin
    #[arg(required = true, value_name = "SQL")]
    pub(crate) sql: Vec<String>,
    /// State to read: local, global, @LSN or @TIME
    #[arg(long, value_parser = view::parse, default_value = "local")]
    pub(crate) view: ViewArg,
    #[command(flatten)]
    pub(crate) create: CreateArgs,
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
    pub(crate) create: CreateArgs,
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
    /// Bytes per page: a power of two from 512 to 65536; the file's own, unless given
    #[arg(long, value_name = "BYTES", value_parser = parse_page_size)]
    pub(crate) page_size: Option<u32>,
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

/// `evict`
#[derive(Args, Debug)]
pub(crate) struct EvictArgs {
    /// Name of the site
    pub(crate) site: String,
    /// How much of it may stay on this device, as in 500M or 2G
    #[arg(long, visible_alias = "cache-size", value_name = "BYTES", default_value = "0", value_parser = parse_bytes)]
    pub(crate) to: u64,
    /// Do the same from now on whenever the site is closed
    #[arg(long)]
    pub(crate) remember: bool,
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

/// `branch`
#[derive(Args, Debug)]
pub(crate) struct BranchArgs {
    /// Site to branch from, as in team/todos, and where: @LSN or @TIME
    #[arg(value_name = "SITE[@LSN|@TIME]", value_parser = view::parse_site)]
    pub(crate) site: SiteAt,
    /// Name of the branch
    #[arg(value_name = "NEW")]
    pub(crate) new: String,
    /// Seconds to wait for the server
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = parse_timeout, allow_negative_numbers = true)]
    pub(crate) timeout: Duration,
}

/// `diff`
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// First state: SITE, SITE@LSN, SITE@TIME, SITE@global, or a database file
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// Second state
    #[arg(value_name = "B")]
    pub(crate) b: String,
    /// Compare only this table
    pub(crate) table: Option<String>,
    /// Print the statements that turn A into B
    #[arg(long, conflicts_with_all = ["summary", "json"])]
    pub(crate) sql: bool,
    /// Print only how many rows differ
    #[arg(long)]
    pub(crate) summary: bool,
}

/// `restore`
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// Site, and the state to go back to
    #[arg(value_name = "SITE@LSN|@TIME", value_parser = view::parse_site)]
    pub(crate) site: SiteAt,
    /// Only say what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// A row.
#[derive(Args, Debug)]
pub(crate) struct RowArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Name of the table
    pub(crate) table: String,
    /// The row's key, a value per column of it: 7, 'text', x'0a'; the row id where there is none
    #[arg(required = true, value_name = "KEY", allow_negative_numbers = true)]
    pub(crate) key: Vec<String>,
}

/// `history`
#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// How many changes to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Only changes after @LSN, or from @TIME on
    #[arg(long, value_name = "@LSN|@TIME", value_parser = parse_since)]
    pub(crate) since: Option<ViewArg>,
    /// Show the row as it was at that time instead
    #[arg(long, value_name = "@TIME", value_parser = parse_time, conflicts_with_all = ["limit", "since"])]
    pub(crate) at: Option<u64>,
    #[command(flatten)]
    pub(crate) row: RowArgs,
}

/// `blame`
#[derive(Args, Debug)]
pub(crate) struct BlameArgs {
    /// How many rows to show where no key is given
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
    /// Name of the site
    pub(crate) site: String,
    /// Name of the table
    pub(crate) table: String,
    /// A row's key, as for `history`; without one, the first rows of the table are shown
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    pub(crate) key: Vec<String>,
}

/// `undo`
#[derive(Args, Debug)]
pub(crate) struct UndoArgs {
    /// Name of the site
    pub(crate) site: String,
    /// The change: TIMELINE:SEQ as `sheaf history` shows it (the first letters of TIMELINE are
    /// enough), SEQ of one of this device's, or @LSN of a commit that holds one
    pub(crate) mutation: String,
    /// Only show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
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

/// `push`
#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) contact: ContactArgs,
    /// First say that the change that asks, because a lock failed, is wanted on what is there now
    #[arg(long, value_name = "CHANGE", conflicts_with = "withdraw")]
    pub(crate) go_on: Option<u64>,
    /// First give up the change that asks
    #[arg(long, value_name = "CHANGE")]
    pub(crate) withdraw: Option<u64>,
}

/// `reset`
#[derive(Args, Debug)]
pub(crate) struct ResetArgs {
    /// Name of the site
    pub(crate) site: String,
    /// First write the site as it is here, with what is given up, as a database file
    #[arg(long, value_name = "FILE", conflicts_with = "discard")]
    pub(crate) export: Option<PathBuf>,
    /// Move it to a new branch of the site, then take what others did
    #[arg(long, value_name = "NEW", conflicts_with_all = ["export", "discard"])]
    pub(crate) fork: Option<String>,
    /// Keep no copy
    #[arg(long)]
    pub(crate) discard: bool,
    /// Seconds to wait for the server, with --fork
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

/// `rules`
#[derive(Args, Debug)]
pub(crate) struct RulesArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Show only this table
    #[arg(conflicts_with = "set")]
    pub(crate) table: Option<String>,
    /// Declare a rule, as in task.title=text, task.*=update-wins or task.title=default; may be
    /// given several times
    #[arg(long, value_name = "TABLE.COLUMN=RULE", value_parser = parse_rule)]
    pub(crate) set: Vec<RuleArg>,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// A merge rule to declare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleArg {
    pub(crate) table: String,
    pub(crate) column: String,
    pub(crate) rule: String,
}

/// `verify`
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Fetch the pages that are not here, and compare every page with the log
    #[arg(long)]
    pub(crate) full: bool,
}

/// `repair`
#[derive(Args, Debug)]
pub(crate) struct RepairArgs {
    /// Name of the site
    pub(crate) site: String,
    /// Look as `verify --full` does
    #[arg(long)]
    pub(crate) full: bool,
    /// Say what would be mended, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `verify-store`
#[derive(Args, Debug)]
pub(crate) struct VerifyStoreArgs {
    /// Store to try, as in s3://bucket/prefix; below it `probe/` is used and left empty
    #[arg(value_name = "URL")]
    pub(crate) store: String,
    /// Callers that create one key at the same moment
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) creators: usize,
    /// Keys they race for
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) rounds: u64,
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
    /// Define the function of the merge rule custom:NAME instead: one expression over :base, :left
    /// and :right
    #[arg(long)]
    pub(crate) merge: bool,
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

/// Understands a command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    match Cli::try_parse_from(args) {
        Ok(mut cli) => {
            split_sites(&mut cli.command)?;
            Ok(Parsed::Run(Box::new(cli)))
        }
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

/// Where a state is read, `SITE@7` is short for `SITE --view @7`.
fn split_sites(command: &mut Command) -> Result<(), Failure> {
    let (site, view) = match command {
        Command::Sql(args) => (&mut args.site, &mut args.view),
        Command::Export(args) => (&mut args.site, &mut args.view),
        Command::Shell(args) => match &mut args.site {
            Some(site) => (site, &mut args.view),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let named = view::parse_site(site).map_err(|why| Failure::usage(format!("`{site}`: {why}")))?;
    if let Some(at) = named.view {
        if *view != ViewArg::Local && *view != at {
            return Err(Failure::usage("two states are named; leave out --view or the @ in SITE"));
        }
        *view = at;
    }
    *site = named.name;
    Ok(())
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

fn parse_page_size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|size| crate::backend::is_page_size(*size));
    size.ok_or_else(|| "give a power of two from 512 to 65536".to_owned())
}

/// A number of bytes, perhaps in K, M, G or T.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || "give a number of bytes, as in 1048576, 500M or 2G".to_owned();
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(unit, _)| text.to_ascii_uppercase().ends_with(*unit));
    let number = text.get(..text.len() - usize::from(unit.is_some())).unwrap_or(text);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << unit.map_or(0, |(_, shift)| *shift)).ok_or_else(wrong)
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

/// A time, with or without the `@`.
fn parse_time(text: &str) -> Result<u64, String> {
    match parse_since(text)? {
        ViewArg::AtTime(ms) => Ok(ms),
        _ => Err("give a time, as in 2026-05-01 or 2026-05-01T12:00:00Z".to_owned()),
    }
}

/// A position or a time, with or without the `@`.
fn parse_since(text: &str) -> Result<ViewArg, String> {
    let point = text.strip_prefix('@').unwrap_or(text);
    view::parse(&format!("@{point}"))
        .map_err(|_| "give @LSN or @TIME, as in @17 or @2026-01-31T12:00:00Z".to_owned())
}

fn parse_definition(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        _ => Err("give NAME=FILE.sql".to_owned()),
    }
}

fn parse_rule(text: &str) -> Result<RuleArg, String> {
    let (place, rule) = text.rsplit_once('=').unwrap_or_default();
    let (table, column) = place.split_once('.').unwrap_or_default();
    if [table, column, rule].iter().any(|part| part.is_empty()) {
        return Err("give TABLE.COLUMN=RULE".to_owned());
    }
    let [table, column, rule] = [table, column, rule].map(str::to_owned);
    Ok(RuleArg { table, column, rule })
}

#[cfg(test)]
mod tests;
