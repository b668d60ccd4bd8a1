//! The wire messages, written by hand as `prost` types. Field tables in `docs/protocol.md`.
//!
//! Invariant: a field number is never used again for something else. Every integer and byte
//! string in here is as the other side sent it: nothing is trusted before [`crate::wire`] has
//! turned it into a domain type. Domain types never derive anything of `prost`.

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// The newest protocol version this build speaks.
pub const PROTOCOL_MAX: u32 = 1;
/// The oldest protocol version this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// Where a node accepts WebSockets; every binary frame is one [`Envelope`].
pub const SOCKET_PATH: &str = "/v1/socket";
/// Where a node answers [`FetchPages`] with length-delimited [`PageBlock`]s.
pub const PAGES_PATH: &str = "/v1/pages";
/// Where a node answers [`Branch`] with [`Opened`].
pub const BRANCH_PATH: &str = "/v1/branch";
/// Where a node answers [`Pull`] with [`Commits`].
pub const PULL_PATH: &str = "/v1/pull";
/// The media type of every HTTP request and answer body, errors included.
pub const MEDIA_TYPE: &str = "application/x-protobuf";

/// One frame of the connection.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// The message; absent when its number is not known to this build.
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    pub body: Option<Body>,
}

/// Every message of the connection.
#[derive(Clone, PartialEq, Oneof)]
pub enum Body {
    /// First message of a device.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Answer to `Hello`.
    #[prost(message, tag = "2")]
    Welcome(Welcome),
    /// Finds or creates a site by name.
    #[prost(message, tag = "3")]
    Open(Open),
    /// Answer to `Open`.
    #[prost(message, tag = "4")]
    Opened(Opened),
    /// Asks for notifications of a volume.
    #[prost(message, tag = "5")]
    Watch(Watch),
    /// Notification: the log is longer.
    #[prost(message, tag = "6")]
    Changed(Changed),
    /// Asks for commits.
    #[prost(message, tag = "7")]
    Pull(Pull),
    /// Answer to `Pull`.
    #[prost(message, tag = "8")]
    Commits(Commits),
    /// Sends mutations.
    #[prost(message, tag = "9")]
    Push(Push),
    /// Answer to `Push`.
    #[prost(message, tag = "10")]
    Verdicts(Verdicts),
    /// Asks whether the other side is alive.
    #[prost(message, tag = "11")]
    Ping(Ping),
    /// Answer to `Ping`.
    #[prost(message, tag = "12")]
    Pong(Ping),
    /// Something failed.
    #[prost(message, tag = "13")]
    Error(Error),
    /// Ends the notifications of a volume; has no answer.
    #[prost(message, tag = "14")]
    Unwatch(Unwatch),
}

/// First message of a device.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// Oldest protocol version the device speaks.
    #[prost(uint32, tag = "1")]
    pub protocol_min: u32,
    /// Newest protocol version the device speaks.
    #[prost(uint32, tag = "2")]
    pub protocol_max: u32,
    /// Program and version, for logs.
    #[prost(string, tag = "3")]
    pub agent: String,
    /// Device id, 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub device: Bytes,
    /// Bearer token; empty when the device has none.
    #[prost(string, tag = "5")]
    pub token: String,
}

/// Answer to [`Hello`].
#[derive(Clone, PartialEq, Message)]
pub struct Welcome {
    /// The version both sides speak from now on.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The node's id, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub node: Bytes,
    /// The device id the node knows this device by, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub device_confirmed: Bytes,
    /// What the device must keep below.
    #[prost(message, optional, tag = "4")]
    pub limits: Option<Limits>,
}

/// What a device must keep below on this connection; zero means this build's own limit.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Limits {
    /// Bytes of one WebSocket message.
    #[prost(uint64, tag = "1")]
    pub frame_bytes_max: u64,
    /// Bytes of the mutations of one push.
    #[prost(uint64, tag = "2")]
    pub push_bytes_max: u64,
    /// Mutations of one push.
    #[prost(uint32, tag = "3")]
    pub push_mutations_max: u32,
    /// Volumes open on one connection.
    #[prost(uint32, tag = "4")]
    pub open_sites_max: u32,
    /// Silence after which the node drops the connection.
    #[prost(uint32, tag = "5")]
    pub idle_ms_max: u32,
}

