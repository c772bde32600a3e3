//! The proof: every claim of the demo against what was sent, what arrived and what was counted.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::scene::{Finale, port};
use crate::tap;

/// One claim.
struct Check {
    claim: &'static str,
    holds: bool,
    figures: String,
}

/// All claims, judged.
pub(crate) struct Outcome {
    checks: Vec<Check>,
}

impl Outcome {
    /// Whether every claim holds.
    pub(crate) fn all_hold(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// For people.
    pub(crate) fn print(&self) {
        println!();
        for check in &self.checks {
            println!(
                "  {}  {:<62} {}",
                if check.holds { "ok  " } else { "FAIL" },
                check.claim,
                check.figures
            );
        }
    }

    /// For machines.
    pub(crate) fn to_json(&self, seconds: u64, finale: &Finale) -> Value {
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| json!({"claim": check.claim, "holds": check.holds, "figures": check.figures}))
            .collect();
        json!({
            "schema": 1,
            "seconds": seconds,
            "all_hold": self.all_hold(),
            "checks": checks,
            "streams": finale.streams,
            "kernel": finale.status["kernel"],
            "queues": finale.status["queues"],
            "latency_us": finale.gwlb.rtt_us,
            "gwlb": {"total": finale.gwlb.total, "faults": finale.gwlb.faults, "unhandled": finale.gwlb.unhandled},
        })
    }
}

