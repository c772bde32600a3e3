//! The maps that control fills and reads: settings, the spans of admitted sources, counters.
//!
//! The program may be running on them already, left by an earlier process, so every change is made in an order that is
//! right at each step: a policy is built in the slot that is not in use and comes into force with one word.

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use rustix::thread::{MembarrierCommand, membarrier};
use tidegate_common::drop_reason::DropReason;
use tidegate_common::maps::{
    self, Active, Admit, COUNTERS, Config, Counter, Counters, Family, MAX_SPANS, Screen, Span4, Span6, name,
    spans_begin,
};

use super::events::BypassPackets;
use super::figures::KernelFigures;
use super::options::Options;
use super::program::ProgramError;
use super::spans::{self, Listing};
use crate::policy::{DefaultAction, FailureAction, KernelPrefix};

/// The maps, taken out of the loaded program.
pub struct Tables {
    config: Array<MapData, [u8; Config::SIZE]>,
    counters: PerCpuArray<MapData, [u64; COUNTERS]>,
    screens: Array<MapData, [u8; Screen::SIZE]>,
    v4: Array<MapData, [u8; Span4::SIZE]>,
    v6: Array<MapData, [u8; Span6::SIZE]>,
}

/// What the kernel is told besides the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How old a heartbeat may be, in nanoseconds.
    pub heartbeat_ns: u64,
    /// UDP port of GENEVE.
    pub geneve_port: u16,
    /// What happens to admitted packets while no worker is alive.
    pub on_failure: FailureAction,
}

impl Settings {
    /// Those of the command line.
    pub fn new(options: &Options) -> Self {
        Settings {
            heartbeat_ns: u64::try_from(options.heartbeat.as_nanos()).unwrap_or(u64::MAX),
            geneve_port: options.geneve_port,
            on_failure: options.on_failure,
        }
    }

    /// The map's contents, keeping the policy that is in force.
    fn over(self, present: Config) -> Config {
        Config {
            heartbeat_ns: self.heartbeat_ns,
            geneve_port: self.geneve_port,
            on_failure: kernel_action(self.on_failure) as u8,
            ..present
        }
    }
}

impl Tables {
    /// Takes the maps out of the loaded program.
    ///
    /// # Errors
    /// [`ProgramError::Map`] if one is not there or of another kind.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, ProgramError> {
        Ok(Tables {
            config: take(ebpf, name::CONFIG)?,
            counters: take(ebpf, name::COUNTERS)?,
            screens: take(ebpf, name::SCREENS)?,
            v4: take(ebpf, name::SPANS_V4)?,
            v6: take(ebpf, name::SPANS_V6)?,
        })
    }

    /// Writes the settings. The policy in force stays.
    ///
    /// # Errors
    /// [`ProgramError::Access`].
    pub fn configure(&mut self, settings: Settings) -> Result<(), ProgramError> {
        let config = settings.over(self.config()?);
        self.set_config(config)
    }

    /// The settings and the policy slot in force. [`Tables::publish`] fills the other slot, so putting these back undoes it.
    ///
    /// # Errors
    /// [`ProgramError::Access`].
    pub fn in_force(&self) -> Result<Config, ProgramError> {
        self.config()
    }

    /// Puts back what [`Tables::in_force`] said.
    ///
    /// # Errors
    /// [`ProgramError::Access`].
    pub fn put_in_force(&mut self, former: Config) -> Result<(), ProgramError> {
        self.set_config(former)
    }

    fn config(&self) -> Result<Config, ProgramError> {
        self.config
            .get(&0, 0)
            .map(Config::from_bytes)
            .map_err(access(name::CONFIG))
    }

    /// The kernel copies the value while the program reads it. That is right all the same: fields are independent of each
    /// other, and of the word of [`Active`] only the slot means anything to the program, which is one bit.
    fn set_config(&mut self, config: Config) -> Result<(), ProgramError> {
        self.config.set(0, config.to_bytes(), 0).map_err(access(name::CONFIG))
    }

    /// Brings a policy into force; returns its generation.
    ///
    /// # Errors
    /// [`ProgramError::Access`]; the policy that was in force then still is.
    pub fn publish(
        &mut self,
        prefixes: &[KernelPrefix],
        default_action: DefaultAction,
        on_failure: FailureAction,
    ) -> Result<u64, ProgramError> {
        let mut config = self.config()?;
        let slot = 1 - Active::from_word(config.active).slot();
        let generation = Active::from_word(config.active).generation() + 1;
        // A packet that began under the policy before last may still be reading this slot: wait until every processor has
        // been seen outside the program. Kernels with `nohz_full` refuse; there a start takes far longer than a packet does.
        if let Err(error) = membarrier(MembarrierCommand::Global) {
            tracing::debug!(%error, "no global membarrier");
        }
        self.list(slot, prefixes, on_failure)?;
        config.default_action[slot] = match default_action {
            DefaultAction::Drop => maps::DefaultAction::Drop as u8,
            DefaultAction::Return => maps::DefaultAction::Return as u8,
        };
        self.set_config(config)?;
        config.active = Active::new(generation, slot).word();
        self.set_config(config)?;
        Ok(generation)
    }

    /// Fills a slot that is not in force: one write for each span.
    fn list(&mut self, slot: usize, prefixes: &[KernelPrefix], on_failure: FailureAction) -> Result<(), ProgramError> {
        let admits: Vec<_> = prefixes
            .iter()
            .map(|KernelPrefix { prefix, wish }| {
                let own = wish.strictest.map(|_| kernel_action(wish.resolve(on_failure)));
                (*prefix, Admit::new(own))
            })
            .collect();
        let Listing { screen, spans } = spans::v4(&admits);
        let bytes = spans.into_iter().map(Span4::to_bytes);
        fill(&mut self.v4, slot, bytes).map_err(access(name::SPANS_V4))?;
        self.screen(slot, Family::V4, &screen)?;
        let Listing { screen, spans } = spans::v6(&admits);
        let bytes = spans.into_iter().map(Span6::to_bytes);
        fill(&mut self.v6, slot, bytes).map_err(access(name::SPANS_V6))?;
        self.screen(slot, Family::V6, &screen)
    }

    fn screen(&mut self, slot: usize, family: Family, screen: &Screen) -> Result<(), ProgramError> {
        self.screens
            .set(Screen::index(slot, family), screen.to_bytes(), 0)
            .map_err(access(name::SCREENS))
    }

    /// What the program counted, over all processors.
    ///
    /// # Errors
    /// [`ProgramError::Access`].
    pub fn figures(&self) -> Result<KernelFigures, ProgramError> {
        Ok(figures(&self.counters()?))
    }

    /// Packets that took a failure action, over all processors.
    ///
    /// # Errors
    /// [`ProgramError::Access`].
    pub fn bypass(&self) -> Result<BypassPackets, ProgramError> {
        Ok(bypass(&self.counters()?))
    }

    fn counters(&self) -> Result<Counters, ProgramError> {
        let processors = self.counters.get(&0, 0).map_err(access(name::COUNTERS))?;
        let mut sum = Counters::default();
        processors.iter().for_each(|processor| sum.add(processor));
        Ok(sum)
    }
}

