//! Who is admitted: a packet's rule, under which it has a flow, and the flow's place in the table.

use core::net::IpAddr;
use std::sync::LazyLock;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::{Direction, FlowKey, Tuple};

use super::flow::{Admission, Flow};
use super::flow_table::{FlowIndex, Inserted};
use super::foresight::Sighting;
use super::time::Timestamp;
use super::{Engine, retire};
use crate::policy::{Policy, Rule, RuleId};

/// Where a packet's flow is.
pub(super) enum Place {
    /// In the table.
    InTable(FlowIndex),
    /// The table is full of live flows: this one is asked about one packet, and forgotten.
    Nowhere(Box<Flow>),
}

/// A compiled policy and the number of its publication; a flow admitted under another number is decided anew.
#[derive(Clone, Copy)]
pub struct Published<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its number, which only grows.
    pub generation: u64,
}

impl<'p> Published<'p> {
    /// The rule of an admission; where everything is observed without a policy, the observer's.
    #[inline]
    pub(super) fn rule(&self, id: Option<RuleId>) -> Option<&'p Rule> {
        static OBSERVER: LazyLock<Rule> = LazyLock::new(Rule::observer);
        match id {
            Some(id) => self.policy.rule(id),
            None => Some(&OBSERVER),
        }
    }
}

/// The rule that admits a flow's packet, and in which direction of the flow its source sends.
fn admit(
    published: &Published<'_>,
    tuple: &Tuple,
    direction: Direction,
    known: Option<Admission>,
) -> Result<Admission, DropReason> {
    let Published { policy, generation } = *published;
    let by = |rule, forward| Admission::new(rule, forward, generation);
    if policy.observes_all() {
        return Ok(by(None, direction));
    }
    if let Some(rule) = policy.match_forward(tuple) {
        return Ok(by(Some(rule), direction));
    }
    // A reply needs its forward flow, seen here under whichever policy, or the rule's exact reversed ports.
    let reversed = tuple.reversed();
    let was_forward = known.is_some_and(|known| known.forward != direction);
    if was_forward && let Some(rule) = policy.match_forward(&reversed) {
        return Ok(by(Some(rule), direction.flipped()));
    }
    if let Some(rule) = policy.match_reverse(tuple) {
        return Ok(by(Some(rule), direction.flipped()));
    }
    Err(if policy.source_listed(tuple.source.ip()) {
        DropReason::NoRule
    } else if policy.match_forward(&reversed).is_some() {
        DropReason::UnsolicitedReply
    } else {
        DropReason::SourceNotListed
    })
}

impl Engine {
    /// An ICMP error belongs to the flow whose packet it quotes, and goes to that packet's sender (RFC 792, RFC 4443). A flow
    /// that is not here may be at another worker, so the rules are asked too.
    #[cold]
    pub(super) fn is_admitted_flow_of(&self, policy: &Policy, quoted: &Tuple, destination: IpAddr) -> bool {
        let known = || self.flows.contains(&quoted.canonical().0) || policy.match_forward(quoted).is_some();
        quoted.source.ip() == destination && known()
    }

    /// The rule that admits a packet, and its flow, which is entered when it is new.
    #[inline]
    pub(super) fn admitted<'p>(
        &mut self,
        now: Timestamp,
        published: &Published<'p>,
        seen: &Sighting,
    ) -> Result<(&'p Rule, Place), DropReason> {
        let found = self.flows.find_hashed(&seen.walk.key, seen.hash, seen.guess, now);
        if let Some(index) = found
            && let Some(flow) = self.flows.get_mut(index)
            && flow.admission.generation == published.generation
            && let Some(rule) = published.rule(flow.admission.rule())
        {
            return Ok((rule, Place::InTable(index)));
        }
        self.admitted_anew(now, published, seen, found)
    }

    /// The same for a flow that no rule admitted yet, or a rule of another policy.
    #[cold]
    fn admitted_anew<'p>(
        &mut self,
        now: Timestamp,
        published: &Published<'p>,
        seen: &Sighting,
        found: Option<FlowIndex>,
    ) -> Result<(&'p Rule, Place), DropReason> {
        let (tuple, direction) = (seen.walk.tuple(), seen.walk.direction);
        let known = found
            .and_then(|index| self.flows.get_mut(index))
            .map(|flow| flow.admission);
        let admission = admit(published, &tuple, direction, known)?;
        let rule = published.rule(admission.rule()).ok_or(DropReason::NoRule)?;
        let forward = if admission.forward == direction {
            tuple
        } else {
            tuple.reversed()
        };
        let Some(index) = found else {
            let flow = Flow::new(admission, rule, &forward);
            return Ok((rule, self.enter(now, seen.walk.key, flow)));
        };
        if let Some(flow) = self.flows.get_mut(index).filter(|flow| flow.admission != admission) {
            let before = flow.streams().len() as u64;
            flow.admit_anew(admission, rule, &forward);
            self.counters.streams = self.counters.streams + flow.streams().len() as u64 - before;
        }
        Ok((rule, Place::InTable(index)))
    }

    /// Puts a flow into the table, if that is not full of live ones.
    fn enter(&mut self, now: Timestamp, key: FlowKey, flow: Flow) -> Place {
        let index = match self.flows.insert(key, now, flow) {
            Inserted::Fresh(index) => index,
            Inserted::Evicting(index, mut gone) => {
                self.counters.flows_evicted += 1;
                self.counters.streams -= gone.streams().len() as u64;
                retire(&mut gone, now, "evicted", &mut self.outbox, self.retired.as_mut());
                index
            }
            Inserted::Refused(flow) => {
                self.counters.flows_refused += 1;
                return Place::Nowhere(Box::new(flow));
            }
        };
        self.counters.flows_created += 1;
        Place::InTable(index)
    }
}
