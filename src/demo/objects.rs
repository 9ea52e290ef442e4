//! Objects in memory and uploads under way; both bounded.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::{body::hex, state::lock};

/// What is stored, and uploads under way.
#[derive(Default)]
pub(super) struct Objects {
    stored: VecDeque<Object>,
    sessions: HashMap<String, Session>,
}

#[derive(Clone)]
pub(super) struct Object {
    bucket: String,
    name: String,
    size: u64,
    crc32c: u32,
    sha256: String,
    /// None when the object was larger than what is kept.
    pub(super) bytes: Option<Bytes>,
}

struct Session {
    bucket: String,
    name: String,
    gathered: Gathered,
}

/// Bytes of an upload so far.
pub(super) struct Gathered {
    size: u64,
    crc32c: u32,
    hash: digest::Context,
    kept: Option<BytesMut>,
}

impl Objects {
    pub(super) fn list(&self, bucket: &str) -> Vec<Value> {
        self.stored.iter().filter(|object| object.bucket == bucket).map(Object::resource).collect()
    }

    pub(super) fn find(&self, bucket: &str, name: &str) -> Option<Object> {
        self.stored.iter().find(|object| object.bucket == bucket && object.name == name).cloned()
    }

    /// Replaces what had that name; the oldest objects make room.
    pub(super) fn store(&mut self, bucket: &str, name: &str, gathered: Gathered) -> Value {
        let object = Object {
            bucket: bucket.to_owned(),
            name: name.to_owned(),
            size: gathered.size,
            crc32c: !gathered.crc32c,
            sha256: hex(gathered.hash.finish().as_ref()),
            bytes: gathered.kept.map(BytesMut::freeze),
        };
        let resource = object.resource();
        self.stored.retain(|old| (&old.bucket, &old.name) != (&object.bucket, &object.name));
        self.stored.push_back(object);
        while self.stored.len() > MAX_OBJECTS || self.stored.iter().map(Object::held).sum::<usize>() > MAX_HELD {
            self.stored.pop_front();
        }
        resource
    }

    /// Begins a resumable upload, unless too many are under way.
    pub(super) fn begin(&mut self, id: String, bucket: &str, name: String) -> bool {
        if self.sessions.len() >= MAX_SESSIONS {
            return false;
        }
        let session = Session { bucket: bucket.to_owned(), name, gathered: Gathered::default() };
        self.sessions.insert(id, session);
        true
    }
}

/// The one writer of a session, which is taken out meanwhile so that two cannot mix their bytes. Puts
/// it back on drop, since a broken connection drops the handler where it stands.
pub(super) struct Writer<'a> {
    objects: &'a Mutex<Objects>,
    id: String,
    session: Option<Session>,
}

impl<'a> Writer<'a> {
    pub(super) fn take(objects: &'a Mutex<Objects>, id: String) -> Option<Self> {
        let session = lock(objects).sessions.remove(&id)?;
        Some(Self { objects, id, session: Some(session) })
    }

    pub(super) fn size(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.gathered.size)
    }

    pub(super) fn write(&mut self, data: &[u8]) {
        if let Some(session) = &mut self.session {
            session.gathered.take(data);
        }
    }

    /// Stores the object and ends the session.
    pub(super) fn finish(mut self) -> Option<Value> {
        let session = self.session.take()?;
        Some(lock(self.objects).store(&session.bucket, &session.name, session.gathered))
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            lock(self.objects).sessions.insert(std::mem::take(&mut self.id), session);
        }
    }
}

impl Object {
    fn held(&self) -> usize {
        self.bytes.as_ref().map_or(0, Bytes::len)
    }

    pub(super) fn crc32c_text(&self) -> String {
        STANDARD.encode(self.crc32c.to_be_bytes())
    }

    pub(super) fn resource(&self) -> Value {
        json!({
            "kind": "storage#object",
            "id": format!("{}/{}/1", self.bucket, self.name),
            "name": self.name,
            "bucket": self.bucket,
            "generation": "1",
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "size": self.size.to_string(),
            "crc32c": self.crc32c_text(),
            "metadata": { "sha256": self.sha256 },
        })
    }
}

impl Default for Gathered {
    fn default() -> Self {
        let hash = digest::Context::new(&digest::SHA256);
        Self { size: 0, crc32c: !0, hash, kept: Some(BytesMut::new()) }
    }
}

impl Gathered {
    pub(super) fn take(&mut self, data: &[u8]) {
        self.size += data.len() as u64;
        self.hash.update(data);
        self.crc32c = data.iter().fold(self.crc32c, |crc, &byte| {
            let [low, ..] = (crc ^ u32::from(byte)).to_le_bytes();
            (crc >> 8) ^ CRC32C[usize::from(low)]
        });
        match &mut self.kept {
            Some(kept) if kept.len() + data.len() <= MAX_KEPT => kept.extend_from_slice(data),
            kept => *kept = None,
        }
    }
}

/// Castagnoli, reflected: SDKs compare it after each upload and download.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// The largest object whose bytes are kept.
pub(super) const MAX_KEPT: usize = 16 << 20;

const MAX_HELD: usize = 64 << 20;

const MAX_OBJECTS: usize = 256;

const MAX_SESSIONS: usize = 64;
