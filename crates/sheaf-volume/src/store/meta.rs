//! The meta file: page map and volume record as of the last fold. Byte table in `docs/format.md`.
//!
//! Invariant: there are two meta files, written in turn and flushed before they count; the valid
//! one with the higher generation names the log file that continues it. What the new log needs
//! from the old one (versions above the fold, the timeline) is carried in here too, so a fold is
//! complete once its meta file is durable.

use bytes::Bytes;

use super::held::{Body, Place};
use super::map::{Loc, Version};
use super::record::{
    put_attrs, put_intent, put_mutations, put_places, refer, take_attrs, take_intent, take_local,
    take_lsn, take_mutations, take_places,
};
use super::state::{BaseState, State};
use crate::wire::{Reader, Writer};
use crate::{CommitHash, Error, ErrorKind, PageCount, PageIdx, PageSize, Result, VolumeId};

const MAGIC: &[u8; 4] = b"SHFM";
/// Of a file whose timeline is all in it.
const VERSION: u8 = 1;
/// Of one that says where in the log the bodies of mutations are.
const VERSION_PLACES: u8 = 2;

/// What a store is before any state: fixed at creation, except that an adopted volume's id
/// replaces a provisional one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) volume: VolumeId,
    pub(super) page_size: PageSize,
}

/// Encodes the meta file of `generation`.
pub(super) fn encode(generation: u64, identity: Identity, state: &State) -> Bytes {
    let mut out = Writer::with_capacity(256);
    let bodies: Vec<(u32, Place)> = (0..)
        .zip(&state.timeline)
        .filter_map(|(index, held)| match held.body {
            Body::Log(place) => Some((index, place)),
            Body::Here(_) => None,
        })
        .collect();
    out.raw(MAGIC);
    out.u8(if bodies.is_empty() { VERSION } else { VERSION_PLACES });
    out.varint(generation);
    out.raw(identity.volume.as_bytes());
    out.varint(u64::from(identity.page_size.get()));
    out.varint(state.head.0);
    out.varint(u64::from(state.head_pages.0));
    let base = &state.base;
    out.varint(base.local.0);
    out.varint(base.lsn.0);
    out.raw(&base.hash.0);
    out.varint(u64::from(base.page_count.0));
    out.varint(base.time_ms);
    out.varint(state.bases.len() as u64);
    for (local, lsn) in &state.bases {
        out.varint(local.0);
        out.varint(lsn.0);
    }
    out.u8(u8::from(state.intent.is_some()));
    if let Some(intent) = &state.intent {
        put_intent(&mut out, intent);
    }
    let attrs: Vec<_> =
        state.attrs.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    put_attrs(&mut out, &attrs);
    put_mutations(&mut out, &state.timeline);
    if let Some((_, first)) = bodies.first() {
        // All in one: the log that this file belongs to.
        out.u8(first.file);
        put_places(&mut out, &bodies);
    }
    put_slots(&mut out, state);
    put_versions(&mut out, state);
    let hash = blake3::hash(&out.0);
    out.raw(hash.as_bytes());
    out.finish()
}

/// Whether a meta file was written to its end.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<32>().is_some_and(|(body, hash)| blake3::hash(body) == *hash)
}

/// Decodes a meta file; the generation, identity and state it holds.
pub(super) fn decode(bytes: &[u8]) -> Result<(u64, Identity, State)> {
    decode_within(bytes, u32::MAX)
}

/// [`decode`], refusing pages above `pages_max`.
pub(super) fn decode_within(bytes: &[u8], pages_max: u32) -> Result<(u64, Identity, State)> {
    let split =
        bytes.len().checked_sub(32).ok_or_else(|| Error::corrupt("meta file: too short"))?;
    let (body, hash) = bytes.split_at(split);
    let mut reader = Reader::new(body, "meta file");
    if &reader.array::<4>()? != MAGIC {
        return Err(reader.fail("not one of ours"));
    }
    // Before the version, which is not to be believed in a file that was half written.
    if blake3::hash(body).as_bytes() != hash {
        return Err(reader.fail("checksum does not match"));
    }
    let version = reader.u8()?;
    if version > VERSION_PLACES {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this replica was made by a newer version of Sheaf; upgrade",
        ));
    }
    let generation = reader.varint()?;
    let volume = VolumeId::from_bytes(reader.array()?);
    let page_size = PageSize::new(reader.varint_u32()?).ok_or_else(|| reader.fail("page size"))?;
    let mut state = State {
        head: take_local(&mut reader)?,
        head_pages: PageCount(reader.varint_u32()?),
        base: BaseState {
            local: take_local(&mut reader)?,
            lsn: take_lsn(&mut reader)?,
            hash: CommitHash(reader.array()?),
            page_count: PageCount(reader.varint_u32()?),
            time_ms: reader.varint()?,
        },
        ..State::default()
    };
    for _ in 0..reader.count(2)? {
        state.bases.insert(take_local(&mut reader)?, take_lsn(&mut reader)?);
    }
    if reader.u8()? == 1 {
        state.intent = Some(take_intent(&mut reader)?);
    }
    for (name, value) in take_attrs(&mut reader)? {
        state.attrs.extend(value.map(|value| (name, value)));
    }
    state.timeline = take_mutations(&mut reader)?;
    if version >= VERSION_PLACES {
        let file = reader.u8()?;
        let bodies = take_places(&mut reader, file)?;
        refer(&mut state.timeline, &bodies).map_err(|()| reader.fail("no such mutation"))?;
    }
    take_slots(&mut reader, &mut state, pages_max)?;
    take_versions(&mut reader, &mut state, pages_max)?;
    reader.end()?;
    Ok((generation, Identity { volume, page_size }, state))
}

