//! What may be a record, and what may be a key.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record or a value of state: any type that serde can write and read. Implemented for all of them.
pub trait Data: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Data for T {}

/// A key: a record with equality. Floats and maps inside are refused when the graph is built.
pub trait Key: Data + Eq {}
impl<T: Data + Eq> Key for T {}
