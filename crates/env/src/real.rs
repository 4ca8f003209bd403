//! The real world. (Placeholder: written next.)

/// Threads, tokio and `std::fs`.
pub struct RealEnv;
