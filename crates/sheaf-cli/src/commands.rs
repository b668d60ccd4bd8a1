//! One file per command, or per pair of commands that are two directions of one thing.
//!
//! Invariant: a command understands all of its input before it opens anything, and says so in the
//! exit status if it did not do all it was asked.

mod branch;
mod clone;
mod contact;
mod diff;
mod evict;
mod files;
mod gc;
mod history;
mod log;
mod mutate;
mod reset;
mod restore;
mod rules;
mod serve;
mod sql;
mod status;
mod transfer;
mod undo;
mod verify;
mod verify_store;

use crate::{
    args::{Cli, Command},
    console::Console,
    exit::{Exit, Failure},
    shell,
};

pub(crate) use contact::{Contact, after, before, enter};
pub(crate) use log::show as show_log;
pub(crate) use mutate::parse_args as parse_mutation_args;
pub(crate) use status::{print as print_status, print_rejected};
pub(crate) use transfer::{Direction, bytes, print as print_exchanged, report_rejected, talk};

/// Runs a command.
pub(crate) fn run(cli: Cli, console: &mut Console) -> Result<Exit, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Serve(args) => serve::run(args, console),
        Command::Sql(args) => sql::run(&args, global, console),
        Command::Shell(args) => shell::run(&args, global, console),
        Command::Import(args) => files::import(&args, global, console),
        Command::Export(args) => files::export(&args, global, console),
        Command::Clone(args) => clone::run(&args, global, console),
        Command::Evict(args) => evict::run(&args, global, console),
        Command::Status(args) => status::run(&args, global, console),
        Command::Log(args) => log::run(&args, global, console),
        Command::Branch(args) => branch::run(&args, global, console),
        Command::Diff(args) => diff::run(&args, global, console),
        Command::Restore(args) => restore::run(&args, global, console),
        Command::History(args) => history::history(&args, global, console),
        Command::Blame(args) => history::blame(&args, global, console),
        Command::Undo(args) => undo::run(&args, global, console),
        Command::Pull(args) => transfer::pull(&args, global, console),
        Command::Push(args) => transfer::push(&args, global, console),
        Command::Reset(args) => reset::run(&args, global, console),
        Command::Mutate(args) => mutate::call(&args, global, console),
        Command::Mutators(args) => mutate::list(&args, global, console),
        Command::Define(args) => mutate::define(&args, global, console),
        Command::Rules(args) => rules::run(&args, global, console),
        Command::Sites => status::sites(global, console),
        Command::Verify(args) => verify::verify(&args, global, console),
        Command::Repair(args) => verify::repair(&args, global, console),
        Command::VerifyStore(args) => verify_store::run(&args, console),
        Command::Gc(args) => gc::run(&args, global, console),
    }
}
