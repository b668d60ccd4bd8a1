//! Pages of SQLite's b-trees, read without SQLite: what tells which rows a page holds.
//!
//! Invariant: any bytes give a page or an error, never a panic; what a page gives lies within it,
//! and all of its cells together are no larger than it. Leaves out what keys mean beyond their order of storage, and everything about writing.

use sheaf_merge::Value;
use sheaf_volume::{Error, PageIdx, Result};

/// The parts of the database header that reading a page needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of a page that hold content.
    pub(crate) usable: usize,
    /// The first trunk page of the free list.
    pub(crate) free_trunk: Option<PageIdx>,
}

impl Layout {
    /// Reads the header in page 1; `None` where text is not UTF-8, whose keys are not read here.
    pub(crate) fn read(first: &[u8]) -> Result<Option<Self>> {
        let reserved = usize::from(*first.get(20).ok_or_else(|| bad("short page"))?);
        let usable = first.len().checked_sub(reserved).filter(|usable| *usable >= 480);
        let usable = usable.ok_or_else(|| bad("too many reserved bytes"))?;
        let free_trunk = PageIdx::new(be32(first, 32)?);
        Ok((be32(first, 56)? <= 1).then_some(Self { usable, free_trunk }))
    }
}

/// A cell that holds a row, or the key of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// The row id, in the tree of a table that has row ids.
    pub(crate) rowid: Option<i64>,
    /// Bytes of the whole record.
    pub(crate) len: usize,
    /// As many of them as are on this page.
    pub(crate) local: Vec<u8>,
    /// Where the rest begins.
    pub(crate) overflow: Option<PageIdx>,
}

/// A page of a b-tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Pages below it, in key order; none for a leaf.
    pub(crate) children: Vec<PageIdx>,
    /// Rows on the page itself: of a leaf, and of any page of a tree without row ids.
    pub(crate) cells: Vec<Cell>,
}

impl Node {
    pub(crate) fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// Reads a page; the first one of a file has the header in front.
    pub(crate) fn read(page: &[u8], idx: PageIdx, layout: Layout) -> Result<Self> {
        let start = if idx == PageIdx::FIRST { 100 } else { 0 };
        let kind = byte(page, start)?;
        let (is_leaf, is_table) = match kind {
            2 => (false, false),
            5 => (false, true),
            10 => (true, false),
            13 => (true, true),
            _ => return Err(bad("not a page of a b-tree")),
        };
        let count = usize::from(be16(page, start + 3)?);
        let pointers = start + if is_leaf { 8 } else { 12 };
        let mut node = Self { children: Vec::new(), cells: Vec::new() };
        // Cells share no byte. Pointers that all lead to one large cell would otherwise make of a
        // page of 64 KiB two gigabytes of rows.
        let mut room = layout.usable;
        for n in 0..count {
            let at = usize::from(be16(page, pointers + 2 * n)?);
            let cell = page.get(at..layout.usable).ok_or_else(|| bad("cell out of the page"))?;
            let mut reader = Reader(cell);
            if !is_leaf {
                node.children.push(reader.page()?);
            }
            match (is_leaf, is_table) {
                (false, true) => drop(reader.varint()?),
                (_, _) => node.cells.push(reader.cell(is_table, layout.usable)?),
            }
            let used = cell.len() - reader.0.len();
            room = room.checked_sub(used).ok_or_else(|| bad("cells overlap"))?;
        }
        if !is_leaf {
            let right = be32(page, start + 8)?;
            node.children.push(PageIdx::new(right).ok_or_else(|| bad("no right child"))?);
        }
        Ok(node)
    }
}

/// Whether a page can be one of a b-tree, by its first byte: an overflow page and a trunk of the
/// free list begin with the number of the next one, which is small there.
pub(crate) fn looks_like_tree(page: &[u8]) -> bool {
    matches!(page.first(), Some(2 | 5 | 10 | 13))
}

/// The next page of a chain of overflow pages, or of the free list's trunk.
pub(crate) fn next_of_chain(page: &[u8]) -> Result<Option<PageIdx>> {
    be32(page, 0).map(PageIdx::new)
}

/// The first values of a record.
pub(crate) fn first_values(record: &[u8], count: usize) -> Result<Vec<Value>> {
    let mut header = Reader(record);
    let len = usize::try_from(header.varint()?).map_err(|_| bad("record header"))?;
    let used = record.len() - header.0.len();
    let rest = len.checked_sub(used).ok_or_else(|| bad("record header"))?;
    let mut types = Reader(header.take(rest)?);
    let mut body = header;
    (0..count).map(|_| body.value(types.varint()?)).collect()
}

