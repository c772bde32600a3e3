//! Streams that are waited for: a dead stream sends no packet that could complain, so its rule does.
//!
//! Engines note when media of each rule came last ([`Activity`]); whoever drives them brings their notes together and asks
//! [`Expectations`] now and then. A rule with `expected = true` is missing when no media came for its `silence`, whether it
//! stopped or never began, and back when media has come for `clear_after`. Nothing is claimed of a time in which the
//! appliance did not see what went by.

use core::time::Duration;
use std::sync::Arc;

use serde::Serialize;

use super::time::Timestamp;
use crate::policy::{Rule, RuleId};

/// When media of each rule came last, under one publication of the policy. At most one entry per rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    generation: u64,
    last: Vec<Option<Timestamp>>,
}

impl Activity {
    /// Nothing came yet under the policy of that publication.
    pub fn new(generation: u64) -> Self {
        Activity {
            generation,
            last: Vec::new(),
        }
    }

    /// The publication of the policy whose rules these are.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When media of a rule came last.
    pub fn last(&self, rule: RuleId) -> Option<Timestamp> {
        let place = usize::try_from(rule.0).ok()?;
        self.last.get(place).copied().flatten()
    }

    /// Media of a rule came. Under another publication than before everything begins anew, for its rules are others. The rule
    /// is one of a policy, so there are no more than [`crate::policy::MAX_RULES`].
    #[inline(always)]
    pub(super) fn note(&mut self, generation: u64, rule: RuleId, at: Timestamp) {
        // As nearly always: the rule is known.
        if self.generation == generation
            && let Some(Some(last)) = self.last.get_mut(rule.0 as usize)
        {
            *last = (*last).max(at);
            return;
        }
        self.note_first(generation, rule, at);
    }

    #[cold]
    fn note_first(&mut self, generation: u64, rule: RuleId, at: Timestamp) {
        let Ok(place) = usize::try_from(rule.0) else { return };
        if self.generation != generation {
            (self.generation, self.last) = (generation, Vec::new());
        }
        if place >= self.last.len() {
            self.last.resize(place + 1, None);
        }
        if let Some(last) = self.last.get_mut(place) {
            *last = (*last).max(Some(at));
        }
    }

    /// Takes over what another engine noted under the same publication; what it noted under another one says nothing.
    pub fn merge(&mut self, other: &Activity) {
        if self.generation != other.generation {
            return;
        }
        if self.last.len() < other.last.len() {
            self.last.resize(other.last.len(), None);
        }
        for (mine, theirs) in self.last.iter_mut().zip(&other.last) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Makes this a copy of another without giving up its memory.
    pub fn copy_from(&mut self, other: &Activity) {
        self.generation = other.generation;
        self.last.clone_from(&other.last);
    }
}

/// A rule whose stream stopped or never began, or came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Expectation {
    /// No media of the rule came for longer than its `silence`.
    ExpectedMissing {
        /// The rule's name.
        rule: Arc<str>,
        /// Whether media of it ever came.
        ever: bool,
        /// For how long none came, in milliseconds, as far as the appliance saw.
        silent_ms: u64,
        /// The rule's `silence`, in milliseconds.
        limit_ms: u64,
    },
    /// Media of the rule has come for its `clear_after`.
    ExpectedBack {
        /// The rule's name.
        rule: Arc<str>,
        /// From the time at which it was told to be missing until now, in milliseconds.
        missing_ms: u64,
    },
}

/// How a rule's expectation was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectationReport {
    /// The rule's name.
    pub rule: Arc<str>,
    /// `missing` or `ok`, in the end.
    pub state: &'static str,
    /// Whether media of it ever came.
    pub ever: bool,
    /// How often it was found missing.
    pub times_missing: u64,
}

/// One rule that is waited for.
#[derive(Clone, Debug)]
struct Expected {
    id: RuleId,
    name: Arc<str>,
    silence: Duration,
    clear_after: Duration,
    last: Option<Timestamp>,
    /// When it was told to be missing; `None` while it is not.
    missing: Option<Timestamp>,
    times_missing: u64,
    flowing: Option<Timestamp>,
}

/// The rules that are waited for.
#[derive(Clone, Debug)]
pub struct Expectations {
    rules: Vec<Expected>,
    /// From when on the appliance has seen everything that came.
    seeing: Timestamp,
}

impl Expectations {
    /// Waits for the rules that say `expected`, from `started` on.
    pub fn new(rules: &[Rule], started: Timestamp) -> Self {
        Expectations {
            rules: expected(rules),
            seeing: started,
        }
    }

