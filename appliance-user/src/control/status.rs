//! The appliance in one JSON object, for `/api/v1/status`.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_common::drop_reason::DropReason;

use super::figures::{Facts, Figures, KernelFigures, QueueFigures};

/// Everything at one moment as JSON; keys may be added, never renamed.
pub fn status(figures: &Figures) -> Value {
    let facts = &figures.facts;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "health": { "status": figures.health.status(), "reason": figures.health.reason() },
        "uptime_seconds": figures.uptime.as_secs(),
        "interface": { "name": facts.interface, "driver": facts.driver, "mtu": facts.mtu },
        "xdp": { "mode": facts.xdp_mode, "takeover": facts.takeover, "on_failure": facts.on_failure },
        "policy": {
            "file": facts.policy_file, "generation": facts.generation, "rules": facts.rules,
            "default_action": facts.default_action,
        },
        "fallbacks": facts.fallbacks.iter()
            .map(|(what, instead, why)| json!({ "what": what, "instead": instead, "why": why }))
            .collect::<Vec<_>>(),
        "kernel": kernel_json(&figures.kernel),
        "queues": figures.queues.iter().map(|queue| queue_json(facts, queue)).collect::<Vec<_>>(),
        "expected": figures.expected.iter()
            .map(|(rule, missing)| json!({ "rule": rule.as_ref(), "missing": missing }))
            .collect::<Vec<_>>(),
        "events": { "written": figures.events[0], "shed": figures.events[1], "failed": figures.events[2] },
    })
}

fn kernel_json(kernel: &KernelFigures) -> Value {
    json!({
        "packets": {
            "seen": kernel.seen, "passed": kernel.passed, "redirected": kernel.redirected, "returned": kernel.returned,
            "dropped": kernel.dropped_total(),
        },
        "bypass": kernel.bypass,
        "drop_reasons": reasons(&kernel.dropped),
        "notes": kernel.notes.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>(),
    })
}

fn queue_json(facts: &Facts, queue: &QueueFigures) -> Value {
    let known = facts.queues.iter().find(|known| known.queue == queue.queue);
    let worker = &queue.worker;
    let age = (queue.heartbeat_age != Duration::MAX).then_some(queue.heartbeat_age.as_secs_f64() * 1000.0);
    json!({
        "queue": queue.queue,
        "core": known.and_then(|known| known.core),
        "bind": known.map(|known| known.bind),
        "running": queue.running,
        "bypass": queue.dark,
        "heartbeat_age_ms": age,
        "packets": {
            "seen": worker.engine.seen, "returned": worker.engine.returned, "passed": worker.engine.passed,
            "dropped": worker.engine.dropped_total(),
        },
        "drop_reasons": reasons(&worker.engine.dropped),
        "flows": worker.engine.flows,
        "streams": worker.engine.streams,
        "engine_memory_left": worker.engine.memory_left,
        "groups": { "messages_shed": worker.group_messages_shed, "refused": worker.groups_refused },
        "frames": {
            "total": worker.frames.total, "pool": worker.frames.pool, "fill": worker.frames.fill,
            "receive": worker.frames.receive, "transmit": worker.frames.transmit,
        },
        "tx_full": worker.tx_full,
        "stalls": worker.stalls,
        "residence_ns": {
            "count": worker.residence.count, "p50": worker.residence.p50, "p99": worker.residence.p99,
            "p999": worker.residence.p999, "max": worker.residence.max,
        },
    })
}

fn reasons(dropped: &[u64; DropReason::COUNT]) -> serde_json::Map<String, Value> {
    let counted = DropReason::ALL
        .iter()
        .map(|reason| (reason.name(), dropped[reason.index()]));
    counted
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::health::Health;
    use crate::control::{figures, metrics, summary};

    #[test]
    fn what_groups_lost_and_memory_that_is_left_are_shown_by_queue() {
        let mut worker = summary::tests::worker();
        (worker.group_messages_shed, worker.groups_refused) = (3, 4);
        worker.engine.memory_left = 5000;
        worker.engine.shadow_dropped[DropReason::RtpPayloadType.index()] = 6;
        let figures = Figures {
            facts: Facts::default(),
            kernel: KernelFigures::zero(),
            queues: vec![QueueFigures {
                queue: 7,
                running: true,
                heartbeat_age: Duration::ZERO,
                dark: false,
                worker,
            }],
            events: [0; 3],
            health: Health::Ok,
            uptime: Duration::ZERO,
            expected: Vec::new(),
        };
        let text = metrics::render(figures::families(&figures));
        for line in [
            "tidegate_group_messages_shed_total{queue=\"7\"} 3\n",
            "tidegate_groups_refused_total{queue=\"7\"} 4\n",
            "tidegate_engine_memory_left_bytes{queue=\"7\"} 5000.0\n",
            "tidegate_worker_dropped_packets_total{queue=\"7\",reason=\"rtmp-application\"} 0\n",
            "tidegate_shadow_dropped_packets_total{queue=\"7\"} 6\n",
            "tidegate_shadow_dropped_packets_by_reason_total{queue=\"7\",reason=\"rtp-payload-type\"} 6\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let queue = &status(&figures)["queues"][0];
        assert_eq!(queue["groups"], json!({"messages_shed": 3, "refused": 4}));
        assert_eq!(queue["engine_memory_left"], 5000);
    }
}
