//! The judge's analyser, and what pays for it: it comes with the first TS packet, and goes where the memory is used up.

use crate::engine::memory::{Allowance, Grant};
use crate::engine::ts::{Analyser, Axis};
use crate::policy::rule::Tr101290Thresholds;

/// A stream's analyser, if it has one.
#[derive(Debug)]
pub(super) struct Analysis {
    analyser: Option<Box<Analyser>>,
    grant: Grant,
}

impl Analysis {
    /// None yet.
    pub(super) fn new() -> Self {
        Analysis {
            analyser: None,
            grant: Allowance::unlimited().grant(),
        }
    }

    /// What it holds comes out of this allowance.
    pub(super) fn within(&mut self, allowance: &Allowance) {
        self.grant = allowance.grant();
        self.account();
    }

    /// There is one from now on.
    pub(super) fn begin(&mut self, axis: Axis, thresholds: &Tr101290Thresholds) {
        let mut analyser = Analyser::new(axis);
        analyser.set_thresholds(thresholds);
        self.analyser = Some(Box::new(analyser));
        self.account();
    }

    pub(super) fn analyser(&self) -> Option<&Analyser> {
        self.analyser.as_deref()
    }

    #[inline]
    pub(super) fn analyser_mut(&mut self) -> Option<&mut Analyser> {
        self.analyser.as_deref_mut()
    }

    /// Pays for what the analyser holds now; where the allowance does not suffice it goes, and with it what it knew.
    #[inline]
    pub(super) fn account(&mut self) {
        if let Some(analyser) = &self.analyser
            && !self.grant.hold(size_of::<Analyser>() + analyser.memory())
        {
            self.analyser = None;
            self.grant.hold(0);
        }
    }
}