    /// The policy changed: what is known of rules of the same name stays, others are waited for from `now` on.
    pub fn readmit(&mut self, rules: &[Rule], now: Timestamp) {
        let before = core::mem::replace(&mut self.rules, expected(rules));
        for rule in &mut self.rules {
            match before.iter().find(|known| known.name == rule.name) {
                Some(known) => {
                    (rule.last, rule.missing, rule.flowing) = (known.last, known.missing, known.flowing);
                    rule.times_missing = known.times_missing;
                }
                // As if it had been there until now: it has its time to come.
                None => rule.flowing = Some(now),
            }
        }
    }

    /// Packets went by unseen until `now`: nobody knows what came before.
    pub fn blind(&mut self, now: Timestamp) {
        self.seeing = self.seeing.max(now);
    }

    /// What changed until `now`, by what the engines noted.
    pub fn check(&mut self, now: Timestamp, activity: &Activity, mut out: impl FnMut(Expectation)) {
        for rule in &mut self.rules {
            rule.last = rule.last.max(activity.last(rule.id));
            if let Some(change) = rule.check(now, self.seeing) {
                out(change);
            }
        }
    }

    /// How every expectation was met so far.
    pub fn report(&self) -> Vec<ExpectationReport> {
        let report = |rule: &Expected| ExpectationReport {
            rule: Arc::clone(&rule.name),
            state: if rule.missing.is_some() { "missing" } else { "ok" },
            ever: rule.last.is_some(),
            times_missing: rule.times_missing,
        };
        self.rules.iter().map(report).collect()
    }

    /// Every rule that is waited for, and whether it is missing.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, bool)> {
        self.rules.iter().map(|rule| (&rule.name, rule.missing.is_some()))
    }
}

impl Expected {
    fn check(&mut self, now: Timestamp, seeing: Timestamp) -> Option<Expectation> {
        let Some(told) = self.missing else {
            let newcomer = self.flowing.unwrap_or_default();
            let since = self.last.unwrap_or_default().max(seeing).max(newcomer);
            let silent = now.since(since);
            return (silent > self.silence).then(|| {
                (self.missing, self.flowing) = (Some(now), None);
                self.times_missing += 1;
                Expectation::ExpectedMissing {
                    rule: Arc::clone(&self.name),
                    ever: self.last.is_some(),
                    silent_ms: millis(silent),
                    limit_ms: millis(self.silence),
                }
            });
        };
        // What was seen was there, whatever was not seen beside it; it has flowed until its last packet, not until now.
        let last = self.last.filter(|last| now.since(*last) <= self.silence);
        self.flowing = self.flowing.or(last).filter(|_| last.is_some());
        let (last, since) = (last?, self.flowing?);
        if last.since(since) < self.clear_after {
            return None;
        }
        self.missing = None;
        Some(Expectation::ExpectedBack {
            rule: Arc::clone(&self.name),
            missing_ms: millis(now.since(told)),
        })
    }
}