/// Finds a site by name, or creates it.
#[derive(Clone, PartialEq, Message)]
pub struct Open {
    /// Repeated in the answer; never zero.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// The site's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Ids to create it under when the name is free; absent: do not create.
    #[prost(message, optional, tag = "3")]
    pub create: Option<CreateSite>,
}

/// Ids of a site that was created offline.
#[derive(Clone, PartialEq, Message)]
pub struct CreateSite {
    /// Site id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub site: Bytes,
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub volume: Bytes,
    /// Bytes per page.
    #[prost(uint32, tag = "3")]
    pub page_size: u32,
}

/// The newest state of a log.
#[derive(Clone, PartialEq, Message)]
pub struct Head {
    /// Position of the newest commit, zero for none.
    #[prost(uint64, tag = "1")]
    pub lsn: u64,
    /// Its hash, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub hash: Bytes,
    /// Pages in that state.
    #[prost(uint32, tag = "3")]
    pub page_count: u32,
    /// Bytes per page.
    #[prost(uint32, tag = "4")]
    pub page_size: u32,
    /// When that commit was made, milliseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub time_ms: u64,
}

/// Answer to [`Open`]: the ids the name stands for, which need not be those offered.
#[derive(Clone, PartialEq, Message)]
pub struct Opened {
    /// The request answered.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// The site's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Site id, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub site: Bytes,
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub volume: Bytes,
    /// The newest state of its log.
    #[prost(message, optional, tag = "5")]
    pub head: Option<Head>,
    /// The volumes it branched from, nearest first.
    #[prost(message, repeated, tag = "6")]
    pub parents: Vec<Parent>,
}

/// A volume that a branch goes on from.
#[derive(Clone, PartialEq, Message)]
pub struct Parent {
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub volume: Bytes,
    /// The newest of its positions that belongs to the branch.
    #[prost(uint64, tag = "2")]
    pub lsn: u64,
}

/// Asks for a branch; the body of an HTTP request. Without `lsn` and `time_ms`: of the head.
#[derive(Clone, PartialEq, Message)]
pub struct Branch {
    /// Name of the site to branch from.
    #[prost(string, tag = "1")]
    pub source: String,
    /// Name of the branch.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Site id of the branch, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub site: Bytes,
    /// Volume id of the branch, 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub volume: Bytes,
    /// The position to branch at.
    #[prost(uint64, optional, tag = "5")]
    pub lsn: Option<u64>,
    /// Or the newest one made at or before this time, milliseconds since 1970.
    #[prost(uint64, optional, tag = "6")]
    pub time_ms: Option<u64>,
}

/// Asks to be told whenever the log of a volume grows. A second one moves `after_lsn`.
#[derive(Clone, PartialEq, Message)]
pub struct Watch {
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub volume: Bytes,
    /// The newest position the device has; a longer log is announced at once.
    #[prost(uint64, tag = "2")]
    pub after_lsn: u64,
    /// The device takes [`Changed::deltas`].
    #[prost(bool, tag = "3")]
    pub deltas: bool,
}

/// Ends the notifications of a volume.
#[derive(Clone, PartialEq, Message)]
pub struct Unwatch {
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub volume: Bytes,
}

/// Notification that the log is longer.
#[derive(Clone, PartialEq, Message)]
pub struct Changed {
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub volume: Bytes,
    /// Position of the newest commit.
    #[prost(uint64, tag = "2")]
    pub lsn: u64,
    /// When that commit was made, milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
    /// The newest commits as log objects, ascending, without gaps, the last one at `lsn`; none
    /// when they are too large to push unasked: the device pulls them when it wants them.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub commits: Vec<Bytes>,
    /// In place of `commits`, to a device that takes them: the same commits as commit deltas.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub deltas: Vec<Bytes>,
}

/// Asks for the commits after a position. Also the body of an HTTP request (`request` zero).
#[derive(Clone, PartialEq, Message)]
pub struct Pull {
    /// Repeated in the answer; zero over HTTP.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub volume: Bytes,
    /// The newest position the device has.
    #[prost(uint64, tag = "3")]
    pub after_lsn: u64,
    /// Answer with the head and no commits.
    #[prost(bool, tag = "4")]
    pub head_only: bool,
    /// Timeline id, 16 bytes: the device takes [`Changes`] in place of commits when it is far
    /// behind, and wants to hear of this timeline. Empty: commits only.
    #[prost(bytes = "bytes", tag = "5")]
    pub merge_for: Bytes,
}

