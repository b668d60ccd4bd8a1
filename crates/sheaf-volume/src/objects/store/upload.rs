//! An object that is written part by part, because it may not fit into memory.
//!
//! Invariant: at most [`limits::UPLOAD_PARTS_AT_ONCE`] parts are on their way and one is being put
//! together; the object appears when all of them are there, and an upload that fails is given up,
//! which removes them. Leaves out what a killed process was uploading: a directory keeps that under
//! a name that is no key, a cloud store as an unfinished upload, which its own rules expire.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStoreExt as _};

use super::{StoreObjects, UnderWay, answer, refine};
use crate::limits::{UPLOAD_PART_BYTES, UPLOAD_PARTS_AT_ONCE};
use crate::objects::{Objects as _, ObjectsError, Pieces};

impl StoreObjects {
    /// Writes an object from its pieces: by one request when they are few.
    pub(super) fn upload(&self, key: &str, pieces: &mut Pieces<'_>) -> Result<(), ObjectsError> {
        let mut parts = Parts { pieces: pieces.fuse(), rest: Bytes::new() };
        let first = parts.part()?;
        if first.len() < UPLOAD_PART_BYTES {
            return self.put(key, first);
        }
        let mut upload = self.begin(key)?;
        let mut under_way = VecDeque::new();
        let sent = self.send(key, &mut *upload, first, &mut parts, &mut under_way);
        // All of them, before the upload is given up: a part that arrives later would stay.
        let arrived = under_way.into_iter().map(answer).fold(Ok(()), Result::and);
        let key = key.to_owned();
        match sent.and(arrived) {
            Ok(()) => self.wait(async move {
                let done = upload.complete().await;
                if done.is_err() {
                    // Of an upload that is complete after all this takes nothing away.
                    upload.abort().await.ok();
                }
                done.map(drop).map_err(|error| refine(&key, &error))
            }),
            Err(error) => {
                // What the store says to this changes nothing: the first error is the one to tell.
                self.wait(async move { upload.abort().await.map_err(|e| refine(&key, &e)) }).ok();
                Err(error)
            }
        }
    }

    fn begin(&self, key: &str) -> Result<Box<dyn MultipartUpload>, ObjectsError> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        self.wait(async move {
            let begun = shared.store.put_multipart(&shared.path(&key)?).await;
            begun.map_err(|error| refine(&key, &error))
        })
    }

    /// Sends part after part, and leaves the last ones under way.
    fn send(
        &self,
        key: &str,
        upload: &mut dyn MultipartUpload,
        first: Bytes,
        parts: &mut Parts<'_, '_>,
        under_way: &mut VecDeque<UnderWay<()>>,
    ) -> Result<(), ObjectsError> {
        let mut part = first;
        while !part.is_empty() {
            if under_way.len() >= UPLOAD_PARTS_AT_ONCE
                && let Some(oldest) = under_way.pop_front()
            {
                answer(oldest)?;
            }
            let (put, key) = (upload.put_part(part.into()), key.to_owned());
            under_way.push_back(
                self.start(async move { put.await.map_err(|error| refine(&key, &error)) }),
            );
            part = parts.part()?;
        }
        Ok(())
    }
}

/// Pieces of any size, regrouped.
struct Parts<'a, 'p> {
    pieces: Fuse<&'a mut Pieces<'p>>,
    /// What of the last piece belongs to the next part.
    rest: Bytes,
}

impl Parts<'_, '_> {
    /// The next part: of exactly [`UPLOAD_PART_BYTES`] unless the pieces end.
    fn part(&mut self) -> Result<Bytes, ObjectsError> {
        let mut part = BytesMut::new();
        while part.len() < UPLOAD_PART_BYTES {
            if self.rest.is_empty() {
                let Some(piece) = self.pieces.next() else { break };
                self.rest = piece?;
            }
            let fits = self.rest.len().min(UPLOAD_PART_BYTES - part.len());
            part.extend_from_slice(&self.rest.split_to(fits));
        }
        Ok(part.freeze())
    }
}
