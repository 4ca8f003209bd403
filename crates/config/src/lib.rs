//! Configuration: Flink's keys, typed, with defaults, units and origins.
//!
//! A [`Config`] collects what was set (a YAML file, `--set key=value`, the job's code) and remembers by whom;
//! [`Config::resolve`] checks all of it against the table of keys and gives [`Settings`], the typed view the engine
//! reads, or every error at once.
//!
//! - `keys`: the table, split into the keys that are read and those of Flink's that are accepted and listed
//! - `value`: durations, sizes, lists and the other forms a value can have
//! - `yaml`, `origin`, `config`: the layers
//! - `settings`: the typed view, and the rules between keys
//!
//! Non-goals: reading files (the caller hands in the text), and changing a setting while a job runs.

mod config;
mod error;
mod keys;
mod origin;
mod settings;
mod value;
mod yaml;

pub use config::Config;
pub use error::ConfigError;
pub use keys::{Key, Kind, describe, keys};
pub use origin::Origin;
pub use settings::{
    BadRecordsConfig, CheckpointConfig, EngineConfig, LocalCopiesConfig, Mode, OnBadRecord, PipelineConfig,
    RecoveryConfig, ReporterConfig, RestartConfig, Retention, Settings,
};
pub use value::Value;