/// Answer to [`Pull`].
#[derive(Clone, PartialEq, Message)]
pub struct Commits {
    /// The request answered.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub volume: Bytes,
    /// Log objects from `after_lsn + 1`, ascending, without gaps.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub commits: Vec<Bytes>,
    /// The newest state of the log.
    #[prost(message, optional, tag = "4")]
    pub head: Option<Head>,
    /// There are further commits: pull again after the last one of these.
    #[prost(bool, tag = "5")]
    pub more: bool,
    /// In place of the commits: what all of them changed. `commits` are then those with news of
    /// the timeline asked for and the newest one, ascending, and `head` is what they lead to.
    #[prost(message, optional, tag = "6")]
    pub changes: Option<Changes>,
}

/// What many commits changed, in an answer to [`Pull`].
#[derive(Clone, PartialEq, Message)]
pub struct Changes {
    /// The position from which on this tells everything.
    #[prost(uint64, tag = "1")]
    pub after_lsn: u64,
    /// Hash of the commit there, 32 bytes; empty when the commit after it is gone.
    #[prost(bytes = "bytes", tag = "2")]
    pub parent: Bytes,
    /// Pages of the smallest state on the way.
    #[prost(uint32, tag = "3")]
    pub floor: u32,
    /// Which pages changed, as a page set.
    #[prost(bytes = "bytes", tag = "4")]
    pub pages: Bytes,
}

/// Sends consecutive mutations of one timeline.
#[derive(Clone, PartialEq, Message)]
pub struct Push {
    /// Repeated in the answer; never zero.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub volume: Bytes,
    /// Timeline id, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub timeline: Bytes,
    /// Reserved, zero: a device that lost its history starts a new timeline instead.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
    /// Sequence number of the first mutation, from 1.
    #[prost(uint64, tag = "5")]
    pub first_seq: u64,
    /// Running hash of the timeline before `first_seq`, 16 bytes.
    #[prost(bytes = "bytes", tag = "6")]
    pub prev_hash: Bytes,
    /// The mutations, their sequence numbers ascending without gaps.
    #[prost(message, repeated, tag = "7")]
    pub mutations: Vec<Mutation>,
    /// The device wants to know of each mutation that is merged which of its operations stand
    /// ([`VerdictEntry::ops`], [`VerdictEntry::stands`]).
    #[prost(bool, tag = "8")]
    pub tell_stands: bool,
}

/// One mutation.
#[derive(Clone, PartialEq, Message)]
pub struct Mutation {
    /// Its sequence number.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// The global position its author had when it was made.
    #[prost(uint64, tag = "2")]
    pub base_lsn: u64,
    /// When it was made, milliseconds since 1970, by its author's clock.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
    /// The encoded mutation; opaque here.
    #[prost(bytes = "bytes", tag = "4")]
    pub bytes: Bytes,
}

/// Answer to [`Push`].
#[derive(Clone, PartialEq, Message)]
pub struct Verdicts {
    /// The request answered.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub volume: Bytes,
    /// Timeline id, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub timeline: Bytes,
    /// Sequence number the first verdict is about.
    #[prost(uint64, tag = "4")]
    pub first_seq: u64,
    /// One per mutation; or exactly one of kind gap, fork or malformed about the whole batch.
    #[prost(message, repeated, tag = "5")]
    pub verdicts: Vec<VerdictEntry>,
    /// Position of the log at which all of them are in effect.
    #[prost(uint64, tag = "6")]
    pub lsn: u64,
    /// The sequence number the node expects next on this timeline.
    #[prost(uint64, tag = "7")]
    pub next_seq: u64,
}

/// What became of one mutation, or of a batch.
#[derive(Clone, PartialEq, Message)]
pub struct VerdictEntry {
    /// A [`VerdictKind`].
    #[prost(enumeration = "VerdictKind", tag = "1")]
    pub kind: i32,
    /// Why, for rejected, fork and malformed.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// How many operations the mutation has, if `stands` tells of them; zero: nothing is told.
    #[prost(uint32, tag = "3")]
    pub ops: u32,
    /// For merged, if asked: which operations came out as they were sent, a bit each in
    /// little-endian words of 32; empty when all of them did.
    #[prost(bytes = "bytes", tag = "4")]
    pub stands: Bytes,
}

