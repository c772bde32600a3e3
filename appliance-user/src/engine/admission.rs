//! Who is admitted: a packet's rule, under which it has a flow, and the flow's place in the table.

use std::sync::LazyLock;

use tidegate_common::drop_reason::DropReason;
use tidegate_common::flow::{Direction, FlowKey, Tuple};
use tidegate_common::walk::Walk;

use super::flow::{Admission, Flow};
use super::flow_table::{FlowIndex, Inserted};
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
    fn rule(&self, id: Option<RuleId>) -> Option<&'p Rule> {
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
    let by = |rule, forward| Admission {
        rule,
        forward,
        generation,
    };
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
    pub(super) fn is_error_of_admitted_flow(&self, policy: &Policy, walk: &Walk) -> bool {
        walk.quoted.is_some_and(|quoted| {
            let known = || self.flows.contains(&quoted.canonical().0) || policy.match_forward(&quoted).is_some();
            quoted.source.ip() == walk.destination && known()
        })
    }

    /// The rule that admits a packet, and its flow, which is entered when it is new.
    pub(super) fn admitted<'p>(
        &mut self,
        now: Timestamp,
        published: &Published<'p>,
        tuple: &Tuple,
    ) -> Result<(&'p Rule, Place), DropReason> {
        let (key, direction) = tuple.canonical();
        let found = self.flows.find(&key, now);
        let known = found
            .and_then(|index| self.flows.get_mut(index))
            .map(|flow| flow.admission);
        let admission = match known {
            Some(admission) if admission.generation == published.generation => admission,
            _ => admit(published, tuple, direction, known)?,
        };
        let rule = published.rule(admission.rule).ok_or(DropReason::NoRule)?;
        let forward = || {
            if admission.forward == direction {
                *tuple
            } else {
                tuple.reversed()
            }
        };
        let Some(index) = found else {
            let flow = Flow::new(admission, rule, &forward());
            return Ok((rule, self.enter(now, key, flow)));
        };
        if let Some(flow) = self.flows.get_mut(index).filter(|flow| flow.admission != admission) {
            let before = flow.streams().len() as u64;
            flow.admit_anew(admission, rule, &forward());
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
