//! Dot commands: their names, their arguments, and what they do.
//!
//! Invariant: `COMMANDS` is the only list of names; help and completion read it. A name may be
//! shortened as long as it is clear which is meant.

use serde_json::Value;

use super::{Flow, Shell, schema, script};
use crate::{
    commands::{self, Direction},
    exit::{Exit, Failure},
    render::Mode,
    view::ViewArg,
};

/// One dot command.
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) args: &'static str,
    pub(super) help: &'static str,
    run: fn(&mut Shell<'_>, &str) -> Result<Flow, Failure>,
}

/// All of them, sorted by name.
pub(super) const COMMANDS: [Command; 19] = [
    command("bail", "on|off", "Stop a script at its first error", bail),
    command("exit", "[CODE]", "End, with an exit status", exit),
    command("global", "[SQL|on|off]", "Look at what everybody has agreed on", global),
    command("headers", "on|off", "Print the column names first", headers),
    command("help", "", "Show this text", help),
    command("log", "[N]", "Show the newest entries of the log", log),
    command("mode", "[MODE]", "Choose list, csv, column, json, line or table", mode),
    command("mutate", "NAME [JSON]", "Call a named mutator", mutate),
    command("offline", "[on|off]", "Stop or start talking to the server", offline),
    command("print", "[TEXT]", "Print a text", print),
    command("pull", "", "Learn what others changed", pull),
    command("push", "", "Send what was changed here", push),
    command("quit", "", "End", quit),
    command("read", "FILE", "Run the lines of a file", read),
    command("rejected", "[dismiss]", "List, or forget, the changes that were rejected", rejected),
    command("schema", "[PATTERN]", "Show the CREATE statements", show_schema),
    command("separator", "TEXT", "What stands between columns in list and csv", separator),
    command("status", "", "Show the state of the site", status),
    command("tables", "[PATTERN]", "List tables and views", tables),
];

const fn command(
    name: &'static str,
    args: &'static str,
    help: &'static str,
    run: fn(&mut Shell<'_>, &str) -> Result<Flow, Failure>,
) -> Command {
    Command { name, args, help, run }
}

/// Runs a line without its dot.
pub(super) fn run(shell: &mut Shell<'_>, line: &str) -> Result<Flow, Failure> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let command = find(name)?;
    (command.run)(shell, rest.trim())
}

/// The command that a name or the beginning of one means.
fn find(name: &str) -> Result<&'static Command, Failure> {
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        return Ok(command);
    }
    let mut matches = COMMANDS.iter().filter(|command| command.name.starts_with(name));
    match (matches.next(), matches.next()) {
        (Some(command), None) if !name.is_empty() => Ok(command),
        (Some(first), Some(second)) if !name.is_empty() => Err(Failure::usage(format!(
            "`.{name}` is short for .{} and .{} at least; write more of it",
            first.name, second.name
        ))),
        _ => Err(Failure::usage(format!("there is no command `.{name}`; see .help"))),
    }
}

/// `on` or `off`; `what` names the command.
fn switch(what: &str, text: &str) -> Result<bool, Failure> {
    match text {
        "on" | "yes" | "1" => Ok(true),
        "off" | "no" | "0" => Ok(false),
        _ => Err(Failure::usage(format!("write .{what} on or .{what} off"))),
    }
}

/// A name without the quotes that may be around it.
fn unquoted(text: &str) -> &str {
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('\'').or_else(|| inside('"')).unwrap_or(text)
}

fn bail(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    shell.bail = switch("bail", text)?;
    Ok(Flow::Continue)
}

fn exit(_shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    match text {
        "" | "0" => Ok(Flow::Quit(Exit::Done)),
        code => match code.parse() {
            Ok(code) => Ok(Flow::Quit(Exit::Chosen(code))),
            Err(_) => Err(Failure::usage("write .exit and a number from 0 to 255")),
        },
    }
}

fn quit(_shell: &mut Shell<'_>, _text: &str) -> Result<Flow, Failure> {
    Ok(Flow::Quit(Exit::Done))
}

fn global(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    match text {
        "" | "on" => shell.set_view(ViewArg::Global)?,
        "off" => shell.set_view(ViewArg::Local)?,
        sql => {
            let db = shell.site.connection(ViewArg::Global)?;
            shell.run_on(&db, sql)?;
        }
    }
    Ok(Flow::Continue)
}

fn headers(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    shell.format.header = Some(switch("headers", text)?);
    Ok(Flow::Continue)
}

fn help(shell: &mut Shell<'_>, _text: &str) -> Result<Flow, Failure> {
    for command in &COMMANDS {
        let usage = format!(".{} {}", command.name, command.args);
        shell.console.line(&format!("{usage:<22} {}", command.help));
    }
    Ok(Flow::Continue)
}