/// Kinds of [`VerdictEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum VerdictKind {
    /// Never sent; what a future kind looks like to this build.
    Unspecified = 0,
    /// Applied as it was (or earlier already).
    Ok = 1,
    /// Applied after a merge.
    Merged = 2,
    /// Recorded and skipped.
    Rejected = 3,
    /// Nothing was applied: the batch does not follow on `next_seq`.
    Gap = 4,
    /// Nothing was applied: this (timeline, seq) is known with other bytes.
    Fork = 5,
    /// Nothing was applied: the batch cannot be read.
    Malformed = 6,
}

/// Asks whether the other side is alive; sent back as it is.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Ping {
    /// Any number.
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
}

/// Something failed. Also the body of every HTTP answer whose status is not 200.
#[derive(Clone, PartialEq, Message)]
pub struct Error {
    /// The request that failed; zero when it is about the connection.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// An [`ErrorCode`].
    #[prost(enumeration = "ErrorCode", tag = "2")]
    pub code: i32,
    /// One line for people that says what to do.
    #[prost(string, tag = "3")]
    pub message: String,
    /// The sender closes the connection after this.
    #[prost(bool, tag = "4")]
    pub fatal: bool,
}

/// Codes of [`Error`]: what the receiver should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ErrorCode {
    /// Never sent; what a future code looks like to this build.
    Unspecified = 0,
    /// The message is wrong: mend it.
    Invalid = 1,
    /// The token gives no right to this.
    Denied = 2,
    /// There is no such site, volume or page.
    NotFound = 3,
    /// No common protocol version, or a message this build does not know: upgrade.
    Unsupported = 4,
    /// A bound was passed.
    Limit = 5,
    /// Not now: try again with back-off.
    Unavailable = 6,
    /// The log no longer reaches back that far: start from a newer state.
    Expired = 7,
    /// Stored bytes fail their checks: an operator has to look.
    Corrupt = 8,
    /// A bug: report it.
    Internal = 9,
    /// The site is opened under other ids than the device has.
    Conflict = 10,
}

/// Body of a request to [`PAGES_PATH`].
#[derive(Clone, PartialEq, Message)]
pub struct FetchPages {
    /// Volume id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub volume: Bytes,
    /// The pages, by position.
    #[prost(message, repeated, tag = "2")]
    pub wants: Vec<WantPages>,
    /// Older versions of them that the asker has: they may be answered with deltas.
    #[prost(message, repeated, tag = "3")]
    pub held: Vec<HeldPage>,
}

/// A page that the asker of [`FetchPages`] has as it was at an earlier position.
#[derive(Clone, PartialEq, Message)]
pub struct HeldPage {
    /// Page number, from 1; at most one of each page counts.
    #[prost(uint32, tag = "1")]
    pub idx: u32,
    /// The position.
    #[prost(uint64, tag = "2")]
    pub lsn: u64,
    /// The page's hash there, as in [`PageBlock::hash`].
    #[prost(bytes = "bytes", tag = "3")]
    pub hash: Bytes,
}

/// Pages wanted as they were at a position.
#[derive(Clone, PartialEq, Message)]
pub struct WantPages {
    /// The position.
    #[prost(uint64, tag = "1")]
    pub lsn: u64,
    /// The page set in its byte form.
    #[prost(bytes = "bytes", tag = "2")]
    pub pages: Bytes,
}

/// One page of the answer to [`FetchPages`]; each is preceded by its length as a varint.
#[derive(Clone, PartialEq, Message)]
pub struct PageBlock {
    /// Page number, from 1.
    #[prost(uint32, tag = "1")]
    pub idx: u32,
    /// The position it was asked for at.
    #[prost(uint64, tag = "2")]
    pub lsn: u64,
    /// 0: `bytes` is the page; 1: `bytes` is the page compressed with zstd; 2: `bytes` is a page
    /// delta against the version that the asker said to hold.
    #[prost(uint32, tag = "3")]
    pub encoding: u32,
    /// The page.
    #[prost(bytes = "bytes", tag = "4")]
    pub bytes: Bytes,
    /// First 16 bytes of BLAKE3 of `sheaf page v1`, volume, position, number and the raw page.
    #[prost(bytes = "bytes", tag = "5")]
    pub hash: Bytes,
}
