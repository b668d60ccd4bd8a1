//! What this device's own mutations did, remembered on the device after the log has decided them.
//!
//! Invariant: a convenience and never the truth. A deed is written after its commit was taken, in
//! files of their own that nothing else reads; failing to write or read one fails nothing. Each
//! names its timeline, its number and its commit, and is believed only where the two states around
//! that commit agree with it: see `chain.rs`. Losing any of them loses no change; nothing is
//! flushed, so a power cut may take the newest. Bounded by count and bytes, the oldest go first.
//!
//! Two files take turns: where one is full, the other is emptied and goes on. A record's checksum
//! covers the generation of its file, so nothing of an earlier turn is read as a later one's. Leaves
//! out which mutations are remembered: see `memory.rs`.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use sheaf_volume::{Dir, File, Lsn, TimelineId};

use crate::limits::{DEEDS_BYTES_MAX, DEEDS_MAX};
use crate::mutation::Mutation;

const MAGIC: [u8; 4] = *b"SHFD";
const VERSION: u8 = 1;
/// Magic, version, generation, checksum.
const HEADER: usize = 21;
/// Length and checksum of a record.
const FRAME: usize = 12;
/// Timeline, number, position and time.
const FIXED: usize = 40;

/// What one mutation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deed {
    pub(crate) timeline: TimelineId,
    pub(crate) seq: u64,
    /// The commit that holds it.
    pub(crate) lsn: Lsn,
    /// When it was made, milliseconds since 1970.
    pub(crate) time_ms: u64,
    /// Its row operations, as an op stream.
    pub(crate) stream: Bytes,
}

/// The files of a replica that remember deeds.
#[derive(Debug)]
pub(crate) struct Deeds {
    files: io::Result<[Box<dyn File>; 2]>,
    /// Where the next one goes, once that was looked up.
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    generation: u64,
    end: usize,
    count: usize,
}

impl Deeds {
    /// Opens the files; where they cannot be, nothing is remembered.
    pub(crate) fn open(dir: &dyn Dir) -> Self {
        let open = || Ok([dir.open("deeds-0")?, dir.open("deeds-1")?]);
        Self { files: open(), place: None }
    }

    /// Why nothing more is remembered, if so.
    pub(crate) fn failure(&self) -> Option<&io::Error> {
        self.files.as_ref().err()
    }

    /// Remembers more of them; after a failure, none until the replica is opened again.
    pub(crate) fn add(&mut self, deeds: &[Deed]) {
        if let Err(e) = self.write(deeds) {
            self.files = Err(e);
        }
    }

    fn write(&mut self, deeds: &[Deed]) -> io::Result<()> {
        let Ok(files) = &self.files else { return Ok(()) };
        if deeds.is_empty() {
            return Ok(());
        }
        let mut place = match self.place.take() {
            Some(place) => place,
            None => find(files)?,
        };
        let mut bytes = Vec::new();
        for deed in deeds {
            let len = FRAME + FIXED + deed.stream.len();
            let is_full = place.count >= DEEDS_MAX
                || place.end + bytes.len() + len > DEEDS_BYTES_MAX
                || place.generation == 0;
            if is_full {
                put(files, place, &bytes)?;
                place = Place { generation: place.generation + 1, end: 0, count: 0 };
                file_of(files, place).truncate(0)?;
                bytes = header(place.generation);
            }
            deed.encode(place.generation, &mut bytes);
            place.count += 1;
        }
        put(files, place, &bytes)?;
        place.end += bytes.len();
        self.place = Some(place);
        Ok(())
    }

    /// Everything that is remembered, by timeline and number. One that was written twice counts as
    /// it was written last.
    pub(crate) fn read(&self) -> Vec<Deed> {
        let Ok(files) = &self.files else { return Vec::new() };
        let mut turns: Vec<_> = files.iter().filter_map(|file| scan(&**file).ok()?).collect();
        turns.sort_by_key(|turn| turn.place.generation);
        let all = turns.into_iter().flat_map(|turn| turn.deeds);
        let by_name: BTreeMap<_, Deed> =
            all.map(|deed| ((deed.timeline, deed.seq), deed)).collect();
        by_name.into_values().collect()
    }
}

