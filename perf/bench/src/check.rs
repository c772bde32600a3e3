//! Whether the appliance did its work while it was measured: a fast appliance that inspects nothing proves nothing.
//!
//! Its own figures are read when nothing moves any more, before it is stopped. Whatever does not add up, or was found in
//! streams that are sound, fails the measurement with a reason.

use anyhow::Result;
use serde_json::Value;
use tidegate_lab::Namespace;

use crate::http;

/// What has to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Streams the appliance follows, at least and at most; `None` where nothing is followed.
    pub streams: Option<(u64, u64)>,
    /// Packets came from sources that no rule lists.
    pub unlisted: bool,
    /// The rings overflowed, as they do flat out: what did not reach a worker is a loss of the network to the judge.
    pub overloaded: bool,
}

/// Asks the appliance and returns what is wrong; empty if all is well.
///
/// # Errors
/// When it does not answer.
pub fn check(appliance: &Namespace, expected: &Expected) -> Result<Vec<String>> {
    let status = http::get_json(appliance, "/api/v1/status")?;
    let streams = http::get_json(appliance, "/api/v1/streams")?;
    let mut faults = books(&status, expected);
    faults.extend(
        streams
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|stream| sound(stream, expected))
            .take(5),
    );
    Ok(faults)
}

/// The number at a path such as `packets.seen`; what is missing counts as nothing.
pub fn number(value: &Value, path: &str) -> u64 {
    let mut place = value;
    for key in path.split('.') {
        place = place.get(key).unwrap_or(&Value::Null);
    }
    place.as_u64().unwrap_or(0)
}

/// Every packet and every frame has one place.
fn books(status: &Value, expected: &Expected) -> Vec<String> {
    let mut faults = Vec::new();
    let mut say = |fault: String| faults.push(fault);
    let kernel = status.get("kernel").unwrap_or(&Value::Null);
    let bypassed = total(kernel.get("bypass"));
    let of = |name: &str| number(kernel, &format!("packets.{name}"));
    let failure_drops = number(kernel, "drop_reasons.worker-dead");
    // What bypass dropped is among the drops already.
    let decided =
        of("passed") + of("redirected") + of("returned") + of("dropped") + bypassed.saturating_sub(failure_drops);
    if of("seen") == 0 {
        say("the XDP program saw no packet".to_owned());
    }
    if of("seen") != decided {
        say(format!(
            "the XDP program saw {} packets and decided {decided}",
            of("seen")
        ));
    }
    if bypassed > 0 {
        say(format!(
            "{bypassed} packets took the failure action: the worker's heartbeat was stale"
        ));
    }
    let expected_drops = number(kernel, "drop_reasons.source-not-listed") + failure_drops;
    let dropped_else = of("dropped").saturating_sub(expected_drops);
    if dropped_else > 0 || (!expected.unlisted && of("dropped") > 0) {
        say(format!(
            "the XDP program dropped: {}",
            kernel.get("drop_reasons").unwrap_or(&Value::Null)
        ));
    }
    let queues = status.get("queues").and_then(Value::as_array);
    let mut streams = 0;
    for queue in queues.into_iter().flatten() {
        streams += number(queue, "streams");
        faults.extend(worker(queue));
    }
    if let Some((least, most)) = expected
        .streams
        .filter(|(least, most)| !(*least..=*most).contains(&streams))
    {
        let wanted = if least == most {
            most.to_string()
        } else {
            format!("{least} to {most}")
        };
        faults.push(format!("{streams} streams are followed, {wanted} were sent"));
    }
    faults
}

/// One worker's packets and frames.
fn worker(queue: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let of = |name: &str| number(queue, &format!("packets.{name}"));
    let decided = of("returned") + of("dropped") + of("passed");
    if of("seen") != decided {
        faults.push(format!("the worker saw {} packets and decided {decided}", of("seen")));
    }
    if of("dropped") > 0 {
        faults.push(format!(
            "the worker dropped: {}",
            queue.get("drop_reasons").unwrap_or(&Value::Null)
        ));
    }
    let frames = |name: &str| number(queue, &format!("frames.{name}"));
    let placed = frames("pool") + frames("fill") + frames("receive") + frames("transmit");
    if frames("total") != placed {
        faults.push(format!(
            "{} frames were made and {placed} have a place",
            frames("total")
        ));
    }
    faults
}

