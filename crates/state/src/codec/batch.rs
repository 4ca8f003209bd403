//! Records in flight as pages of the snapshot format: a `value` column, and a `time` column where the batch has times.
//!
//! Non-goal: keyed state, which has key groups and namespaces besides (`RowCodec`).

use super::column::ColumnCodec;
use super::{VALUE, column, page, plain, primitive};
use crate::StateError;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use rivermark_data::{Batch, Data, RowCodec, Typed};
use rivermark_types::{Failure, Timestamp};
use std::sync::Arc;

const TIME: &str = "time";

/// The snapshot codec of batches of `T`. Make one per edge and keep it: it finds out once what its type looks like.
pub fn batch_rows<T: Data>() -> Arc<dyn RowCodec> {
    Arc::new(BatchCodec::<T> {
        values: ColumnCodec::new(),
    })
}

struct BatchCodec<T> {
    values: ColumnCodec<T>,
}

impl<T: Data> RowCodec for BatchCodec<T> {
    fn encode(&self, batch: &Batch) -> Result<Vec<u8>, Failure> {
        let rows = batch
            .peek::<T>()
            .ok_or_else(|| Failure::bug("the edge's row codec met a batch of another type"))?;
        let mut columns = vec![self.values.encode(VALUE, &rows.values, |row| row)?];
        if let Some(times) = &rows.times {
            columns.push(plain::<Int64Type>(
                TIME,
                times.iter().map(|time| time.0).collect(),
            ));
        }
        page::write(columns, &Arc::default())
            .map(|page| page.to_vec())
            .map_err(|error| StateError::Page(error.to_string()).into())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Batch, Failure> {
        let mut rows = Typed::<T>::default();
        for batch in page::read(Bytes::copy_from_slice(bytes))? {
            let (field, array) = column(&batch, VALUE)?;
            let values = self.values.decode(field, array)?;
            let times = match batch.schema_ref().fields().find(TIME) {
                None => None,
                Some(_) => {
                    let times = primitive::<Int64Type>(&batch, TIME)?;
                    Some(
                        times
                            .values()
                            .iter()
                            .map(|time| Timestamp(*time))
                            .collect::<Vec<_>>(),
                    )
                }
            };
            if times.as_ref().is_some_and(|times| times.len() != values.len()) {
                return Err(StateError::Page("its columns differ in length".into()).into());
            }
            rows.append(Typed { values, times });
        }
        Ok(Batch::new(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flight {
        carrier: String,
        delay: Option<i32>,
    }

    fn flights() -> Vec<Flight> {
        vec![
            Flight {
                carrier: "AA".into(),
                delay: Some(-3),
            },
            Flight {
                carrier: "UA".into(),
                delay: None,
            },
        ]
    }

    #[test]
    fn records_come_back_with_and_without_times() {
        let codec = batch_rows::<Flight>();
        for times in [None, Some(vec![Timestamp(5), Timestamp::MIN])] {
            let rows = Typed {
                values: flights(),
                times,
            };
            let page = codec.encode(&Batch::new(rows.clone())).unwrap();
            assert_eq!(codec.decode(&page).unwrap().take::<Flight>().unwrap(), rows);
        }
    }

    #[test]
    fn an_older_version_of_the_type_is_read_by_field_name() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Newer {
            #[serde(default)]
            delay: Option<i32>,
            #[serde(default)]
            gate: Option<u8>,
        }
        let page = batch_rows::<Flight>()
            .encode(&Batch::new(Typed::untimed(flights())))
            .unwrap();
        let rows = batch_rows::<Newer>()
            .decode(&page)
            .unwrap()
            .take::<Newer>()
            .unwrap();
        assert_eq!(
            rows.values,
            [
                Newer {
                    delay: Some(-3),
                    gate: None
                },
                Newer {
                    delay: None,
                    gate: None
                }
            ]
        );
    }

    #[test]
    fn damage_is_an_error() {
        let codec = batch_rows::<u64>();
        let page = codec.encode(&Batch::new(Typed::untimed(vec![1u64, 2]))).unwrap();
        for cut in 0..page.len() {
            assert!(codec.decode(&page[..cut]).is_err(), "cut at {cut}");
        }
        assert!(
            codec
                .encode(&Batch::new(Typed::untimed(vec!["x".to_owned()])))
                .is_err()
        );
    }
}
