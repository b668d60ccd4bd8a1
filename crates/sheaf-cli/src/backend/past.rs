//! One row's past, and taking a change back.
//!
//! Invariant: values leave as in a difference of two states, authors as names that `sheaf undo`
//! takes; what is not known is said in words.

use serde_json::{Map, Value, json};
use sheaf::history::{
    Authors, ColumnChange, End, Interval, MutationName, Origin, RowAt, RowChange, RowEvent, Since,
};

use super::{
    Site, failure,
    history::{Cell, Row, cell, row},
    look_at,
};
use crate::{args::RowArgs, exit::Failure, progress::Meter, time, view::ViewArg};

/// A mutation, as `sheaf undo` is told.
#[derive(Debug)]
pub(crate) struct Mutation(MutationName);

impl Mutation {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let name = text.parse().map_err(|error| Failure::usage(format!("`{text}`: {error}")))?;
        Ok(Self(name))
    }
}

/// A column's name, and what it held before and after, where it was there.
type Sides = (String, Option<Cell>, Option<Cell>);

/// One change of a row.
pub(crate) struct PastChange {
    /// `-`, `+` or `~`.
    mark: char,
    cells: Vec<Sides>,
    origin: Origin,
    /// Of a change that was recorded before its commits went.
    interval: Option<Interval>,
}

/// A row at some time.
pub(crate) struct Then {
    at: RowAt,
    within: Option<PastChange>,
}

/// The changes of a row, newest first.
pub(crate) struct Past {
    pub(crate) changes: Vec<PastChange>,
    key: Vec<Cell>,
    end: End,
}

/// A column of a row, and where its value comes from.
pub(crate) struct Blamed {
    cell: Cell,
    origin: Option<Origin>,
}

/// A row of a table, and where its columns come from.
pub(crate) struct BlamedRow {
    key: Vec<Cell>,
    pub(crate) columns: Vec<Blamed>,
}

/// Rows of a table, and where their columns come from.
pub(crate) struct BlamedTable {
    pub(crate) rows: Vec<BlamedRow>,
    /// Whether the table has more.
    pub(crate) more: bool,
    /// Why some may not be known.
    pub(crate) why: Option<String>,
}

/// What an undo did.
pub(crate) struct Undone {
    pub(crate) seq: Option<u64>,
    /// Rows that it changed, by table.
    pub(crate) rows: Vec<(String, Row)>,
    /// Rows that it left, and why.
    pub(crate) left: Vec<String>,
    pub(crate) not_compared: Vec<String>,
}

impl Site {
    pub(crate) fn history(
        &self,
        args: &RowArgs,
        limit: usize,
        since: Option<ViewArg>,
    ) -> Result<Past, Failure> {
        let since = since.and_then(|since| match since {
            ViewArg::At(lsn) => Some(Since::Lsn(sheaf::Lsn(lsn))),
            ViewArg::AtTime(ms) => Some(Since::Time(ms)),
            ViewArg::Local | ViewArg::Global => None,
        });
        let key = self.row_key(args)?;
        let history = self.site.history(&args.table, &key, limit, since);
        let history = history.map_err(|error| self.no_row(&error))?;
        let changes = history.events.into_iter().map(PastChange::new);
        let key = history.key.iter().map(|c| cell(&c.name, &c.value)).collect();
        Ok(Past { changes: changes.collect(), key, end: history.end })
    }

    pub(crate) fn row_at(&self, args: &RowArgs, time_ms: u64) -> Result<Then, Failure> {
        let key = self.row_key(args)?;
        let at = self.site.row_at(&args.table, &key, time_ms);
        let mut at = at.map_err(|error| self.no_row(&error))?;
        let within = at.within.take().map(PastChange::new);
        Ok(Then { at, within })
    }

    /// Where each column of a row comes from, and why some may not be known.
    pub(crate) fn blame(&self, args: &RowArgs) -> Result<(Vec<Blamed>, Option<String>), Failure> {
        let key = self.row_key(args)?;
        let blame = self.site.blame(&args.table, &key).map_err(|error| self.no_row(&error))?;
        Ok((blamed(blame.columns), end_text(&blame.end, &self.name)))
    }