/// Judges all claims.
///
/// # Errors
/// When a capture or a stream's file cannot be read; a claim that does not hold is no error.
pub(crate) fn judge(finale: &Finale) -> anyhow::Result<Outcome> {
    let mut checks = vec![
        kernel_accounts(finale),
        workers_account(finale),
        frames_are_home(finale),
    ];
    checks.push(rtp_is_identical(finale)?);
    checks.push(srt_is_identical(finale)?);
    checks.push(unlisted_is_dropped(finale));
    checks.push(faults_are_found(finale));
    checks.push(sound_streams_are_sound(finale));
    checks.push(headers_came_back(finale));
    checks.push(round_trip_was_measured(finale));
    checks.push(residence_was_measured(finale));
    checks.push(Check {
        claim: "the appliance stopped cleanly",
        holds: finale.exit == Some(0),
        figures: finale
            .exit
            .map_or("by a signal".to_owned(), |code| format!("exit {code}")),
    });
    Ok(Outcome { checks })
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn queues(finale: &Finale) -> impl Iterator<Item = &Value> {
    finale.status["queues"].as_array().into_iter().flatten()
}

fn sum(finale: &Finale, group: &str, key: &str) -> u64 {
    queues(finale).map(|queue| number(&queue[group][key])).sum()
}

fn kernel_accounts(finale: &Finale) -> Check {
    let packets = &finale.status["kernel"]["packets"];
    let [seen, redirected] = ["seen", "redirected"].map(|key| number(&packets[key]));
    // What took the failure action, because the machine held the worker up for longer than its heartbeat, counts apart.
    let bypass = &finale.status["kernel"]["bypass"];
    let [passed, returned, dropped] =
        ["passed", "returned", "dropped"].map(|key| number(&packets[key]) + number(&bypass[key]));
    Check {
        claim: "XDP: seen = to workers + returned + dropped + passed",
        holds: seen > 0 && seen == redirected + returned + dropped + passed,
        figures: format!("{seen} = {redirected} + {returned} + {dropped} + {passed}"),
    }
}

fn workers_account(finale: &Finale) -> Check {
    let [seen, returned, dropped, passed] =
        ["seen", "returned", "dropped", "passed"].map(|key| sum(finale, "packets", key));
    let redirected = number(&finale.status["kernel"]["packets"]["redirected"]);
    Check {
        claim: "workers: from XDP = seen = returned + dropped + passed",
        holds: seen > 0 && seen == redirected && seen == returned + dropped + passed,
        figures: format!("{redirected} = {seen} = {returned} + {dropped} + {passed}"),
    }
}

fn frames_are_home(finale: &Finale) -> Check {
    let [total, pool, fill, receive, transmit] =
        ["total", "pool", "fill", "receive", "transmit"].map(|key| sum(finale, "frames", key));
    Check {
        claim: "frames: in pool and fill ring = frames at start",
        holds: total > 0 && total == pool + fill && receive == 0 && transmit == 0,
        figures: format!("{pool} + {fill} = {total}, {receive} and {transmit} under way"),
    }
}

fn rtp_is_identical(finale: &Finale) -> anyhow::Result<Check> {
    let sent_datagrams = tap::udp_payloads(&finale.out.join("sent.pcapng"), port::RTP)?;
    let (sent, received) = (tap::rtp_payloads(&sent_datagrams), tap::rtp_payloads(&finale.rtp));
    tap::write_stream(&finale.out.join("rtp-sent.ts"), sent.values().copied())?;
    tap::write_stream(&finale.out.join("rtp-received.ts"), received.values().copied())?;
    let bytes = |payloads: &std::collections::BTreeMap<u64, &[u8]>| payloads.values().map(|p| p.len()).sum::<usize>();
    let same = sent.values().eq(received.values());
    Ok(Check {
        claim: "RTP: the receiver's TS is byte-identical to what was sent",
        holds: same && !sent.is_empty(),
        figures: format!("{} sent, {} received bytes", bytes(&sent), bytes(&received)),
    })
}

fn srt_is_identical(finale: &Finale) -> anyhow::Result<Check> {
    let read = |name: &str| std::fs::read(finale.out.join(name)).with_context(|| format!("cannot read {name}"));
    let (sent, received) = (read("srt-sent.ts")?, read("srt-received.ts")?);
    Ok(Check {
        claim: "SRT, encrypted: the receiver's TS is byte-identical",
        holds: sent == received && !sent.is_empty(),
        figures: format!("{} sent, {} received bytes", sent.len(), received.len()),
    })
}

fn unlisted_is_dropped(finale: &Finale) -> Check {
    let [_, unlisted, _] = finale.fed;
    let dropped = number(&finale.status["kernel"]["drop_reasons"]["source-not-listed"]);
    Check {
        claim: "unlisted source: dropped in the kernel, none delivered",
        holds: finale.unlisted_arrived == 0 && unlisted.datagrams > 0 && dropped == unlisted.datagrams,
        figures: format!(
            "{} sent, {dropped} dropped, {} delivered",
            unlisted.datagrams, finale.unlisted_arrived
        ),
    }
}

fn stream_to(finale: &Finale, port: u16) -> Option<&Value> {
    let suffix = format!(":{port}");
    finale
        .streams
        .iter()
        .find(|stream| stream["destination"].as_str().is_some_and(|to| to.ends_with(&suffix)))
}

fn faults_are_found(finale: &Finale) -> Check {
    let [faulty, _, _] = finale.fed;
    let errors = stream_to(finale, port::FAULTY).map(|stream| &stream["ts"]["continuity_errors"]);
    let count = |key: &str| errors.map_or(0, |errors| number(&errors[key]));
    let (source, others) = (count("source"), count("network") + count("unknown"));
    Check {
        claim: "faulty stream: errors found = faults put in, all the source's",
        holds: faulty.faults > 0 && source == faulty.faults && others == 0,
        figures: format!("{} put in, {source} found, {others} charged to others", faulty.faults),
    }
}

fn sound_streams_are_sound(finale: &Finale) -> Check {
    let states: Vec<String> = [port::RTP, port::SRT]
        .map(|port| stream_to(finale, port).map_or("missing".to_owned(), sound))
        .into();
    let decrypted = stream_to(finale, port::SRT).is_some_and(|stream| stream["decrypted"] == true);
    let seen = if decrypted { "seen decrypted" } else { "not seen" };
    Check {
        claim: "sound streams: healthy, nothing lost, no continuity error",
        holds: decrypted && states.iter().all(|state| state == "sound"),
        figures: format!("RTP {}, SRT {} ({seen})", states[0], states[1]),
    }
}

fn sound(stream: &Value) -> String {
    let errors = &stream["ts"]["continuity_errors"];
    let wrong = ["source", "network", "unknown"]
        .iter()
        .map(|key| number(&errors[*key]))
        .sum::<u64>();
    let lost = number(&stream["transport"]["lost"]);
    match (stream["worst_state"].as_str(), lost, wrong) {
        (Some("healthy"), 0, 0) => "sound".to_owned(),
        (state, lost, wrong) => format!("{} with {lost} lost, {wrong} errors", state.unwrap_or("stateless")),
    }
}

fn headers_came_back(finale: &Finale) -> Check {
    let total = &finale.gwlb.total;
    let [_, unlisted, _] = finale.fed;
    Check {
        claim: "GWLB: all came back unaltered, but for the unlisted",
        holds: total.returned_ok > 0
            && total.altered == 0
            && total.late == 0
            && total.missing == unlisted.datagrams
            && total.sent == total.returned_ok + total.missing,
        figures: format!(
            "{} sent, {} back, {} altered, {} missing",
            total.sent, total.returned_ok, total.altered, total.missing
        ),
    }
}

fn round_trip_was_measured(finale: &Finale) -> Check {
    let trip = &finale.gwlb.rtt_us;
    Check {
        claim: "round trip at the GWLB, us: p50 p90 p99 p99.9 max",
        holds: trip.count > 0,
        figures: format!(
            "{:.0} {:.0} {:.0} {:.0} {:.0}",
            trip.p50, trip.p90, trip.p99, trip.p999, trip.max
        ),
    }
}

fn residence_was_measured(finale: &Finale) -> Check {
    let times: Vec<&Value> = queues(finale).map(|queue| &queue["residence_ns"]).collect();
    let longest = |key: &str| times.iter().map(|time| number(&time[key])).max().unwrap_or(0) as f64 / 1000.0;
    let [p50, p99, p999, max] = ["p50", "p99", "p999", "max"].map(longest);
    Check {
        claim: "of it in the worker, us: p50 p99 p99.9 max",
        holds: times.iter().map(|time| number(&time["count"])).sum::<u64>() > 0,
        figures: format!("{p50:.0} {p99:.0} {p999:.0} {max:.0}"),
    }
}
