//! What is known of a transaction without running it: which row it names, which texts it writes,
//! and what takes it back.
//!
//! Invariant: what is said here holds wherever and whenever the transaction runs. Leaves out
//! transactions of several steps, but for the texts that they write.

use super::{
    Step, Transaction,
    together::Meant::{self, Join, Key, Leave, Strike, Unkey, Word},
};

impl Transaction {
    /// The table and the name of the only row that this changes, where that is sure.
    pub(crate) fn touches(&self) -> Option<(&'static str, String)> {
        match self.steps.as_slice() {
            [Step::Count { counter, .. }] => Some(("ctr", format!("c{counter}"))),
            [Step::Append { id, .. }] => Some(("list", id.clone())),
            [Step::Edit { note, .. }] => Some(("note", format!("t{note}"))),
            _ => None,
        }
    }

    /// The columns of texts that this writes.
    pub(crate) fn edited(&self) -> Vec<(u64, String)> {
        let cells = self.steps.iter().filter_map(|step| match step {
            Step::Edit { note, column, .. } => Some((*note, column.clone())),
            _ => None,
        });
        cells.collect()
    }

    /// What this leaves in a column of a text.
    pub(crate) fn edits(&self, cell: (u64, &str)) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Edit { note, column, text } if (*note, &**column) == cell => Some(&**text),
            _ => None,
        })
    }

    /// Where this leaves a text, if it does.
    pub(crate) fn wrote(&self, text: &str) -> Option<(u64, &str)> {
        self.steps.iter().find_map(|step| match step {
            Step::Edit { note, column, text: wrote } if wrote == text => Some((*note, &**column)),
            _ => None,
        })
    }

    /// What takes this back, where the meaning of that is plain.
    pub(crate) fn opposite(&self) -> Option<Self> {
        let [step] = self.steps.as_slice() else { return None };
        let back = |doc: &String, meant: Meant| Step::Together { doc: doc.clone(), meant };
        let step = match step {
            Step::Count { counter, by } => Step::Count { counter: *counter, by: -by },
            Step::Append { id, .. } => Step::Remove { id: id.clone() },
            Step::Together { doc, meant } => match meant {
                Word { word, .. } => back(doc, Strike { word: word.clone() }),
                Join { member } => back(doc, Leave { member: member.clone() }),
                Key { key, .. } => back(doc, Unkey { key: key.clone() }),
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { steps: vec![step] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_writes_is_what_stays() {
        let edit = |text: &str| Step::Edit { note: 1, column: "body".into(), text: text.into() };
        let transaction = Transaction { steps: vec![edit("a"), edit("b")] };
        assert_eq!(transaction.edits((1, "body")), Some("b"));
        assert_eq!(transaction.wrote("a"), Some((1, "body")));
        assert_eq!(transaction.opposite(), None);
    }
}