impl Deed {
    fn encode(&self, generation: u64, bytes: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(FIXED + self.stream.len());
        body.extend_from_slice(self.timeline.as_bytes());
        for number in [self.seq, self.lsn.0, self.time_ms] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&self.stream);
        let len = u32::try_from(body.len()).expect("BUG: a deed is larger than its bound");
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&checksum(generation, &body));
        bytes.extend_from_slice(&body);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (timeline, rest) = body.split_first_chunk::<16>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (lsn, rest) = rest.split_first_chunk::<8>()?;
        let (time_ms, stream) = rest.split_first_chunk::<8>()?;
        Some(Self {
            timeline: TimelineId::from_bytes(*timeline),
            seq: u64::from_le_bytes(*seq),
            lsn: Lsn(u64::from_le_bytes(*lsn)),
            time_ms: u64::from_le_bytes(*time_ms),
            stream: Bytes::copy_from_slice(stream),
        })
    }

    /// The mutation, if its stream can be read.
    pub(crate) fn mutation(&self) -> Option<Mutation> {
        Mutation::decode(&self.stream).ok()
    }
}

/// What a file holds.
struct Turn {
    place: Place,
    deeds: Vec<Deed>,
}

/// Where the newest turn ends; generation 0 where there is none.
fn find(files: &[Box<dyn File>; 2]) -> io::Result<Place> {
    let mut newest = Place { generation: 0, end: 0, count: 0 };
    for file in files {
        if let Some(turn) = scan(&**file)?
            && turn.place.generation > newest.generation
        {
            newest = turn.place;
        }
    }
    Ok(newest)
}

/// Reads a file up to its first bad record: what a power cut has torn is not worth a word.
fn scan(file: &dyn File) -> io::Result<Option<Turn>> {
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX).min(DEEDS_BYTES_MAX);
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(turn(&bytes))
}

fn turn(bytes: &[u8]) -> Option<Turn> {
    let (head, mut rest) = bytes.split_at_checked(HEADER)?;
    let generation = u64::from_le_bytes(head.get(5..13)?.try_into().ok()?);
    if head != header(generation) || generation == 0 || generation == u64::MAX {
        return None;
    }
    let mut deeds = Vec::new();
    while let Some((deed, after)) = record(generation, rest) {
        deeds.push(deed);
        rest = after;
    }
    let place = Place { generation, end: bytes.len() - rest.len(), count: deeds.len() };
    Some(Turn { place, deeds })
}

