//! Every bound of this crate, with its reason.

/// Bytes of one WebSocket message, either way: what one peer can make the other allocate at once.
pub const FRAME_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Bytes of the mutations of one push: one group commit of the node stays small enough to replay
/// in well under a second. A single larger mutation cannot travel and must be split by its author.
pub const PUSH_BYTES_MAX: usize = 36 * 1024 * 1024;
/// Mutations of one push.
pub const PUSH_MUTATIONS_MAX: usize = 4_096;
/// Operations of one mutation that a verdict tells of, one bit each: as many as one may have.
pub const VERDICT_OPS_MAX: usize = 1_000_000;
/// Bytes of these bits in one `Verdicts`; what is beyond is not told.
pub const STANDS_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of commits in one `Changed`: a busy site must not flood a slow device unasked.
pub const CHANGED_BYTES_MAX: usize = 256 * 1024;
/// Bytes of commits in one `Commits`, unless a single commit is larger.
pub const COMMITS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Commits in one `Commits` or `Changed`.
pub const COMMITS_MAX: usize = 1_024;
/// Sites open on one connection.
pub const OPEN_SITES_MAX: usize = 256;
/// Bytes of a site's name.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a token; longer ones are refused before they are compared.
pub const TOKEN_BYTES_MAX: usize = 4_096;
/// Bytes of the agent line in `Hello`.
pub const AGENT_BYTES_MAX: usize = 256;
/// Bytes of a reason or error message; longer ones are cut by the sender.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// Frames a session keeps for its transport before it says `Limit`: a peer that does not read
/// must not grow our memory.
pub const OUT_FRAMES_MAX: usize = 1_024;
/// Bytes of those frames.
pub const OUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Events a client session keeps for its role before it stops asking for more.
pub const EVENTS_MAX: usize = 4_096;
/// Requests of one connection a node works on at a time.
pub const REQUESTS_MAX: usize = 256;

/// How long a device waits for `Welcome`.
pub const HELLO_TIMEOUT_MS: u64 = 10_000;
/// How long a device waits for the answer to `Open` or `Pull` before it drops the connection.
pub const REQUEST_TIMEOUT_MS: u64 = 60_000;
/// How long it waits for the verdicts on a push. Replaying a large one, or one behind others, may
/// take a node minutes; one that is gone is noticed by its silence ([`PING_AFTER_MS`]), so this
/// only ends the waiting for a node that answers pings and nothing else.
pub const PUSH_TIMEOUT_MS: u64 = 30 * 60_000;
/// Silence after which a device sends a ping.
pub const PING_AFTER_MS: u64 = 20_000;
/// How long it waits for any byte after a ping.
pub const PONG_TIMEOUT_MS: u64 = 10_000;
/// Silence after which a node drops a connection; three missed pings.
pub const IDLE_TIMEOUT_MS: u64 = 90_000;
/// First and largest delay before a device connects again; doubled each time, then jittered.
pub const BACKOFF_MIN_MS: u64 = 250;
/// See [`BACKOFF_MIN_MS`].
pub const BACKOFF_MAX_MS: u64 = 30_000;

/// How long a device leaves a site alone after the node could not serve it.
pub const SITE_HOLD_MS: u64 = 1_000;
/// How long it leaves a site alone that the node, or its store, did not find, or for which a
/// connection had no room.
pub const SITE_MISSING_HOLD_MS: u64 = 30_000;

/// Wants in one page request.
pub const WANTS_MAX: usize = 1_024;
/// Pages in one page request: at 4 KiB, 64 MiB raw.
pub const WANT_PAGES_MAX: u64 = 16_384;
/// Older versions that one page request may say to hold.
pub const HELD_PAGES_MAX: usize = 1_024;
/// Bytes of an HTTP request body.
pub const REQUEST_BODY_MAX: usize = 1024 * 1024;
/// Bytes of one page block beside the page: field tags, lengths, number, position and hash.
pub const BLOCK_OVERHEAD_MAX: usize = 64;
