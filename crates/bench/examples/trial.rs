//! A trial alone, for a profiler: its description as JSON is the argument, for example
//! `{"Steady":{"workload":"KeyedU64","side":{"Job":null},"parallelism":2,"keys":1000000,"warm":6000000,"millis":3000}}`.

fn main() -> std::process::ExitCode {
    rivermark_bench::trial::main()
}