fn record(generation: u64, bytes: &[u8]) -> Option<(Deed, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let (body, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    (checksum(generation, body) == *sum).then_some(())?;
    Some((Deed::decode(body)?, rest))
}

fn file_of(files: &[Box<dyn File>; 2], place: Place) -> &dyn File {
    let [even, odd] = files;
    if place.generation.is_multiple_of(2) { &**even } else { &**odd }
}

fn put(files: &[Box<dyn File>; 2], place: Place, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    file_of(files, place).write_at(bytes, place.end as u64)
}

fn header(generation: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    bytes.extend_from_slice(&generation.to_le_bytes());
    let sum = checksum(generation, &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn checksum(generation: u64, bytes: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(bytes);
    let mut sum = [0; 8];
    sum.iter_mut().zip(hasher.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::DEED_BYTES_MAX;
    use sheaf_volume::MemDir;

    fn deed(seq: u64, len: usize) -> Deed {
        let timeline = TimelineId::from_bytes([7; 16]);
        Deed { timeline, seq, lsn: Lsn(seq + 10), time_ms: 5, stream: vec![9; len].into() }
    }

    fn seqs(deeds: &Deeds) -> Vec<u64> {
        deeds.read().iter().map(|deed| deed.seq).collect()
    }

    #[test]
    fn they_survive_and_a_torn_end_is_cut_off() {
        let dir = MemDir::new();
        let mut deeds = Deeds::open(&dir);
        assert_eq!(deeds.read(), []);
        deeds.add(&[]);
        assert_eq!(dir.used(), 0, "nothing is written in vain");
        deeds.add(&[deed(1, 3), deed(2, 0)]);
        deeds.add(&[deed(3, 100)]);
        let mut again = Deeds::open(&dir);
        assert_eq!(again.read(), [deed(1, 3), deed(2, 0), deed(3, 100)]);
        // Written again after a crash: as it was written last.
        again.add(&[deed(2, 8)]);
        assert_eq!(again.read(), [deed(1, 3), deed(2, 8), deed(3, 100)]);
        let file = dir.open("deeds-1").unwrap();
        let whole = file.len().unwrap();
        file.truncate(whole - 1).unwrap();
        let mut torn = Deeds::open(&dir);
        assert_eq!(torn.read(), [deed(1, 3), deed(2, 0), deed(3, 100)]);
        torn.add(&[deed(4, 1)]);
        assert_eq!(seqs(&Deeds::open(&dir)), [1, 2, 3, 4]);
    }

    #[test]
    fn no_damage_makes_another_deed_of_one() {
        let dir = MemDir::new();
        let all: Vec<Deed> = (1..5).map(|seq| deed(seq, 20)).collect();
        Deeds::open(&dir).add(&all);
        let file = dir.open("deeds-1").unwrap();
        let len = usize::try_from(file.len().unwrap()).unwrap();
        for at in 0..len as u64 {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[byte[0] ^ 0x10], at).unwrap();
            let read = Deeds::open(&dir).read();
            assert!(read.len() < 4 && all.starts_with(&read), "a byte changed at {at}");
            file.write_at(&byte, at).unwrap();
        }
    }

    #[test]
    fn the_newest_stay_within_their_bounds() {
        let dir = MemDir::new();
        let mut deeds = Deeds::open(&dir);
        for seq in 1..=2_500 {
            deeds.add(&[deed(seq, 4)]);
            if seq % 700 == 0 {
                deeds = Deeds::open(&dir);
            }
        }
        assert_eq!(seqs(&deeds), (1_001..=2_500).collect::<Vec<_>>());
        // Large ones, all at once.
        let large: Vec<Deed> = (3_000..3_100).map(|seq| deed(seq, DEED_BYTES_MAX)).collect();
        deeds.add(&large);
        let kept = seqs(&Deeds::open(&dir));
        assert!(kept.len() > DEEDS_BYTES_MAX / DEED_BYTES_MAX - 2, "{kept:?}");
        assert_eq!(kept.last(), Some(&3_099));
        let len = |name| dir.open(name).unwrap().len().unwrap();
        let most = DEEDS_BYTES_MAX as u64;
        assert!(len("deeds-0") <= most && len("deeds-1") <= most);
    }

    #[test]
    fn a_full_disk_is_told_and_no_more() {
        let dir = MemDir::new();
        let mut deeds = Deeds::open(&dir);
        deeds.add(&[deed(1, 3)]);
        dir.set_capacity(Some(dir.used()));
        deeds.add(&[deed(2, 100_000)]);
        assert!(deeds.failure().is_some());
        deeds.add(&[deed(3, 1)]);
        dir.set_capacity(None);
        let mut deeds = Deeds::open(&dir);
        assert_eq!((seqs(&deeds), deeds.failure().is_none()), (vec![1], true));
        deeds.add(&[deed(4, 1)]);
        assert_eq!(seqs(&deeds), [1, 4]);
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let dir = MemDir::new();
        Deeds::open(&dir).add(&[deed(1, 3), deed(2, 0)]);
        let file = dir.open("deeds-1").unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        let fixture = include_bytes!("../../tests/vectors/deeds-v1.bin");
        assert_eq!(bytes, fixture, "{bytes:02x?}");
        assert_eq!(turn(fixture).unwrap().deeds, [deed(1, 3), deed(2, 0)]);
    }
}