/// Writes the spans of a slot. There are never more than it holds: a policy lists fewer prefixes.
fn fill<const N: usize>(
    map: &mut Array<MapData, [u8; N]>,
    slot: usize,
    spans: impl ExactSizeIterator<Item = [u8; N]>,
) -> Result<(), MapError> {
    let (begin, end) = (spans_begin(slot), spans_begin(slot) + MAX_SPANS);
    if spans.len() > MAX_SPANS as usize {
        return Err(MapError::OutOfBounds {
            index: end,
            max_entries: end,
        });
    }
    for (index, span) in (begin..end).zip(spans) {
        map.set(index, span, 0)?;
    }
    Ok(())
}

fn take<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, ProgramError> {
    let map = ebpf.take_map(name).ok_or(ProgramError::Map(name))?;
    T::try_from(map).map_err(|_| ProgramError::Map(name))
}

fn access(map: &'static str) -> impl Fn(MapError) -> ProgramError + Copy {
    move |source| ProgramError::Access { map, source }
}

fn bypass(counters: &Counters) -> BypassPackets {
    BypassPackets {
        returned: counters.get(Counter::BypassReturned),
        dropped: counters.dropped(DropReason::WorkerDead),
        passed: counters.get(Counter::BypassPassed),
    }
}

fn figures(counters: &Counters) -> KernelFigures {
    /// What adds up to `seen`; the others are notes.
    const OUTCOMES: [Counter; 6] = [
        Counter::Seen,
        Counter::Passed,
        Counter::Redirected,
        Counter::Returned,
        Counter::BypassReturned,
        Counter::BypassPassed,
    ];
    let mut dropped = [0; DropReason::COUNT];
    for (count, reason) in dropped.iter_mut().zip(DropReason::ALL) {
        *count = counters.dropped(*reason);
    }
    let notes = Counter::ALL.into_iter().filter(|counter| !OUTCOMES.contains(counter));
    KernelFigures {
        seen: counters.get(Counter::Seen),
        passed: counters.get(Counter::Passed),
        redirected: counters.get(Counter::Redirected),
        returned: counters.get(Counter::Returned),
        bypass: bypass(counters),
        dropped,
        notes: notes.map(|counter| (counter.name(), counters.get(counter))).collect(),
    }
}

const fn kernel_action(action: FailureAction) -> maps::FailureAction {
    match action {
        FailureAction::Return => maps::FailureAction::Return,
        FailureAction::Drop => maps::FailureAction::Drop,
        FailureAction::Pass => maps::FailureAction::Pass,
    }
}

/// The action's name on the command line.
pub const fn failure_name(action: FailureAction) -> &'static str {
    kernel_action(action).name()
}

/// The action's name in a policy.
pub const fn default_name(action: DefaultAction) -> &'static str {
    match action {
        DefaultAction::Drop => "drop",
        DefaultAction::Return => "return",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_keep_the_policy_in_force() {
        let present = Config {
            active: Active::new(7, 1).word(),
            default_action: [1, 0],
            ..Config::default()
        };
        let settings = Settings {
            heartbeat_ns: 80,
            geneve_port: 6081,
            on_failure: FailureAction::Drop,
        };
        let config = settings.over(present);
        assert_eq!(
            (config.active, config.default_action),
            (present.active, present.default_action)
        );
        assert_eq!(
            (config.heartbeat_ns, config.geneve_port, config.on_failure),
            (80, 6081, 1)
        );
    }

    #[test]
    fn every_counter_of_the_kernel_is_shown_once_and_adds_up() {
        let mut counters = Counters::default();
        for (place, count) in counters.0.iter_mut().enumerate() {
            *count = 1 << place.min(20);
        }
        let shown = figures(&counters);
        assert_eq!(shown.notes.len() + 6, Counter::ALL.len());
        assert_eq!(shown.dropped_total(), counters.dropped_total());
        assert_eq!(shown.returned_total(), counters.returned_total());
        assert_eq!(shown.passed_total(), counters.passed_total());
        assert_eq!(shown.bypass.dropped, counters.dropped(DropReason::WorkerDead));
    }
}
