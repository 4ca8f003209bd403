//! The chapters of the guide (`docs/guide`), so that the code in them is compiled and run as tests.

macro_rules! chapters {
    ($($name:ident: $file:literal),* $(,)?) => {
        $(
            #[doc = include_str!(concat!("../../../docs/guide/src/", $file))]
            pub struct $name;
        )*
    };
}

chapters! {
    FirstJob: "first-job.md",
    Concepts: "concepts.md",
    Streams: "streams.md",
    EventTime: "event-time.md",
    State: "state.md",
    Checkpoints: "checkpoints.md",
    SlowCheckpoints: "slow-checkpoints.md",
    SourcesAndSinks: "sources-and-sinks.md",
    Failures: "failures.md",
    Testing: "testing.md",
    FromFlink: "from-flink.md",
}
