//! Every bound of this crate that guards outside bytes, with its reason.

use sheaf_volume::{Error, ErrorKind, Result};

/// Bytes of one encoded mutation: what one push to a node carries, with room to spare, so that
/// nothing is committed here that could never travel.
pub const MUTATION_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Row operations in one mutation: bounds the work inside one savepoint.
pub const MUTATION_OPS_MAX: usize = 1_000_000;
/// Columns one operation may name, and columns of one key: SQLite's own default.
pub const COLUMNS_MAX: usize = 2_000;
/// Bytes in the name of a table, column, argument or mutator.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Bytes all names of one decoded mutation may take: a dictionary index of three bytes may stand
/// for a long name, so the names would otherwise outgrow the stream a hundredfold.
pub const NAMES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of SQL in one schema change or one mutator script.
pub const SQL_BYTES_MAX: usize = 1024 * 1024;
/// Arguments of one call; SQLite binds no more than 32,766 in one statement.
pub const CALL_ARGS_MAX: usize = 1_000;
/// Cells under `mvr` of one transaction for which it is said what was agreed on there. Of more,
/// values may stand beside others that were replaced.
pub const SEEN_CELLS_MAX: usize = 10_000;
/// Rows of one list that a transaction may place by asking for their neighbours one by one, where
/// no index leads to them: more are placed by reading all of the list once.
pub const LIST_QUERIES_MAX: usize = 16;
/// Locks of one mutation: each is looked up and moved wherever it is applied.
pub const LOCKS_MAX: usize = 1_000;
/// Statements of one mutator script: bounds what a call makes every replica do.
pub const SCRIPT_STATEMENTS_MAX: usize = 1_000;
/// Bytes of one value: SQLite's own default.
pub const VALUE_BYTES_MAX: usize = 1_000_000_000;
/// Bytes one call of `randomblob` may ask for in a mutator.
pub const RANDOM_BYTES_MAX: usize = 1024 * 1024;
/// Characters of a text value that a message for people quotes.
pub const QUOTED_CHARS_MAX: usize = 40;
/// Bytes of a rejection's reason, as the commit log limits it.
pub const REASON_BYTES_MAX: usize = 4_096;
/// Mutations in one batch: bounds what one replay holds in memory and one commit lists.
pub const BATCH_MUTATIONS_MAX: usize = 10_000;
/// Bytes a mutation takes on the wire beside its op stream, about.
pub const RECORD_OVERHEAD: usize = 32;
/// Bytes of mutations one append takes: small enough that a lost race is cheap to redo.
pub const LEAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of waiting mutations that a status looks into: it must not read a long timeline.
pub const STATUS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Rows of waiting mutations that are indexed, and rows of calls that are remembered: some tens of
/// megabytes at most. Beyond, what waits is unknown.
pub const PENDING_ROWS_MAX: usize = 200_000;
/// Bytes of waiting mutations that the index looks into, for the time that takes.
pub const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Waiting mutations that one list for people names.
pub const PENDING_LIST_MAX: usize = 1_000;
/// Values that gave way which a replica remembers, and cells with several values that it lists.
pub const CONFLICTS_MAX: usize = 256;
/// Bytes of each value that is remembered so.
pub const CONFLICT_VALUE_BYTES_MAX: usize = 4_096;
/// Listeners of one site, which handles of editors are too.
pub const LISTENERS_MAX: usize = 1_024;
/// Edits of one value that an editor has outstanding; more are taken as one.
pub const EDITS_MAX: usize = 64;
/// How often a handle reads two states before it leaves a busy site alone until it is asked again.
pub const WATCH_READS_MAX: usize = 8;
/// Rejections that wait for whoever polls a handle.
pub const WATCH_REJECTED_MAX: usize = 64;
/// Operations of one merged mutation that are told by name when they did not come out as they
/// were: the bits tell of all.
pub const ALTERED_OPS_MAX: usize = 64;
/// The same for all mutations of one redo.
pub const REDO_ALTERED_OPS_MAX: usize = 1_024;
/// Appends tried before the caller is told that others are always faster.
pub const LEAD_ATTEMPTS_MAX: u32 = 16;