fn log(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    /// As many as fit on a small screen.
    const SHOWN: usize = 20;
    let limit = match text {
        "" => SHOWN,
        text => text.parse().map_err(|_| Failure::usage("write .log and a number"))?,
    };
    commands::show_log(&shell.site, limit, shell.console)?;
    Ok(Flow::Continue)
}

fn mode(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    if text.is_empty() {
        let name = shell.format.mode.name();
        shell.console.line(&format!("current output mode: {name}"));
        return Ok(Flow::Continue);
    }
    shell.format.mode = <Mode as clap::ValueEnum>::from_str(text, true).map_err(|_| {
        Failure::usage(format!(
            "there is no mode `{text}`; write list, csv, column, json, line or table"
        ))
    })?;
    // Each mode has a separator of its own.
    shell.format.separator = None;
    Ok(Flow::Continue)
}

fn mutate(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    let (name, args) = text.split_once(char::is_whitespace).unwrap_or((text, "{}"));
    if name.is_empty() {
        return Err(Failure::usage("write .mutate NAME JSON"));
    }
    let args: Value = commands::parse_mutation_args(args.trim())?;
    shell.site.mutate(name, &args)?;
    Ok(Flow::Continue)
}

fn offline(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    match text {
        "" => {
            let state = if shell.is_offline() { "on" } else { "off" };
            shell.console.line(&format!("offline: {state}"));
        }
        text => {
            if switch("offline", text)? {
                shell.go_offline();
            } else {
                shell.go_online()?;
            }
        }
    }
    Ok(Flow::Continue)
}

fn print(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    shell.console.line(unquoted(text));
    Ok(Flow::Continue)
}

fn pull(shell: &mut Shell<'_>, _text: &str) -> Result<Flow, Failure> {
    transfer(shell, Direction::Pull)
}

fn push(shell: &mut Shell<'_>, _text: &str) -> Result<Flow, Failure> {
    transfer(shell, Direction::Push)
}

fn transfer(shell: &mut Shell<'_>, direction: Direction) -> Result<Flow, Failure> {
    let done = commands::talk(&shell.site, direction, shell.exchange.timeout)?;
    commands::print_exchanged(direction, &done, shell.console);
    commands::report_rejected(shell.site.name(), &done)?;
    Ok(Flow::Continue)
}

fn read(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    let file = unquoted(text);
    if file.is_empty() {
        return Err(Failure::usage("write .read FILE"));
    }
    script::read_file(shell, file)
}

fn rejected(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    let status = shell.site.status();
    match text {
        "" => commands::print_rejected(&status, shell.console),
        "dismiss" => {
            let newest = status.rejected.iter().map(|rejected| rejected.seq).max();
            newest.map_or(Ok(()), |seq| shell.site.dismiss_rejected(seq))?;
        }
        _ => return Err(Failure::usage("write .rejected or .rejected dismiss")),
    }
    Ok(Flow::Continue)
}

fn show_schema(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    let statements = schema::statements(&shell.db, unquoted(text))?;
    statements.iter().for_each(|statement| shell.console.line(statement));
    Ok(Flow::Continue)
}

fn separator(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    if text.is_empty() {
        return Err(Failure::usage("write .separator TEXT, as in .separator ', '"));
    }
    shell.format.separator = Some(unquoted(text).replace("\\t", "\t"));
    Ok(Flow::Continue)
}

fn status(shell: &mut Shell<'_>, _text: &str) -> Result<Flow, Failure> {
    commands::print_status(&shell.site.status(), shell.console);
    Ok(Flow::Continue)
}

fn tables(shell: &mut Shell<'_>, text: &str) -> Result<Flow, Failure> {
    let names = schema::tables(&shell.db, unquoted(text))?;
    shell.console.text(&schema::in_columns(&names));
    Ok(Flow::Continue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn names_may_be_shortened_while_clear() {
        for (name, full) in [("q", "quit"), ("ta", "tables"), ("log", "log"), ("mod", "mode")] {
            assert_eq!(find(name).map(|command| command.name).ok(), Some(full));
        }
        for name in ["", "m", "xyz", "Quit"] {
            assert!(find(name).is_err(), "{name}");
        }
    }

    #[test]
    fn quotes_around_a_name_are_no_part_of_it() {
        let cases = [("'a b'", "a b"), ("\"a\"", "a"), ("a", "a"), ("'a", "'a"), ("'", "'")];
        for (text, name) in cases {
            assert_eq!(unquoted(text), name);
        }
    }
}
