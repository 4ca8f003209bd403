//! A small JSON document that knows whether it is whole: the form of manifests and of the job's head.
//!
//! Two JSON values, one after the other: the document, indented for people, and on the last line the digest of what is
//! before it. Non-goals: what a document says, and whether that makes sense.

use crate::StateError;
use rivermark_storage::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The end of a document: a line break, then 32 digits in quotes, then a line break.
const TAIL: usize = 36;

/// The document's bytes.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StateError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| StateError::Unwritable {
        type_name: std::any::type_name::<T>(),
        reason: error.to_string(),
    })?;
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(format!("\n\"{digest}\"\n").as_bytes());
    Ok(bytes)
}

/// The document back. `object` names it in errors; more than `limit` bytes are not even looked at.
pub(crate) fn decode<T: DeserializeOwned>(
    object: &str,
    bytes: &[u8],
    limit: usize,
    newest: u32,
) -> Result<T, StateError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |reason: String| StateError::Damaged {
        object: object.to_owned(),
        reason,
    };
    if bytes.len() > limit {
        return Err(damaged(format!(
            "it has {} bytes, {limit} is the limit",
            bytes.len()
        )));
    }
    let cut = bytes.len().checked_sub(TAIL);
    let (body, tail) = bytes.split_at(cut.ok_or_else(|| damaged("it ends too early".into()))?);
    let digest = Digest::of(body);
    if tail != format!("\n\"{digest}\"\n").as_bytes() {
        return Err(damaged(format!(
            "its checksum is {digest}, its last line says {:?}",
            String::from_utf8_lossy(tail).trim()
        )));
    }
    let Format { format } = serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))?;
    if format == 0 {
        return Err(damaged("it has no format".into()));
    }
    if format > newest {
        return Err(StateError::NewerFormat {
            object: object.to_owned(),
            found: format,
            supported: newest,
        });
    }
    serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))
}
