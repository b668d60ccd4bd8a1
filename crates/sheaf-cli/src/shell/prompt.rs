//! The shell with a person in front of it: prompt, history, completion.
//!
//! Invariant: the prompt says when what is seen is not what everybody sees: offline, changes
//! pending, another view, an open transaction. A history that cannot be kept is no error.

use std::{path::PathBuf, time::Duration};

use rustyline::{Config, Editor, error::ReadlineError, history::FileHistory};

use super::{
    Flow, Shell,
    completion::Completion,
    dot,
    feed::{Fed, Feed},
    notices::Watcher,
};
use crate::{
    exit::{Exit, Failure},
    view::ViewArg,
};

/// Statements that are remembered.
const HISTORY_MAX: usize = 2_000;

/// How long a prompt waits for the server at most.
const SETTLE_TIME: Duration = Duration::from_millis(250);

/// What a line that continues a statement begins with.
const CONTINUATION: &str = "   ...> ";

/// What the prompt tells.
#[derive(Clone, Copy, Debug)]
struct Marks {
    offline: bool,
    pending: usize,
    view: ViewArg,
    in_transaction: bool,
}

/// Reads and runs lines until the person ends it.
pub(super) fn run(shell: &mut Shell<'_>) -> Result<Exit, Failure> {
    let config = Config::builder()
        .auto_add_history(false)
        .max_history_size(HISTORY_MAX)
        .map_err(|error| editor_failure(&error))?
        .build();
    let mut editor: Editor<Completion, FileHistory> =
        Editor::with_config(config).map_err(|error| editor_failure(&error))?;
    editor.set_helper(Some(Completion::default()));
    let history = history_file(shell);
    // The first time there is none.
    drop(editor.load_history(&history));
    greet(shell);
    let _watcher = match editor.create_external_printer() {
        Ok(printer) if shell.site.server().is_some() => {
            Watcher::start(shell.device.notices(), printer)
        }
        _ => None,
    };
    let exit = read_lines(shell, &mut editor);
    drop(editor.save_history(&history));
    exit
}

fn read_lines(
    shell: &mut Shell<'_>,
    editor: &mut Editor<Completion, FileHistory>,
) -> Result<Exit, Failure> {
    let mut feed = Feed::default();
    let mut typed = String::new();
    loop {
        if let Some(completion) = editor.helper_mut() {
            completion.refresh(&shell.db);
        }
        let prompt = if feed.is_empty() { prompt(shell) } else { CONTINUATION.to_owned() };
        shell.console.flush();
        let line = match editor.readline(&prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                // Ctrl-C forgets what was typed so far.
                feed = Feed::default();
                typed.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(Exit::Done),
            Err(error) => return Err(editor_failure(&error)),
        };
        typed = if typed.is_empty() { line.clone() } else { format!("{typed}\n{line}") };
        let fed = feed.push(&line);
        if fed != Fed::More {
            drop(editor.add_history_entry(std::mem::take(&mut typed)));
        }
        let ran = match fed {
            Fed::Nothing | Fed::More => Ok(Flow::Continue),
            Fed::Dot(command) => dot::run(shell, &command),
            Fed::Sql(text) => shell.run_sql(&text.sql).map(|()| Flow::Continue),
        };
        match ran {
            Ok(Flow::Continue) => settle(shell),
            Ok(Flow::Quit(exit)) => return Ok(exit),
            Err(failure) => shell.console.fail(&failure),
        }
    }
}

/// Gives a change that was just made the moment it needs to be confirmed, so that the prompt does
/// not call it pending when it is not. What goes wrong meanwhile is told by a notice.
fn settle(shell: &Shell<'_>) {
    let status = shell.site.status();
    if status.online && !status.pending.is_empty() {
        drop(shell.site.push(SETTLE_TIME));
    }
}

fn greet(shell: &mut Shell<'_>) {
    let server = shell.site.server().unwrap_or("no server, only this device");
    let version = env!("CARGO_PKG_VERSION");
    shell.console.line(&format!("sheaf {version}, site {}, {server}", shell.site.name()));
    shell.console.line("Enter \".help\" for help; SQL ends with \";\".");
}

fn prompt(shell: &Shell<'_>) -> String {
    let status = shell.site.status();
    let marks = Marks {
        offline: status.server.is_some() && !status.online,
        pending: status.pending.len(),
        view: shell.view,
        in_transaction: !shell.db.is_autocommit(),
    };
    prompt_text(shell.site.name(), marks)
}

fn prompt_text(site: &str, marks: Marks) -> String {
    let mut said = Vec::new();
    match marks.view {
        ViewArg::Local => {}
        ViewArg::Global => said.push("global".to_owned()),
        ViewArg::At(lsn) => said.push(format!("@{lsn}")),
        ViewArg::AtTime(ms) => said.push(format!("@{}", crate::time::format(ms))),
    }
    if marks.in_transaction {
        said.push("in transaction".to_owned());
    }
    if marks.offline {
        said.push("offline".to_owned());
    }
    if marks.pending > 0 {
        said.push(format!("{} pending", marks.pending));
    }
    let said = if said.is_empty() { String::new() } else { format!(" [{}]", said.join(", ")) };
    format!("sheaf:{site}{said}> ")
}

fn history_file(shell: &Shell<'_>) -> PathBuf {
    shell.device.dir().join("history")
}

fn editor_failure(error: &ReadlineError) -> Failure {
    Failure::new("io", format!("the terminal cannot be used: {error}; pipe a script in instead"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_tells_what_is_not_ordinary() {
        let plain =
            Marks { offline: false, pending: 0, view: ViewArg::Local, in_transaction: false };
        assert_eq!(prompt_text("team/todos", plain), "sheaf:team/todos> ");
        let away = Marks { offline: true, pending: 3, ..plain };
        assert_eq!(prompt_text("todos", away), "sheaf:todos [offline, 3 pending]> ");
        let old = Marks { view: ViewArg::At(7), in_transaction: true, ..plain };
        assert_eq!(prompt_text("t", old), "sheaf:t [@7, in transaction]> ");
    }
}
