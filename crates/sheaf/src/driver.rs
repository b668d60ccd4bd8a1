//! The parts of a client that decide, without threads, runtime or sockets: for hosts that have
//! none (a browser) or want none (a simulator).
//!
//! [`Driver`] is a device's link to one node. Its host gives it a [`Transport`] for frames, calls
//! [`Driver::step`], and tells it what the transport brings. [`Wishes`] is the side that everybody
//! else uses: sites are attached, kept online, and exchanged there. [`NodeRemote`] fetches commits
//! and pages of a volume from a node through a [`Post`]. [`BucketDriver`] exchanges one site with
//! a bucket. [`crate::Client`] is one host: a thread per link, a WebSocket, HTTP.
//!
//! Two rules for a host: nothing here is called from within [`Driver::step`] (a transport answers
//! later), and one input is followed by one step.

pub use sheaf_sync::Identity;

pub use crate::{
    bucket::BucketDriver,
    exchange::{Ask, Tally},
    link::{Asked, Driver, Transport, Wishes},
    node::{Fault, NodeRemote, Post},
};
