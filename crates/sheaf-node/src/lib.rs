//! The Sheaf server: a replica that others trust.
//!
//! [`Node::start`] opens a bucket and listens; devices connect by WebSocket, push mutations and
//! are told what the log decided. One thread per active site gathers the mutations of all devices
//! into groups, replays each group on the node's own replica and appends the result; a device has
//! its verdicts only when that append is durable. Everything is denied by default, every bound
//! has a name ([`limits`]), and a device that misbehaves harms nobody but itself.
//!
//! What is decided and what is waited for are kept apart: [`engine`] runs the same connections,
//! sites and actors without threads, runtime and sockets.
//!
//! Reading order: `options`, `node`, `server`, `gate`, `http`, `socket`, `desk`, `sites`, `open`,
//! `actor`, `reclaim`.

#![forbid(unsafe_code)]

mod actor;
mod answers;
mod catalog;
mod clock;
mod crew;
mod data;
mod desk;
pub mod engine;
mod error;
mod gate;
mod http;
pub mod limits;
mod metrics;
mod node;
mod open;
mod options;
mod pace;
mod recent;
mod reclaim;
mod server;
mod sites;
mod socket;
mod token;

pub use node::{Node, Running};
pub use options::NodeOptions;
pub use sheaf_volume::{Error, ErrorKind, Result};