    /// The same for the first rows of a table.
    pub(crate) fn blame_table(
        &self,
        table: &str,
        limit: usize,
        meter: &Meter,
    ) -> Result<BlamedTable, Failure> {
        let mut progress = |done| meter.set(u64::try_from(done).unwrap_or(u64::MAX), 0);
        let blame = self.site.blame_table(table, limit, &mut progress);
        let blame = blame.map_err(|error| self.no_row(&error))?;
        let rows = blame.rows.into_iter().map(|row| BlamedRow {
            key: row.key.iter().map(|c| cell(&c.name, &c.value)).collect(),
            columns: blamed(row.columns),
        });
        let why = end_text(&blame.end, &self.name);
        Ok(BlamedTable { rows: rows.collect(), more: blame.more, why })
    }

    pub(crate) fn undo(&self, mutation: &Mutation, dry_run: bool) -> Result<Undone, Failure> {
        let done = self.site.undo(&mutation.0, dry_run).map_err(|error| self.no_undo(&error))?;
        let rows = done.rows.iter().map(|(shape, change)| (shape.name.clone(), row(shape, change)));
        let left = done.left.iter().map(|left| {
            let key: Vec<String> = left.key.iter().map(sheaf::diff::literal).collect();
            format!(
                "row {} of table `{}` was left as it is: {}",
                key.join(", "),
                left.table,
                left.why
            )
        });
        Ok(Undone {
            seq: done.seq,
            rows: rows.collect(),
            left: left.collect(),
            not_compared: done.not_compared,
        })
    }

    fn row_key(&self, args: &RowArgs) -> Result<Vec<sheaf::Value>, Failure> {
        self.site.row_key(&args.table, &args.key).map_err(|error| self.no_row(&error))
    }

    fn no_row(&self, error: &sheaf::Error) -> Failure {
        let name = &self.name;
        look_at(error, &format!("`sheaf sql {name}@LSN` and `{name}@TIME` read earlier states"))
    }

    fn no_undo(&self, error: &sheaf::Error) -> Failure {
        let name = &self.name;
        let text = error.to_string();
        match error.kind() {
            // Not a matter of versions.
            sheaf::ErrorKind::Unsupported => {
                let note = format!(
                    "`sheaf diff` shows the rows that two states of `{name}` differ by, and with \
                     --sql the statements between them"
                );
                Failure::new("unsupported", text).with_note(&note)
            }
            sheaf::ErrorKind::NotFound => {
                let hint =
                    format!("`sheaf history {name} TABLE KEY` and `sheaf log {name}` list them");
                look_at(error, &hint)
            }
            _ => failure::of(error),
        }
    }
}

impl Past {
    /// Why there is nothing older, if that says anything.
    pub(crate) fn end(&self, site: &str) -> Option<String> {
        end_text(&self.end, site)
    }

    /// The key for people.
    pub(crate) fn key(&self) -> String {
        let pairs = self.key.iter().map(|cell| format!("{}={}", cell.name, cell.text));
        pairs.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn json_key(&self) -> Value {
        let members = self.key.iter().map(|cell| (cell.name.clone(), cell.json.clone()));
        Value::Object(members.collect::<Map<_, _>>())
    }

    /// A stable word for scripts.
    pub(crate) fn end_word(&self) -> &'static str {
        match self.end {
            End::Beginning => "beginning",
            End::Limit => "limit",
            End::Since => "since",
            End::Explained => "explained",
            End::Expired { .. } => "expired",
            End::NoTable { .. } => "no_table",
            End::OtherKey { .. } => "other_key",
        }
    }
}

fn end_text(end: &End, site: &str) -> Option<String> {
    match end {
        End::Beginning | End::Since | End::Explained => None,
        End::Limit => Some("there may be more: give a larger --limit".to_owned()),
        End::Expired { lsn } => Some(format!(
            "what was before @{lsn} is no longer kept: the log was reclaimed up to there"
        )),
        End::NoTable { lsn } if lsn.0 > 1 => {
            Some(format!("before @{lsn} there was no table of that name"))
        }
        End::NoTable { .. } => None,
        End::OtherKey { lsn } => Some(format!(
            "before @{lsn} the table had another key: `sheaf sql {site}@{}` reads it",
            lsn.0.saturating_sub(1)
        )),
    }
}

