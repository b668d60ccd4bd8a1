//! Every bound and timeout of this crate, with its reason.

use std::time::Duration;

/// From a commit to its flush under `Durability::Normal`: commits meanwhile share one flush.
pub const FLUSH_AFTER: Duration = Duration::from_millis(20);

/// To open a TCP (and TLS) connection and to upgrade it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of an HTTP answer.
pub const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// For one whole HTTP exchange: the largest page request is 64 MiB.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(180);
/// How often a page or commit request is sent when its answer breaks off.
pub const REQUEST_ATTEMPTS: u32 = 3;
/// Bytes of the answer to a pull over HTTP.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Pieces of an HTTP answer that wait for their reader; more stop the reading of the socket.
pub const PIECES_MAX: usize = 64;
/// Bytes of an error body that are read.
pub const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Bytes of mutations offered at once, unless a single one is larger: what a push under way holds
/// in memory here and there.
pub const PUSH_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of mutations still to be pushed from which commits are not taken until they are.
pub const REDO_BYTES: u64 = 8 * 1024 * 1024;
/// How long a connection that nobody uses is kept: two commands in a row need one handshake.
pub const LINGER: Duration = Duration::from_secs(10);
/// Frames and other inputs that wait for the link thread; a full queue stops reading the socket.
pub const INPUTS_MAX: usize = 64;
/// Frames that wait for the socket.
pub const FRAMES_MAX: usize = 16;
/// How long a site whose commits could not be integrated is left alone, when that may pass by
/// itself and when it will not.
pub const REOPEN_SOON: Duration = Duration::from_secs(1);
/// See [`REOPEN_SOON`].
pub const REOPEN_LATE: Duration = Duration::from_secs(30);
/// How long closing waits for the link thread to let go of a site.
pub const DETACH_TIMEOUT: Duration = Duration::from_secs(30);

/// First and longest pause between looks at a bucket while online, the upper half of it jittered.
/// A look that finds nothing is one request: at the longest pause, three to four a minute.
pub const POLL_MIN: Duration = Duration::from_millis(500);
/// See [`POLL_MIN`].
pub const POLL_MAX: Duration = Duration::from_secs(20);

/// How often a fork hands over what was written while it was at it.
pub const FORK_ROUNDS_MAX: u32 = 16;

/// From a change to running queries again: changes meanwhile are answered at once.
pub const ANSWER_AFTER: Duration = Duration::from_millis(5);
/// Queries that one client runs again.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Rows of one answer, which is held twice: here and by whoever takes it.
pub const ANSWER_ROWS_MAX: usize = 100_000;
/// Bytes of the values of one answer.
pub const ANSWER_VALUES_MAX: usize = 64 * 1024 * 1024;
/// Events that wait for whoever listens; the oldest are dropped first.
pub const EVENTS_MAX: usize = 1_024;
/// Rejections that one exchange reports.
pub const REJECTED_MAX: usize = 10_000;
/// Merges of own mutations that one exchange reports.
pub const MERGES_MAX: usize = 1_000;
/// Bytes of a small text file in the client's directory.
pub const TEXT_FILE_MAX: usize = 4_096;
/// Bytes of a site's directory name; file systems end at 255.
pub const DIR_NAME_MAX: usize = 240;
/// Entries one call of `log` returns.
pub const LOG_ENTRIES_MAX: usize = 10_000;
/// Lines of SQLite's own check that a verification keeps.
pub const CHECK_LINES_MAX: usize = 100;
/// Pages that a verification compares with the log in one request: 4 MiB of usual pages.
pub const COMPARE_PAGES: usize = 1_024;
/// How long to wait for a server that is asked for recorded changes.
pub const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