/// Refuses a mutation that would be refused everywhere.
///
/// # Errors
/// `Limit` beyond [`MUTATION_BYTES_MAX`].
pub fn check_mutation(bytes: usize) -> Result<()> {
    if bytes <= MUTATION_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Limit,
        format!(
            "one transaction may change at most {MUTATION_BYTES_MAX} bytes of rows, this one \
             changes {bytes}; split it into several"
        ),
    ))
}

/// A reason, cut to what the log takes.
#[must_use]
pub fn clip(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or(reason)
}
/// Bytes of rows in one transaction of an import: far below what a push may carry.
pub const IMPORT_BYTES: usize = 256 * 1024;
/// Pages that a rollback journal keeps as they were without looking whether that is what lies below
/// the transaction: more than most transactions change.
pub const JOURNAL_IMAGES: usize = 16;
/// Levels of one b-tree: SQLite's own bound.
pub const BTREE_DEPTH_MAX: usize = 20;
/// Bytes of one value in a merge function that is an SQL expression: one of a few letters may
/// otherwise make every replica fill its memory.
pub const MERGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pages that a look back at one row carries from state to state: the way to the row and the schema.
pub const WATCH_PAGES_MAX: usize = 1_024;
/// Commits that a look back at one row takes at first; each further step takes
/// [`HISTORY_GROWTH`] times as many, as far as one pull gives them.
pub const HISTORY_COMMITS_MIN: usize = 64;
/// See [`HISTORY_COMMITS_MIN`]: a change of yesterday costs one short pull, a long log few.
pub const HISTORY_GROWTH: usize = 4;
/// Own mutations of which this many of the newest, at least, are remembered after the log has
/// decided them; at most twice as many are.
pub const DEEDS_MAX: usize = 1_000;
/// Bytes of each of the two files that remember them; also what is kept in memory of calls.
pub const DEEDS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one such mutation: a larger one would drive out many small ones.
pub const DEED_BYTES_MAX: usize = 256 * 1024;
/// Rows that one look back at a table follows: each is looked for in every state that may show one
/// of them otherwise.
pub const HISTORY_ROWS_MAX: usize = 10_000;
/// Milliseconds of commit time whose changes of one row are kept as one, beyond page retention.
pub const HISTORY_INTERVAL_MS: u64 = 600_000;
/// Bytes of one column that such a change keeps; of a larger value only its length.
pub const HISTORY_VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the values of one row that a record of its history keeps at once, in the order of its
/// columns; of the others it keeps the lengths.
pub const HISTORY_ROW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// States that are compared within one interval: its first commits one by one, then runs that
/// double.
pub const HISTORY_STEPS_MAX: u32 = 64;
/// Of those, commits that are a step of their own.
pub const HISTORY_SINGLE_STEPS: u32 = 40;
/// Rows in one transaction of the recorder; a step of more is kept row by row, unfolded.
pub const HISTORY_BATCH_ROWS: usize = 4_096;
/// Bytes of rows that it holds, of both states: an eighth of what one mutation may carry.
pub const HISTORY_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that one transaction of recording may take for making one change of two, so that with
/// what it records, and the authors of that, it stays within [`MUTATION_BYTES_MAX`].
pub const HISTORY_FOLD_BYTES: usize = 4 * 1024 * 1024;
/// Steps in one transaction of the recorder, so that a long quiet log is recorded bit by bit too.
pub const HISTORY_BATCH_STEPS: usize = 512;
/// Runs of authors that one recorded change names.
pub const HISTORY_AUTHORS_MAX: usize = 64;
/// Times in a row that another recorder may be first before it is left to that one.
pub const HISTORY_ATTEMPTS_MAX: u32 = 16;
/// Rows that retention deletes in one transaction.
pub const HISTORY_DELETES_MAX: usize = 4_096;
/// Bytes of pages that a replica of recorded history keeps on a device at rest.
pub const HISTORY_CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Milliseconds for which the log of recorded changes keeps its own past: whoever reads it then is
/// not disturbed.
pub const HISTORY_LOG_KEEP_MS: u64 = 60 * 60 * 1_000;