/// A policy sees to it that what is expected has a `silence`.
fn expected(rules: &[Rule]) -> Vec<Expected> {
    let ids = (0..).map(RuleId);
    let waited_for = |(id, rule): (RuleId, &Rule)| {
        Some(Expected {
            id,
            name: Arc::from(rule.name.as_str()),
            silence: rule.silence.filter(|_| rule.expected)?,
            clear_after: rule.clear_after,
            last: None,
            missing: None,
            times_missing: 0,
            flowing: None,
        })
    };
    ids.zip(rules).filter_map(waited_for).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(5_000_000_000 + ms * 1_000_000)
    }

    fn rule(name: &str, expected: bool) -> Rule {
        Rule {
            name: name.to_owned(),
            expected,
            silence: Some(Duration::from_secs(2)),
            clear_after: Duration::from_secs(4),
            ..Rule::observer()
        }
    }

    /// Notes of a rule's media at these times.
    fn noted(rule: u32, ms: u64) -> Activity {
        let mut activity = Activity::new(1);
        activity.note(1, RuleId(rule), at(ms));
        activity
    }

    fn checked(expectations: &mut Expectations, ms: u64, activity: &Activity) -> Vec<Expectation> {
        let mut told = Vec::new();
        expectations.check(at(ms), activity, |change| told.push(change));
        told
    }

    fn missing(ever: bool, silent_ms: u64) -> Expectation {
        Expectation::ExpectedMissing {
            rule: "b".into(),
            ever,
            silent_ms,
            limit_ms: 2000,
        }
    }

    #[test]
    fn what_never_begins_is_missing_once_and_what_is_not_expected_never() {
        let rules = [rule("a", false), rule("b", true)];
        let mut expectations = Expectations::new(&rules, at(0));
        let nothing = Activity::new(1);
        assert_eq!(checked(&mut expectations, 2000, &nothing), []);
        assert_eq!(checked(&mut expectations, 2100, &nothing), [missing(false, 2100)]);
        assert_eq!(checked(&mut expectations, 90_000, &nothing), []);
        let standing: Vec<_> = expectations
            .iter()
            .map(|(name, missing)| (name.as_ref(), missing))
            .collect();
        assert_eq!(standing, [("b", true)]);
    }

    #[test]
    fn what_stops_is_missing_and_is_back_after_it_has_come_for_a_while() {
        let mut expectations = Expectations::new(&[rule("a", false), rule("b", true)], at(0));
        for ms in (0..=10_000).step_by(100) {
            assert_eq!(checked(&mut expectations, ms, &noted(1, ms)), []);
        }
        let mut told = Vec::new();
        for ms in (10_100..=14_000).step_by(100) {
            told.extend(
                checked(&mut expectations, ms, &noted(1, 10_000))
                    .into_iter()
                    .map(|e| (ms, e)),
            );
        }
        assert_eq!(told, [(12_100, missing(true, 2100))]);
        // Another rule's media is not this rule's, and three seconds of it are not enough.
        for ms in (14_000..=17_000).step_by(100) {
            assert_eq!(checked(&mut expectations, ms, &noted(1, ms)), []);
        }
        for ms in (17_100..=20_000).step_by(100) {
            assert_eq!(checked(&mut expectations, ms, &noted(0, ms)), []);
        }
        told.clear();
        for ms in (20_000..=30_000).step_by(100) {
            told.extend(
                checked(&mut expectations, ms, &noted(1, ms))
                    .into_iter()
                    .map(|e| (ms, e)),
            );
        }
        let back = Expectation::ExpectedBack {
            rule: "b".into(),
            missing_ms: 24_000 - 12_100,
        };
        assert_eq!(told, [(24_000, back)]);
    }

    #[test]
    fn nothing_is_claimed_of_what_went_by_unseen() {
        let mut expectations = Expectations::new(&[rule("b", true)], at(0));
        for ms in (0..=60_000).step_by(100) {
            expectations.blind(at(ms));
            assert_eq!(checked(&mut expectations, ms, &noted(0, 500)), []);
        }
        assert_eq!(checked(&mut expectations, 62_000, &noted(0, 500)), []);
        assert_eq!(
            checked(&mut expectations, 62_100, &noted(0, 500)),
            [missing(true, 2100)]
        );
        // Being blind brings nothing back.
        for ms in (62_200..=90_000).step_by(100) {
            expectations.blind(at(ms));
            assert_eq!(checked(&mut expectations, ms, &noted(0, 500)), []);
        }
    }

    #[test]
    fn a_new_policy_keeps_what_is_known_by_name() {
        let mut expectations = Expectations::new(&[rule("b", true)], at(0));
        assert_eq!(checked(&mut expectations, 3000, &Activity::new(1)).len(), 1);
        expectations.readmit(&[rule("new", true), rule("b", true)], at(10_000));
        let nothing = Activity::new(2);
        assert_eq!(checked(&mut expectations, 12_000, &nothing), []);
        let told = checked(&mut expectations, 12_100, &nothing);
        assert!(
            matches!(&told[..], [Expectation::ExpectedMissing { rule, ever: false, .. }] if rule.as_ref() == "new"),
            "{told:?}"
        );
        expectations.readmit(&[], at(13_000));
        assert_eq!(expectations.iter().count(), 0);
    }

    #[test]
    fn notes_of_several_engines_come_together() {
        let mut all = Activity::new(1);
        all.merge(&noted(3, 50));
        all.merge(&noted(1, 70));
        all.merge(&noted(3, 40));
        let mut other = Activity::new(2);
        other.note(2, RuleId(0), at(99));
        all.merge(&other);
        let last = |rule| all.last(RuleId(rule));
        assert_eq!(
            (last(0), last(1), last(2), last(3)),
            (None, Some(at(70)), None, Some(at(50)))
        );
        // Another publication has other rules.
        all.note(2, RuleId(0), at(100));
        assert_eq!((all.last(RuleId(0)), all.last(RuleId(3))), (Some(at(100)), None));
    }
}
