//! Bounds of the merge rules, each with its reason.
//!
//! Invariant: they are checked before work that grows with the input. Beyond a bound a rule falls
//! back to `lww` and says so; a stored form is refused. All replicas must agree on them: changing
//! one changes results, and is a new version of the rules that use it.

/// Bytes of one JSON text, of a set or a document. What people keep in one cell is far smaller,
/// and three such texts are read within tens of milliseconds.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// Values in one JSON text, counted at every depth: bounds memory at some 100 bytes for each.
pub const JSON_VALUES_MAX: usize = 10_000;

/// Objects and arrays inside one another: bounds the stack.
pub const JSON_DEPTH_MAX: usize = 64;

/// Characters of a list position. With one more a list is given new positions.
pub const POSITION_LEN_MAX: usize = 64;

/// Elements of one list, deleted ones that are still remembered included: giving all of them new
/// positions is one mutation.
pub const LIST_LEN_MAX: usize = 100_000;

/// Columns by which the rows of a table are divided into lists: each is compared for each row.
pub const LIST_PARENTS_MAX: usize = 16;

/// Concurrent values of one cell. With one more the two oldest are merged into one.
pub const SIBLINGS_MAX: usize = 8;

/// Bytes of the name of a custom rule, so that a rule can be copied.
pub const CUSTOM_NAME_MAX: usize = 31;
