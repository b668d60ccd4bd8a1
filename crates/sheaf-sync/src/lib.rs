//! What a Sheaf replica and a node say to each other: messages and sans-I/O sessions.
//!
//! [`message`] has the wire types, [`wire`] turns them into domain types and refuses what is
//! wrong, [`ClientSession`] and [`ServerSession`] are the state machines of the two ends: bytes
//! and time in, bytes and wishes out. Nothing here opens a socket, reads a clock or spawns.
//! Pages, and commits for whoever has no connection, travel over HTTP: [`pages`], [`pull`], and
//! so do requests for branches: [`branch`].

#![forbid(unsafe_code)]

pub mod branch;
mod client;
pub mod limits;
pub mod message;
pub mod pages;
pub mod pull;
mod queue;
mod server;
#[cfg(test)]
mod tests;
pub mod wire;

pub use client::{ClientEvent, ClientSession, Identity};
pub use server::{ServerRequest, ServerSession, changes_message, commits_message};
