//! How much is measured: for numbers to rely on, for a first look, for a test of the form.

/// Sizes and lengths of all workloads.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// How often each limit and job of the steady workloads run, in turns.
    pub rounds: usize,
    /// How long a steady trial is measured without checkpoints, in milliseconds.
    pub off_ms: u64,
    /// The same with checkpoints: whole intervals.
    pub on_ms: u64,
    /// Time between two checkpoints, in milliseconds.
    pub interval_ms: u64,
    /// Keys of the keyed workloads.
    pub keys: u64,
    /// Keys of the window workload.
    pub sensors: u64,
    /// Rounds of the checkpoint workload.
    pub checkpoint_rounds: usize,
    /// Rows of 1,000 bytes.
    pub wide_rows: u64,
    /// Rows of 16 bytes.
    pub narrow_rows: u64,
    /// How long the throughput before and after a freeze is looked at, in milliseconds.
    pub around_ms: u64,
    /// How long latency is measured, in milliseconds.
    pub latency_ms: u64,
    /// Starts from a checkpoint of each shape.
    pub restores: usize,
    /// Checkpoints under backpressure and under skew, in each mode.
    pub timed_checkpoints: usize,
    /// No more of them are taken after so many milliseconds.
    pub timed_ms: u64,
    /// How long the load lasts before them, in milliseconds.
    pub pressure_ms: u64,
}

impl Sizes {
    /// For numbers to rely on: minutes.
    pub const FULL: Sizes = Sizes {
        rounds: 4,
        off_ms: 1_000,
        on_ms: 3_000,
        interval_ms: 1_000,
        keys: 1_000_000,
        sensors: 10_000,
        checkpoint_rounds: 2,
        wide_rows: 1_000_000,
        narrow_rows: 62_000_000,
        around_ms: 1_000,
        latency_ms: 20_000,
        restores: 3,
        timed_checkpoints: 100,
        timed_ms: 8_000,
        pressure_ms: 1_000,
    };

    /// For a first look: less than a minute.
    pub const QUICK: Sizes = Sizes {
        rounds: 1,
        off_ms: 300,
        on_ms: 1_000,
        checkpoint_rounds: 1,
        wide_rows: 100_000,
        narrow_rows: 6_000_000,
        around_ms: 400,
        latency_ms: 3_000,
        restores: 1,
        timed_checkpoints: 20,
        timed_ms: 1_000,
        pressure_ms: 300,
        ..Sizes::FULL
    };

    /// For a test of the form of the results: seconds, also without optimisation.
    pub const TINY: Sizes = Sizes {
        rounds: 1,
        off_ms: 40,
        on_ms: 100,
        interval_ms: 50,
        keys: 500,
        sensors: 100,
        checkpoint_rounds: 1,
        wide_rows: 400,
        narrow_rows: 2_000,
        around_ms: 60,
        latency_ms: 200,
        restores: 1,
        timed_checkpoints: 2,
        timed_ms: 100,
        pressure_ms: 50,
    };
}
