//! Keeps "failed" and "unknown" apart over the repetitions of a compare-and-set.

use crate::{CasOutcome, Digest};
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};

/// What a writer proposed: the expected version and the digest of the bytes.
type Proposal = (Option<u64>, Digest);

/// Remembers the proposal whose outcome is not known yet, so that its repetition cannot say `NotWritten` because *it*
/// failed while an earlier one may have been written. Every implementation of [`crate::Cas`] that can answer `Unknown`
/// or be dropped half-way has one per handle.
#[derive(Default)]
pub struct InDoubt(Mutex<Option<Proposal>>);

impl InDoubt {
    /// Runs one call of [`crate::Cas::compare_and_set`] and corrects its outcome. A call that is dropped stays in doubt.
    pub async fn settle(
        &self,
        expected: Option<u64>,
        bytes: &Bytes,
        call: impl Future<Output = CasOutcome> + Send,
    ) -> CasOutcome {
        let proposal = (expected, Digest::of(bytes));
        let repeated = self.replace(Some(proposal)) == Some(proposal);
        match call.await {
            CasOutcome::Unknown(error) => CasOutcome::Unknown(error),
            CasOutcome::NotWritten(error) if repeated => CasOutcome::Unknown(error),
            settled => {
                self.replace(None);
                settled
            }
        }
    }

    fn replace(&self, proposal: Option<Proposal>) -> Option<Proposal> {
        let mut in_doubt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut in_doubt, proposal)
    }
}
