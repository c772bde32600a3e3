//! The judge's analyser, and what pays for it: it comes with the first TS packet, and goes where the memory is used up.

use std::sync::Arc;

use crate::engine::memory::{Allowance, Grant};
use crate::engine::time::Timestamp;
use crate::engine::ts::{Analyser, Axis, Counting};
use crate::policy::rule::TsRule;

/// A stream's analyser, if it has one.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Analysis {
    grant: Grant,
    /// What the analyser will be, from the first TS packet on.
    awaited: Option<(Axis, Arc<TsRule>)>,
    analyser: Option<Box<Analyser>>,
}

impl Analysis {
    /// None, and none awaited.
    pub(super) fn new() -> Self {
        Analysis {
            awaited: None,
            analyser: None,
            grant: Allowance::unlimited().grant(),
        }
    }

    /// What it holds comes out of this allowance.
    pub(super) fn within(&mut self, allowance: &Allowance) {
        self.grant = allowance.grant();
        self.pay();
    }

    /// There will be one.
    pub(super) fn await_packets(&mut self, axis: Axis, rule: Arc<TsRule>) {
        self.awaited = Some((axis, rule));
    }

    /// Asks for what every packet reads of the analyser.
    #[inline]
    pub(super) fn prefetch(&self) {
        if let Some(analyser) = &self.analyser {
            analyser.prefetch_hot();
        }
    }

    /// The first TS packet is here.
    #[inline]
    pub(super) fn begin(&mut self) {
        if self.analyser.is_none() {
            self.make();
        }
    }

    /// What counts packets of a PID that came at that time, if there is an analyser; `None` where one has more to do with them
    /// than to count, or is to be made.
    #[inline(always)]
    pub(super) fn counting(&mut self, place: usize, at: Timestamp) -> Option<Option<Counting<'_>>> {
        match self.analyser.as_deref_mut() {
            Some(analyser) => analyser.counting(place, at).map(Some),
            None => self.awaited.is_none().then_some(None),
        }
    }

    #[cold]
    fn make(&mut self) {
        if let Some((axis, rule)) = self.awaited.take() {
            let mut analyser = Analyser::new(axis);
            analyser.set_rule(&rule);
            self.analyser = Some(Box::new(analyser));
        }
    }

    /// The policy changed.
    pub(super) fn readmit(&mut self, rule: &Arc<TsRule>) {
        if let Some((_, awaited)) = &mut self.awaited {
            *awaited = Arc::clone(rule);
        }
        if let Some(analyser) = &mut self.analyser {
            analyser.set_rule(rule);
        }
    }

    pub(super) fn analyser(&self) -> Option<&Analyser> {
        self.analyser.as_deref()
    }

    #[inline]
    pub(super) fn analyser_mut(&mut self) -> Option<&mut Analyser> {
        self.analyser.as_deref_mut()
    }

    /// Pays for what the analyser holds now, if that has become more; where the allowance does not suffice it goes, and with
    /// it what it knew.
    #[inline]
    pub(super) fn account(&mut self) {
        if self.analyser.as_mut().is_some_and(|analyser| analyser.has_grown()) {
            self.pay();
        }
    }

    #[inline(never)]
    fn pay(&mut self) {
        if let Some(analyser) = &self.analyser
            && !self.grant.hold(size_of::<Analyser>() + analyser.memory())
        {
            self.analyser = None;
            self.grant.hold(0);
        }
    }
}
