//! Waiting for a condition, always with an end.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How often a condition is looked at: short beside what tests wait for, long beside what a look costs.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// Looks every 10 ms until `condition` holds.
///
/// # Errors
/// [`Error::Timeout`] with `what` if it does not hold `within` the given time; the condition is looked at at least once.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        if condition() {
            return Ok(());
        }
        if start.elapsed() >= within {
            return Err(Error::Timeout {
                what: what.to_owned(),
                after: within,
            });
        }
        thread::sleep(POLL);
    }
}
