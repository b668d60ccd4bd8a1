//! Every bound of the node, with its reason. A bound that is reached is counted in
//! `sheaf_limits_hit_total` under its name and answered with one clear message.

use std::time::Duration;

/// HTTP connections at once: bounds file descriptors and buffers.
pub const CONNECTIONS_MAX: usize = 1_024;
/// WebSockets at once; each costs two tasks and one outgoing queue.
pub const SOCKETS_MAX: usize = 1_024;
/// Bytes of a request's line and headers.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// How long a peer may take to send its headers, and how long an idle kept-alive connection lives.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a peer may take to send a request body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Body of `POST /v1/pull`: a volume and a position.
pub const PULL_BODY_MAX: usize = 4 * 1024;
/// Pages read and compressed in one go for an answer: bounds what one answer holds in memory.
pub const PAGES_CHUNK: u64 = 256;
/// Sockets at once whose `Hello` has not come: strangers may hold this many buffers, no more.
pub const GREETINGS_MAX: usize = 128;
/// How long bytes may wait for a peer before it counts as dead.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Notifications that wait for one peer. A peer that reads slower than it is written to is
/// disconnected: it resumes later from what it has, and nobody waits for it.
pub const NOTICES_MAX: usize = 1_024;
/// Bytes that a connection of an [`crate::engine::Engine`] keeps for a peer that does not take
/// them before it stands still: about what a socket's buffers would hold.
pub const ENGINE_UNSENT_BYTES: usize = 64 * 1024;
/// Sites open at once; each costs a thread, files and a cache.
pub const SITES_ACTIVE_MAX: usize = 512;
/// Requests that wait for one site. Senders wait when it is full: back-pressure, not loss.
pub const SITE_QUEUE_MAX: usize = 256;
/// Batches in one group: how many devices share one append.
pub const GROUP_BATCHES_MAX: usize = 128;
/// Mutation bytes in one group: bounds the replay that everybody in the group waits for.
pub const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Appends tried per group before its authors are asked to come back.
pub const LEAD_ATTEMPTS: u32 = 16;
/// Commits a device may be behind before what they changed is sent merged, if it takes that: one
/// answer instead of several.
pub const MERGE_FROM: u64 = 1_024;
/// Commits of a site kept in memory for pulls.
pub const COMMIT_CACHE_MAX: usize = 256;
/// Bytes of those commits.
pub const COMMIT_CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Encoded commit up to which a notification carries it whole: the reader saves a round trip.
pub const INLINE_COMMIT_MAX: usize = 128 * 1024;
/// How long a site without work and without watchers stays open.
pub const SITE_IDLE: Duration = Duration::from_secs(60);
/// First wait before a watched log is asked for commits that others appended.
pub const POLL_FIRST: Duration = Duration::from_secs(1);
/// Pause between two looks for a site that could be reclaimed; one whose log did not grow
/// meanwhile is quiet.
pub const RECLAIM_LOOK: Duration = Duration::from_secs(60);
/// Pause between two passes of reclaiming one site; a site that is never quiet waits twice as long.
pub const RECLAIM_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Longest wait between two such questions.
pub const POLL_MAX: Duration = Duration::from_secs(15);
/// Store and replica reads (pulls, pages) that run at once; others wait.
pub const READS_MAX: usize = 32;
/// How long a stopping node waits for open requests and sockets.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long a socket that we close waits for the peer to close too.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// Volumes whose site's name is remembered; a lookup, no more.
pub const KNOWN_MAX: usize = 65_536;
/// Pause between two readings of the whole catalogue for a volume that nobody opened by name.
pub const LIST_PAUSE: Duration = Duration::from_secs(2);
/// Tokens in a token file.
pub const TOKENS_MAX: usize = 10_000;
/// Bytes of a token file.
pub const TOKEN_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Characters of a presented token: longer ones are not hashed.
pub const TOKEN_LEN_MAX: usize = 256;
/// Characters of a token in a token file: shorter ones can be guessed.
pub const TOKEN_LEN_MIN: usize = 16;
/// How old the answer of `/healthz` about the store may be: probes must not load the store.
pub const HEALTH_CACHE: Duration = Duration::from_secs(2);
/// How long `/healthz` waits for the store.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
