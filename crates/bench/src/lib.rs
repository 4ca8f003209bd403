//! The workloads of `cargo xtask bench`, to be written with it. Nothing is here yet.