/// What is wrong with a stream that was sent without a fault.
fn sound(stream: &Value, expected: &Expected) -> Vec<String> {
    let mut faults = Vec::new();
    let name = || {
        stream
            .get("source")
            .map_or_else(|| "a stream".to_owned(), Value::to_string)
    };
    let of_source = number(stream, "ts.continuity_errors.source");
    let of_network = number(stream, "ts.continuity_errors.network") + number(stream, "transport.lost");
    if of_source > 0 {
        faults.push(format!(
            "{}: {of_source} continuity errors charged to its source",
            name()
        ));
    }
    if of_network > 0 && !expected.overloaded {
        faults.push(format!("{}: {of_network} losses where nothing was lost", name()));
    }
    if !expected.overloaded && total(stream.get("findings")) > 0 {
        faults.push(format!(
            "{}: findings {}",
            name(),
            stream.get("findings").unwrap_or(&Value::Null)
        ));
    }
    for kind in ["reordered", "duplicated", "resets"] {
        let count = number(stream, &format!("transport.{kind}"));
        if count > 0 {
            faults.push(format!("{}: {count} packets {kind}", name()));
        }
    }
    faults
}

/// The sum of an object's numbers.
fn total(value: Option<&Value>) -> u64 {
    let object = value.and_then(Value::as_object);
    object
        .into_iter()
        .flat_map(|map| map.values())
        .filter_map(Value::as_u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const QUIET: Expected = Expected {
        streams: Some((50, 50)),
        unlisted: false,
        overloaded: false,
    };

    fn status() -> Value {
        json!({
            "kernel": {
                "packets": {"seen": 110, "passed": 2, "redirected": 100, "returned": 0, "dropped": 8},
                "bypass": {"returned": 0, "dropped": 0, "passed": 0},
                "drop_reasons": {"source-not-listed": 8},
            },
            "queues": [{
                "packets": {"seen": 100, "returned": 100, "passed": 0, "dropped": 0},
                "drop_reasons": {}, "streams": 50,
                "frames": {"total": 64, "pool": 32, "fill": 32, "receive": 0, "transmit": 0},
            }],
        })
    }

    #[test]
    fn a_status_that_adds_up_has_no_fault_and_the_flood_must_be_expected() {
        let flood = Expected {
            unlisted: true,
            ..QUIET
        };
        assert_eq!(books(&status(), &flood), Vec::<String>::new());
        assert!(books(&status(), &QUIET)[0].contains("source-not-listed"));
    }

    #[test]
    fn each_way_not_to_add_up_is_told() {
        let flood = Expected {
            unlisted: true,
            ..QUIET
        };
        for (path, value, told) in [
            ("/kernel/packets/seen", 111, "saw 111 packets and decided 110"),
            ("/kernel/packets/seen", 0, "saw no packet"),
            ("/kernel/bypass/returned", 3, "failure action"),
            ("/kernel/packets/dropped", 9, "dropped: {"),
            ("/queues/0/packets/seen", 99, "the worker saw 99"),
            ("/queues/0/packets/dropped", 1, "the worker dropped"),
            ("/queues/0/frames/pool", 31, "64 frames were made and 63"),
            ("/queues/0/streams", 49, "49 streams are followed, 50 were sent"),
        ] {
            let mut status = status();
            *status.pointer_mut(path).unwrap() = json!(value);
            let faults = books(&status, &flood);
            assert!(faults.iter().any(|fault| fault.contains(told)), "{path}: {faults:?}");
        }
    }

    #[test]
    fn losses_are_forgiven_only_where_the_rings_overflowed() {
        let stream = json!({
            "source": "10.0.0.1:5004", "transport": {"lost": 4, "reordered": 0}, "findings": {"network-loss": 1},
            "ts": {"continuity_errors": {"source": 0, "network": 3}},
        });
        assert_eq!(sound(&stream, &QUIET).len(), 2);
        let flat_out = Expected {
            overloaded: true,
            ..QUIET
        };
        assert_eq!(sound(&stream, &flat_out), Vec::<String>::new());
        let faulty = json!({"ts": {"continuity_errors": {"source": 1}}, "transport": {"reordered": 2}});
        assert_eq!(sound(&faulty, &flat_out).len(), 2);
    }
}