fn blamed(columns: Vec<sheaf::history::Blamed>) -> Vec<Blamed> {
    let column = |column: sheaf::history::Blamed| Blamed {
        cell: cell(&column.cell.name, &column.cell.value),
        origin: column.origin,
    };
    columns.into_iter().map(column).collect()
}

impl BlamedRow {
    /// For people.
    pub(crate) fn key(&self) -> String {
        let cells = self.key.iter().map(|cell| format!("{}={}", cell.name, cell.text));
        cells.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn json_key(&self) -> Value {
        let members = self.key.iter().map(|cell| (cell.name.clone(), cell.json.clone()));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

impl Then {
    /// The row for people, if there was one.
    pub(crate) fn line(&self) -> Option<String> {
        let row = self.at.row.as_ref()?;
        let cells = row.iter().map(|c| cell(&c.name, &c.value));
        let pairs: Vec<String> = cells.map(|c| format!("{}={}", c.name, c.text)).collect();
        Some(pairs.join(", "))
    }

    /// What else is to be said of it.
    pub(crate) fn note(&self) -> Option<String> {
        let lost = self.at.not_kept.iter();
        let mut notes: Vec<String> = lost.map(|(name, len)| lost_text(name, *len)).collect();
        if let Some(change) = &self.within {
            let at = origin_text(&change.origin, change.interval.as_ref());
            notes.push(format!(
                "this is the row before the changes {at}, which are recorded as one"
            ));
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    pub(crate) fn json(&self) -> Value {
        let object = |row: &Vec<sheaf::history::Cell>| {
            let cells = row.iter().map(|c| cell(&c.name, &c.value));
            Value::Object(cells.map(|c| (c.name, c.json)).collect::<Map<_, _>>())
        };
        json!({
            "table": self.at.table,
            "row": self.at.row.as_ref().map(object),
            "as_of": self.at.as_of.0,
            "within": self.within.as_ref().map(PastChange::json),
            "not_kept": lost_json(&self.at.not_kept),
        })
    }
}

fn lost_text(name: &str, len: u64) -> String {
    format!("the older value of {name}, {len} bytes, was too large to be kept")
}

fn lost_json(lost: &[(String, u64)]) -> Value {
    Value::Object(lost.iter().map(|(name, len)| (name.clone(), json!(len))).collect())
}

impl PastChange {
    fn new(event: RowEvent) -> Self {
        let RowEvent { origin, change, interval } = event;
        Self { mark: mark(&change), cells: cells(change), origin, interval }
    }

    /// As one line for people.
    pub(crate) fn line(&self) -> String {
        let pair = |name: &str, cell: &Option<Cell>| {
            cell.as_ref().map(|cell| format!("{name}={}", cell.text))
        };
        let each = self.cells.iter().filter_map(|(name, old, new)| match (self.mark, old, new) {
            ('+', _, new) => pair(name, new),
            ('-', old, _) => pair(name, old),
            (_, None, Some(new)) if self.is_lost(name) => {
                Some(format!("{name} ... -> {}", new.text))
            }
            (_, Some(old), Some(new)) => Some(format!("{name} {} -> {}", old.text, new.text)),
            (_, None, Some(new)) => Some(format!("{name} added as {}", new.text)),
            (_, Some(old), None) => Some(format!("{name} dropped, was {}", old.text)),
            _ => None,
        });
        let each: Vec<String> = each.collect();
        let at = origin_text(&self.origin, self.interval.as_ref());
        let lost = self.interval.iter().flat_map(|interval| &interval.not_kept);
        let lost: String = lost.map(|(name, len)| format!("; {}", lost_text(name, *len))).collect();
        format!("{at}: {} {}{lost}", self.mark, each.join(", "))
    }

    /// Whether the older value of a column was not kept.
    fn is_lost(&self, name: &str) -> bool {
        let mut lost = self.interval.iter().flat_map(|interval| &interval.not_kept);
        lost.any(|(column, _)| column == name)
    }

    pub(crate) fn json(&self) -> Value {
        let side = |pick: fn(&Sides) -> &Option<Cell>| {
            let members = self.cells.iter().filter_map(|column| {
                pick(column).as_ref().map(|cell| (cell.name.clone(), cell.json.clone()))
            });
            Value::Object(members.collect::<Map<_, _>>())
        };
        let mut line = origin_json(&self.origin);
        if let Some(members) = line.as_object_mut() {
            if let Some(interval) = &self.interval {
                members.insert("first_lsn".to_owned(), json!(interval.first.0));
                members.insert("first_time_ms".to_owned(), json!(interval.first_time_ms));
                members.insert("more_authors".to_owned(), json!(interval.more_authors));
                members.insert("not_kept".to_owned(), lost_json(&interval.not_kept));
            }
            members.insert("op".to_owned(), json!(self.mark));
            if self.mark != '+' {
                members.insert("old".to_owned(), side(|(_, old, _)| old));
            }
            if self.mark != '-' {
                members.insert("new".to_owned(), side(|(_, _, new)| new));
            }
        }
        line
    }
}

impl Blamed {
    /// As one line for people.
    pub(crate) fn line(&self) -> String {
        let origin = self.origin.as_ref();
        let origin = origin.map_or_else(|| "older".to_owned(), |origin| origin_text(origin, None));
        format!("{origin}: {}={}", self.cell.name, self.cell.text)
    }

    pub(crate) fn json(&self) -> Value {
        let mut line = self.origin.as_ref().map_or_else(|| json!({ "lsn": null }), origin_json);
        if let Some(members) = line.as_object_mut() {
            members.insert("column".to_owned(), json!(self.cell.name));
            members.insert("value".to_owned(), self.cell.json.clone());
            members.insert("known".to_owned(), json!(self.origin.is_some()));
        }
        line
    }
}

fn mark(change: &RowChange) -> char {
    match change {
        RowChange::Inserted(_) => '+',
        RowChange::Deleted(_) => '-',
        RowChange::Updated(_) => '~',
    }
}

fn cells(change: RowChange) -> Vec<Sides> {
    let shown = |name: &str, value: &sheaf::Value| Some(cell(name, value));
    match change {
        RowChange::Inserted(row) => {
            let row = row.into_iter();
            row.map(|c| (c.name.clone(), None, shown(&c.name, &c.value))).collect()
        }
        RowChange::Deleted(row) => {
            let row = row.into_iter();
            row.map(|c| (c.name.clone(), shown(&c.name, &c.value), None)).collect()
        }
        RowChange::Updated(changes) => {
            let each = |ColumnChange { name, old, new }: ColumnChange| {
                let side = |value: Option<sheaf::Value>| value.map(|value| cell(&name, &value));
                let (old, new) = (side(old), side(new));
                (name, old, new)
            };
            changes.into_iter().map(each).collect()
        }
    }
}

/// Where, when and by whom.
fn origin_text(origin: &Origin, interval: Option<&Interval>) -> String {
    let at = match (origin.at, interval) {
        (None, _) => "pending".to_owned(),
        (Some(lsn), Some(interval)) if interval.first < lsn => {
            format!("@{}..@{lsn}", interval.first)
        }
        (Some(lsn), _) => format!("@{lsn}"),
    };
    let more =
        if interval.is_some_and(|interval| interval.more_authors) { " or others" } else { "" };
    format!("{at} {} {}{more}", time::format(origin.time_ms), authors_text(&origin.authors))
}

fn authors_text(authors: &Authors) -> String {
    let names: Vec<String> = authors.0.iter().map(run_text).collect();
    let names = names.join(", ");
    match authors.count() {
        0 => "by nobody that is known".to_owned(),
        1 => format!("by {names}"),
        many => format!("by one of {many}: {names}"),
    }
}

fn run_text(run: &sheaf::history::Run) -> String {
    let numbers = match run.first_seq == run.last_seq {
        true => run.first_seq.to_string(),
        false => format!("{}-{}", run.first_seq, run.last_seq),
    };
    let own = if run.own { " (this device)" } else { "" };
    format!("{}:{numbers}{own}", run.timeline)
}

fn origin_json(origin: &Origin) -> Value {
    let authors = origin.authors.0.iter().map(|run| {
        json!({
            "timeline": run.timeline.to_string(),
            "first_seq": run.first_seq,
            "last_seq": run.last_seq,
            "own": run.own,
        })
    });
    json!({
        "lsn": origin.at.map(|lsn| lsn.0),
        "pending": origin.at.is_none(),
        "time_ms": origin.time_ms,
        "writer": origin.writer.to_string(),
        "exact": origin.authors.is_exact(),
        "authors": authors.collect::<Vec<_>>(),
    })
}