/// Takes parts from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(|| bad("cut off"))?;
        self.0 = rest;
        Ok(head)
    }

    fn page(&mut self) -> Result<PageIdx> {
        let number = be32(self.take(4)?, 0)?;
        PageIdx::new(number).ok_or_else(|| bad("page number zero"))
    }

    /// SQLite's own: seven bits a byte, high ones first, the ninth byte whole.
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for n in 0..9 {
            let byte = byte(self.take(1)?, 0)?;
            if n == 8 {
                return Ok(value << 8 | u64::from(byte));
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn cell(&mut self, is_table: bool, usable: usize) -> Result<Cell> {
        let len = self.varint()?;
        let max = crate::limits::VALUE_BYTES_MAX as u64 * 2;
        let len = usize::try_from(len).ok().filter(|_| len <= max);
        let len = len.ok_or_else(|| bad("record too long"))?;
        let rowid = match is_table {
            true => Some(self.varint()?.cast_signed()),
            false => None,
        };
        // As the file format says: as much stays local as fills whole overflow pages with the rest.
        let most = if is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        if len <= most {
            let local = self.take(len)?.to_vec();
            return Ok(Cell { rowid, len, local, overflow: None });
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + (len - least) % (usable - 4);
        let local = self.take(if fitting <= most { fitting } else { least })?.to_vec();
        Ok(Cell { rowid, len, local, overflow: Some(self.page()?) })
    }

    fn value(&mut self, kind: u64) -> Result<Value> {
        let int = |bytes: &[u8]| {
            let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
            let start = if negative { -1_i64 } else { 0 };
            bytes.iter().fold(start, |value, byte| value << 8 | i64::from(*byte))
        };
        Ok(match kind {
            0 => Value::Null,
            1..=4 => Value::Int(int(self.take(usize::try_from(kind).unwrap_or(0))?)),
            5 => Value::Int(int(self.take(6)?)),
            6 => Value::Int(int(self.take(8)?)),
            7 => Value::Real(f64::from_bits(int(self.take(8)?).cast_unsigned())),
            8 => Value::Int(0),
            9 => Value::Int(1),
            10 | 11 => return Err(bad("reserved type of a value")),
            _ => {
                let len = usize::try_from((kind - 12) / 2).map_err(|_| bad("value too long"))?;
                let bytes = self.take(len)?.to_vec();
                match kind % 2 {
                    0 => Value::Blob(bytes),
                    _ => Value::Text(String::from_utf8(bytes).map_err(|_| bad("text not UTF-8"))?),
                }
            }
        })
    }
}

fn byte(bytes: &[u8], at: usize) -> Result<u8> {
    bytes.get(at).copied().ok_or_else(|| bad("cut off"))
}

fn be16(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from(byte(bytes, at)?) << 8 | u16::from(byte(bytes, at + 1)?))
}

fn be32(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from(be16(bytes, at)?) << 16 | u32::from(be16(bytes, at + 2)?))
}

pub(crate) fn bad(what: &str) -> Error {
    Error::corrupt(format!("database page: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { usable: 512, free_trunk: None };

    #[test]
    fn any_bytes_give_a_page_or_an_error() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u8::try_from((state >> 33) & 0xff).unwrap()
        };
        for n in 0..20_000 {
            let mut page: Vec<u8> = (0..n % 513).map(|_| random()).collect();
            if let Some(first) = page.first_mut() {
                *first = [2, 5, 10, 13][n % 4];
            }
            if let [_, _, _, high, low, ..] = page.as_mut_slice() {
                (*high, *low) = (0, *low % 20);
            }
            let idx = PageIdx::new(2 - (n % 7 == 0) as u32).unwrap();
            let node = Node::read(&page, idx, LAYOUT);
            for cell in node.into_iter().flat_map(|node| node.cells) {
                drop(first_values(&cell.local, 1 + n % 5));
            }
            drop(Layout::read(&page));
        }
    }

    #[test]
    fn cells_share_no_byte() {
        // A leaf of a table: one cell of 100 bytes, and as many pointers to it as are wished.
        let page = |pointers: u8| {
            let mut page = vec![0; 512];
            (page[0], page[4]) = (13, pointers);
            for n in 0..usize::from(pointers) {
                page[8 + 2 * n + 1] = 200;
            }
            (page[200], page[201]) = (98, 1);
            page
        };
        let idx = PageIdx::new(2).unwrap();
        assert_eq!(Node::read(&page(1), idx, LAYOUT).unwrap().cells.len(), 1);
        assert_eq!(Node::read(&page(5), idx, LAYOUT).unwrap().cells.len(), 5);
        Node::read(&page(6), idx, LAYOUT).unwrap_err();
    }

    #[test]
    fn values_are_read_as_sqlite_stores_them() {
        let record = [
            10, 0, 1, 2, 6, 7, 8, 9, 17, 14,   // header: lengths and types
            0xff, // -1
            0x01, 0x00, // 256
            0x80, 0, 0, 0, 0, 0, 0, 0, // the least integer
            0x3f, 0xf8, 0, 0, 0, 0, 0, 0, // 1.5
            b'a', b'b', // text
            0xee, // blob
        ];
        let expected = [
            Value::Null,
            Value::Int(-1),
            Value::Int(256),
            Value::Int(i64::MIN),
            Value::Real(1.5),
            Value::Int(0),
            Value::Int(1),
            Value::Text("ab".to_owned()),
            Value::Blob(vec![0xee]),
        ];
        assert_eq!(first_values(&record, 9).unwrap(), expected);
        assert!(first_values(&record, 10).is_err());
        assert!(first_values(&record[..record.len() - 1], 9).is_err());
    }
}
