//! Numbers through two closures.

use rivermark::prelude::*;

/// `x * 3 + 1`, without multiples of seven.
pub fn stateless(env: &StreamEnv) {
    env.from_source(endless_sequence(), WatermarkStrategy::none())
        .uid("numbers")
        .map(|x| x.wrapping_mul(3).wrapping_add(1))
        .filter(|x| x % 7 != 0)
        .discard();
}
