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
/// Commits in one pack: what a late reader saves requests by, and how many single commits at most
/// it reads behind the last pack.
pub const PACK_COMMITS: u64 = 256;
/// Bytes of the commits of one pack; a run that has more gets none, because reading such commits
/// one by one costs few requests per byte.
pub const PACK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Packs read at once: bounds the bytes in flight, and is what one pull may return.
pub const PACKS_AT_ONCE: usize = 4;
/// Commits a pull means to ask for one by one before it looks for packs: nobody who is only a
/// little behind pays for the look.
pub const PACKS_FROM: usize = 32;
/// Pages that merged changes carry with them; the others are fetched when they are read.
pub const CHANGES_PAGES_MAX: usize = 16_384;
/// Commits with news of one timeline that merged changes carry with them.
pub const CHANGES_COMMITS_MAX: usize = 1_024;
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
