//! Parquet files: rows as columns, for the tools of data analysis.

use crate::encode::{PartEncoder, PartFormat};
use crate::sink::FileSink;
use arrow_schema::{FieldRef, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use rivermark_data::Data;
use rivermark_types::{Failure, Result};
use serde_arrow::schema::{SchemaLike, TracingOptions};
use std::any::type_name;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

/// A row group is closed when it holds about this much.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// Rows as Parquet, compressed with Snappy. A row is a struct: its fields, traced from the type, are the columns; options may be
/// null, nested structs, lists and enums become nested columns, enums without data texts.
#[derive(Debug)]
pub struct Parquet<T>(PhantomData<fn() -> T>);

impl<T> Clone for Parquet<T> {
    fn clone(&self) -> Self {
        Parquet(PhantomData)
    }
}

impl<T> Default for Parquet<T> {
    fn default() -> Self {
        Parquet(PhantomData)
    }
}

impl<T: Data> FileSink<Parquet<T>> {
    /// Parquet (feature `parquet`). Every checkpoint ends a file: the longer the interval, the larger the files.
    ///
    /// ```
    /// # use rivermark_files::FileSink;
    /// # use rivermark_files::parquet::Parquet;
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Reading {
    ///     sensor: String,
    ///     value: Option<f64>,
    /// }
    /// let sink: FileSink<Parquet<Reading>> = FileSink::parquet("readings/");
    /// ```
    pub fn parquet(dir: impl Into<PathBuf>) -> FileSink<Parquet<T>> {
        FileSink::new(dir, Parquet::default())
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::data(format!("the rows cannot be written as Parquet: {error}"))
}

/// The columns of a type.
fn columns<T: Data>() -> Result<Vec<FieldRef>> {
    let options = TracingOptions::default()
        .allow_null_fields(true)
        .map_as_struct(false)
        .enums_without_data_as_strings(true);
    Vec::<FieldRef>::from_type::<T>(options).map_err(|error| {
        Failure::invalid(format!(
            "{} cannot be written as Parquet: {}: use a struct whose fields have plain types",
            type_name::<T>(),
            error.to_string().lines().next().unwrap_or_default()
        ))
    })
}

impl<T: Data> PartFormat for Parquet<T> {
    type Row = T;
    type Encoder = ParquetEncoder<T>;

    fn extension(&self) -> &'static str {
        "parquet"
    }

    fn begin(&self) -> Result<ParquetEncoder<T>> {
        let columns = columns::<T>()?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        let schema = Arc::new(Schema::new(columns.clone()));
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(failed)?;
        Ok(ParquetEncoder {
            columns,
            writer,
            rows: PhantomData,
        })
    }
}

/// Encodes one file.
pub struct ParquetEncoder<T> {
    columns: Vec<FieldRef>,
    writer: ArrowWriter<Vec<u8>>,
    rows: PhantomData<fn(T)>,
}

impl<T: Data> PartEncoder for ParquetEncoder<T> {
    type Row = T;

    fn encode(&mut self, rows: &[T], out: &mut Vec<u8>) -> Result<()> {
        let batch = serde_arrow::to_record_batch(&self.columns, &rows).map_err(failed)?;
        self.writer.write(&batch).map_err(failed)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush().map_err(failed)?;
        }
        out.append(self.writer.inner_mut());
        Ok(())
    }

    fn held(&self) -> usize {
        self.writer.in_progress_size()
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.writer.finish().map_err(failed)?;
        out.append(self.writer.inner_mut());
        Ok(())
    }
}
