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
/// Pages a scan asks for at once, at most; what a node answers in one request.
pub const FETCH_PAGES_MAX: u32 = 8_192;
/// Bytes of pages a scan asks for at once, at most: a long scan of 100 MB takes few round trips,
/// and one answer fits into memory.
pub const FETCH_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How many times as much a scan asks for with every request: what it wastes when it ends, and
/// how few round trips a long one takes.
pub const FETCH_GROWTH: u32 = 4;
/// Pages a scan of a past position asks for at once: a part of those kept in memory.
pub const FETCH_PAST_PAGES_MAX: u32 = 256;
/// Pages a redo asks for at once, at most.
pub const REDO_PAGES_MAX: u32 = 256;
/// Interior pages whose children the prefetcher remembers.
pub const TREE_FAMILIES_MAX: usize = 256;
/// Pages that are here already among which a scan in tree order is followed.
pub const TREE_SKIP_MAX: usize = 1_024;
/// Pages that are asked for together when a small site is read for the first time.
pub const SMALL_SITE_RUN: u32 = 3;
/// Pages from the first on that are asked for together when a large site is first read: tables that
/// were made first have their roots there. More of them would mean one more frame of a bucket.
pub const FIRST_RUN: u32 = 4;
/// Pages read after an opening that are remembered, to be fetched together after the next one.
pub const WORKING_SET_PAGES: u64 = 256;
/// Reads after an opening that are looked at for them.
pub const WORKING_SET_READS: u32 = 4_096;
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
/// Pages of a commit up to which it is told as deltas: each costs a compression and some 40 bytes.
pub const DELTA_PAGES_MAX: u64 = 256;
/// Pages that one request says are here in an older version: each costs some 30 bytes to say.
pub const HELD_PAGES_MAX: usize = 1_024;
/// Positions of such pages that are looked for in one answer: each search walks the states
/// since the last fold.
pub const HELD_STATES_MAX: usize = 8;
/// Versions without content that are passed over in search of an older one to build on.
pub const HELD_STEPS_MAX: usize = 8;
/// Log bytes at which the local store folds, when they are also several times what it carries.
pub const FOLD_LOG_BYTES: u64 = 256 * 1024 * 1024;
/// Pages of the decoded page cache, unless the caller asks for another size: 16 MiB of 4 KiB. What
/// is not in it is read from a file that the operating system caches too.
pub const CACHE_PAGES: usize = 4_096;
/// Bytes of the pages of a write transaction, and again of waiting mutations, that are kept in
/// memory, unless the caller asks for another size.
pub const MEMORY_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of pages that one record stages: bounds the buffer it is put together in.
pub const STAGE_BYTES: usize = 1024 * 1024;
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
/// Bytes of frames after which a commit that is being appended hands them to its segment.
pub const SEGMENT_PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of each part but the last of an object that is written in parts: S3 takes no smaller ones
/// than 5 MiB, others want all of one size, and 10,000 of them are more than one commit may hold.
pub const UPLOAD_PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts of one object on their way at once; one more is being put together.
pub const UPLOAD_PARTS_AT_ONCE: usize = 2;
/// Branches of branches: each is one more log that old positions are read from.
pub const PARENTS_MAX: usize = 32;
/// Bytes in a site's name.
pub const SITE_NAME_BYTES_MAX: usize = 200;
/// Bytes of the record buffer that is kept between commits, and of one write of a fold.
pub const RECORD_BUFFER_BYTES: usize = 1024 * 1024;
/// Log bytes at which a replica that is being hydrated is folded, when they are also several times
/// what is carried: bounds the index of the log.
pub const HYDRATE_FOLD_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// Log bytes from which an idle replica is folded, so that its base file is the whole database.
pub const IDLE_FOLD_LOG_BYTES: u64 = 1024 * 1024;
/// Log bytes from which a replica is folded when it is closed, if that gives space back.
pub const CLOSE_FOLD_LOG_BYTES: u64 = 8 * 1024 * 1024;
/// Callers that a trial of a store lets race for one key: each is a thread.
pub const TRIAL_CREATORS_MAX: usize = 1_024;
/// Keys that a trial of a store lets them race for; each is an object until the end.
pub const TRIAL_ROUNDS_MAX: u64 = 100_000;
/// Times a trial of a store repeats what needs no race.
pub const TRIAL_REPEATS: u32 = 20;
/// Bytes of the objects that a trial writes to read them back: more than one network packet.
pub const TRIAL_OBJECT_BYTES: usize = 256 * 1024;
/// Findings that a verification keeps; it counts the others.
pub const FINDINGS_MAX: usize = 1_000;
/// Runs of page numbers that one finding shows.
pub const FINDING_RUNS_MAX: usize = 8;
/// Pages of a segment, in percent, from which a checkpoint refers to it; below, it rewrites what
/// is alive. Part of the format: that every checkpoint decides alike keeps reclaiming safe.
pub const ALIVE_PERCENT_MIN: u64 = 70;
/// Bytes that a reader asks for at first of a checkpoint: the directory of a site of 1 GiB, and
/// all of a small one. No checkpoint is shorter.
pub const CHECKPOINT_FIRST_BYTES: usize = 8 * 1024;
/// Bytes that a hint may tell a reader to ask for at once, of a checkpoint and of a boundary mark.
/// More are read in two steps, as without a hint.
pub const HINT_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a checkpoint's directory: 2^32 pages, and a million segments.
pub const CHECKPOINT_HEAD_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of the pages in a checkpoint's lead, compressed: what every reader pays at its opening, in
/// place of two round trips for each level of a tree.
pub const LEAD_PAGE_BYTES: usize = 24 * 1024;
/// Pages in a lead.
pub const LEAD_PAGES_MAX: usize = 32;
/// Pages that are read to choose those; each is a request or two for whoever makes a checkpoint.
pub const LEAD_READS_MAX: usize = 64;
/// Frames that a lead names: the pages above the leaves of a site of 1 GB. Each costs some 26 bytes.
pub const LEAD_FRAMES_MAX: usize = 768;
/// Bytes of a lead; one that would be longer is left out.
pub const LEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a lead that is unpacked: 32 pages of 64 KiB, and the frames.
pub const LEAD_PLAIN_BYTES_MAX: usize = 2 * 1024 * 1024 + 128 * 1024;
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
