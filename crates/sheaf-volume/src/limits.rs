//! Every bound of this crate, with its reason.

/// Commits one pull returns: bounds the memory of a replica that was away for long.
pub const PULL_COMMITS_MAX: usize = 1_024;
/// Compressed page bytes up to which a commit carries its frames inline: one PUT instead of two.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Pages in one frame: what one damaged byte spoils, and the least a bucket reader fetches.
pub const FRAME_PAGES_MAX: u32 = 8;
/// Bytes of one encoded commit object. A commit of 2^32 pages in frames of 8 stays below it only
/// up to about 40 GiB; larger commits must be split by their writer.
pub const COMMIT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Frames one commit may list.
pub const COMMIT_FRAMES_MAX: usize = 8 * 1024 * 1024;
/// Table names one commit may list, and bytes in one name.
pub const COMMIT_TABLES_MAX: usize = 4_096;
/// Bytes in one table name or rejection reason.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// Timelines one commit may have applied.
pub const COMMIT_APPLIED_MAX: usize = 65_536;
/// Decoded commits a bucket reader keeps in memory.
pub const COMMIT_CACHE_MAX: usize = 4_096;
/// Metadata bytes of a record looked at behind a torn one while deciding torn or damaged.
pub const TAIL_META_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Pages one fetch asks for: 1 MiB of 4 KiB pages.
pub const FETCH_PAGES_MAX: u32 = 256;
/// Bytes of a site that is fetched whole when its pages are asked for again and again.
pub const SMALL_SITE_BYTES: u64 = 1024 * 1024;
/// Requests for pages of a small site before it is: a few queries need less.
pub const SMALL_SITE_PLANS: u32 = 8;
/// Pages a redo may miss before it asks also for pages that were never here.
pub const SHORT_REDO_MISSES: u32 = 8;
/// Bytes of pages one request of [`crate::Volume::hydrate`] asks for: what a cut connection loses.
pub const HYDRATE_BYTES: usize = 4 * 1024 * 1024;
/// Pages of such a request: each may hold at another position, and names it.
pub const HYDRATE_PAGES_MAX: usize = 1_024;
/// Log bytes at which the local store folds, when they are also several times what it carries.
pub const FOLD_LOG_BYTES: u64 = 256 * 1024 * 1024;
/// Pages of the decoded page cache, unless the caller asks for another size: 64 MiB of 4 KiB.
pub const CACHE_PAGES: usize = 16_384;
/// Pages of past states kept in memory for time travel.
pub const PAST_CACHE_PAGES: usize = 1_024;
/// Times a read starts again after a fetch or a damaged local page, before it gives up.
pub const READ_ATTEMPTS_MAX: usize = 4;
/// Changed pages up to which a commit lists each by its distance from the one before: shorter
/// than a page set's header for the small commits that most are.
pub const COMMIT_PAGES_LISTED_MAX: u64 = 16;
/// Mutations one commit may have applied: bounds what a walk through its verdicts costs.
pub const COMMIT_MUTATIONS_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of decoded commits that a bucket reader keeps in memory.
pub const COMMIT_CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Highest position: far from every overflow, and an integer in SQLite and JavaScript alike.
pub const LSN_MAX: u64 = (1 << 53) - 1;
/// Commits a pull asks for at first, unless it knows of more: the next one, and one behind it.
pub const PULL_BATCH_MIN: usize = 2;
/// Commits a pull or a walk back through the log asks for at once.
pub const LOG_BATCH_MAX: usize = 256;
/// Bytes of commits after which a pull returns what it has.
pub const PULL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Walks through the log that a bucket reader remembers: one per state that is being read.
pub const WALKS_MAX: usize = 4;
/// Bytes of one range request: larger reads are split so that their parts run at once.
pub const RANGE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes in a site's name.
pub const SITE_NAME_BYTES_MAX: usize = 200;
/// Bytes of the record buffer that is kept between commits, and of one write of a fold.
pub const RECORD_BUFFER_BYTES: usize = 1024 * 1024;
/// Log bytes from which an idle replica is folded, so that its base file is the whole database.
pub const IDLE_FOLD_LOG_BYTES: u64 = 1024 * 1024;
/// Log bytes from which a replica is folded when it is closed, if that gives space back.
pub const CLOSE_FOLD_LOG_BYTES: u64 = 8 * 1024 * 1024;
/// Pages of a segment, in percent, from which a checkpoint refers to it; below, it rewrites what
/// is alive. Part of the format: that every checkpoint decides alike keeps reclaiming safe.
pub const ALIVE_PERCENT_MIN: u64 = 70;
/// Bytes that a reader asks for at first of a checkpoint: the directory of a site of 1 GiB, and
/// all of a small one. No checkpoint is shorter.
pub const CHECKPOINT_FIRST_BYTES: usize = 8 * 1024;
/// Bytes of a checkpoint's directory: 2^32 pages, and a million segments.
pub const CHECKPOINT_HEAD_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of one chunk: 1,024 frames that each have one live page here.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Decoded chunks of checkpoints that a bucket reader keeps in memory.
pub const CHUNK_CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of a segment that a checkpoint writes: large, for readers that take much, and small
/// enough to be held in memory while it is made.
pub const COMPACT_BYTES: usize = 32 * 1024 * 1024;
/// Commits since the newest checkpoint from which a node makes the next one.
pub const CHECKPOINT_COMMITS: u64 = 1_024;
/// Boundary marks read one after the other before they are listed instead, and attempts to create
/// one.
pub const MARKS_AT_ONCE: usize = 16;
/// Segments that one boundary mark may name: 256 KiB of it. Others are named by a later one.
pub const SUSPECTS_MAX: usize = 16_384;
/// Commits whose objects one pass of a reclaimer deletes; the next pass goes on.
pub const GC_COMMITS_MAX: usize = 65_536;
/// Objects that one request to delete names.
pub const DELETE_BATCH_MAX: usize = 256;