fn put_loc(out: &mut Writer, loc: Loc) {
    match loc {
        Loc::Zero => out.u8(0),
        Loc::Pending(lsn) => {
            out.u8(1);
            out.varint(lsn.0);
        }
        Loc::Base { sum } => {
            out.u8(2);
            out.u32(sum);
        }
        Loc::Log { file, offset, sum } => {
            out.u8(3);
            out.u8(file);
            out.varint(offset);
            out.u32(sum);
        }
    }
}

fn take_loc(reader: &mut Reader<'_>) -> Result<Loc> {
    Ok(match reader.u8()? {
        0 => Loc::Zero,
        1 => Loc::Pending(take_lsn(reader)?),
        2 => Loc::Base { sum: reader.u32()? },
        3 => Loc::Log { file: reader.u8()?, offset: reader.varint()?, sum: reader.u32()? },
        _ => return Err(reader.fail("unknown page place")),
    })
}

/// Runs of slots without a version, or with one mark; pending runs need one place for all.
fn put_slots(out: &mut Writer, state: &State) {
    let slots = state.map.slot_list();
    let same_run = |a: &Option<Version>, b: &Option<Version>| match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) if a.mark == b.mark => match (a.loc, b.loc) {
            (Loc::Base { .. }, Loc::Base { .. }) => true,
            (a, b) => a == b,
        },
        _ => false,
    };
    let runs: Vec<&[Option<Version>]> = slots.chunk_by(same_run).collect();
    out.varint(runs.len() as u64);
    for run in runs {
        out.varint(run.len() as u64);
        let Some(Some(first)) = run.first() else {
            out.u8(0);
            continue;
        };
        out.u8(1);
        out.varint(first.mark.0);
        put_loc(out, first.loc);
        if let Loc::Base { .. } = first.loc {
            for version in run.iter().skip(1).flatten() {
                let Loc::Base { sum } = version.loc else { continue };
                out.u32(sum);
            }
        }
    }
}

fn take_slots(reader: &mut Reader<'_>, state: &mut State, pages_max: u32) -> Result<()> {
    let mut next = 1u32;
    for _ in 0..reader.count(2)? {
        let len = reader.varint_u32()?;
        // `next` is the first page after the run, so one more than the last.
        let end = next.checked_add(len).filter(|end| end - 1 <= pages_max);
        let end = end.ok_or_else(|| reader.fail("too many pages"))?;
        if reader.u8()? == 1 {
            let mark = take_local(reader)?;
            let mut loc = take_loc(reader)?;
            for number in next..end {
                if number > next && matches!(loc, Loc::Base { .. }) {
                    loc = Loc::Base { sum: reader.u32()? };
                }
                let idx = PageIdx::new(number).ok_or_else(|| reader.fail("page zero"))?;
                state.map.set_slot(idx, Some(Version { mark, loc }));
            }
        }
        next = end;
    }
    Ok(())
}

fn put_versions(out: &mut Writer, state: &State) {
    out.varint(state.map.listed() as u64);
    for (idx, list) in state.map.versions() {
        out.varint(u64::from(idx.get()));
        out.varint(list.len() as u64);
        for version in list {
            out.varint(version.mark.0);
            put_loc(out, version.loc);
        }
    }
}

fn take_versions(reader: &mut Reader<'_>, state: &mut State, pages_max: u32) -> Result<()> {
    for _ in 0..reader.count(3)? {
        let idx = PageIdx::new(reader.varint_u32()?).filter(|idx| idx.get() <= pages_max);
        let idx = idx.ok_or_else(|| reader.fail("no such page"))?;
        for _ in 0..reader.count(2)? {
            let mark = take_local(reader)?;
            let loc = take_loc(reader)?;
            state.map.push(idx, Version { mark, loc });
        }
    }
    Ok(())
}
