//! The savepoints that are open, and what each of them would go back to.
//!
//! Invariant: as SQLite's, names may be used twice, and the innermost of a name is meant. A name
//! that is not known here makes the statement fail, except after a RELEASE that failed: then too
//! much is kept.

/// Open savepoints, outermost first, each with a mark.
#[derive(Clone, Debug)]
pub(crate) struct Savepoints<M>(Vec<(String, M)>);

impl<M> Default for Savepoints<M> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<M: Copy> Savepoints<M> {
    pub(crate) fn open(&mut self, name: &str, mark: M) {
        self.0.push((name.to_owned(), mark));
    }

    /// Forgets the savepoint and those within.
    pub(crate) fn release(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            self.0.truncate(at);
        }
    }

    /// Forgets those within the savepoint, which stays, and gives its mark.
    pub(crate) fn rollback_to(&mut self, name: &str) -> Option<M> {
        let at = self.find(name)?;
        self.0.truncate(at + 1);
        self.0.last().map(|(_, mark)| *mark)
    }

    /// The transaction is over.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().rposition(|(known, _)| known == name)
    }
}
