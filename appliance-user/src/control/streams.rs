//! The streams of every worker as one JSON object, for `/api/v1/streams`.
//!
//! The text grows report by report as the workers hand them over: thousands of them as objects in memory would take a hundred
//! megabytes.

use crate::engine::report::StreamReport;

/// An answer that is being put together.
#[derive(Debug, Default)]
pub(super) struct StreamList {
    /// Objects, with commas between them.
    streams: Vec<u8>,
    silent: Vec<u32>,
    truncated: bool,
}

/// How far a list was; see [`StreamList::silent`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

impl StreamList {
    /// Adds a stream's report with the queue that its worker serves.
    pub(super) fn add(&mut self, queue: u32, report: &StreamReport) {
        let mut value = serde_json::to_value(report).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("queue".to_owned(), queue.into());
        }
        if !self.streams.is_empty() {
            self.streams.push(b',');
        }
        // Neither a value nor a vector can fail.
        let _ = serde_json::to_writer(&mut self.streams, &value);
    }

    /// Where it is now.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.streams.len())
    }

    /// Takes back what was added since: the worker of this queue did not tell everything in time.
    pub(super) fn silent(&mut self, queue: u32, since: Mark) {
        self.streams.truncate(since.0);
        self.silent.push(queue);
    }

    /// A worker has more streams than it tells.
    pub(super) fn truncated(&mut self) {
        self.truncated = true;
    }

    /// The object; its keys stand in the order of the alphabet.
    pub(super) fn into_json(self) -> Vec<u8> {
        let silent = serde_json::Value::from(self.silent);
        let head = format!("{{\"schema\":1,\"silent_queues\":{silent},\"streams\":[");
        let tail = format!("],\"truncated\":{}}}", self.truncated);
        let mut json = self.streams;
        json.extend_from_slice(tail.as_bytes());
        json.splice(0..0, head.into_bytes());
        json
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::group::tests::{SSRC, at_ms, media, policy, receiver, sender, udp};
    use crate::engine::{Config, Engine, Published};

    fn reports() -> Vec<StreamReport> {
        let mut engine = Engine::new(Config::default());
        let policy = policy("rtp", "");
        let published = Published {
            policy: &policy,
            generation: 1,
        };
        for (flow, n) in (0..3).flat_map(|flow| (0..8).map(move |n| (flow, n))) {
            let packet = udp(sender(4000 + 2 * flow), receiver(5000), &media(n, SSRC));
            engine.process_bare(at_ms(u64::from(n)), &published, &packet);
        }
        engine.streams()
    }

    /// The same object made at once.
    fn at_once(reports: &[(u32, StreamReport)], silent: &[u32], truncated: bool) -> Value {
        let stream = |(queue, report): &(u32, StreamReport)| {
            let mut value = serde_json::to_value(report).expect("serialises");
            value["queue"] = json!(queue);
            value
        };
        let streams: Vec<Value> = reports.iter().map(stream).collect();
        json!({ "schema": 1, "streams": streams, "silent_queues": silent, "truncated": truncated })
    }

    #[test]
    fn what_is_put_together_is_what_is_made_at_once_to_the_byte() {
        let reports = reports();
        assert_eq!(reports.len(), 3);
        let mut list = StreamList::default();
        let mut told = Vec::new();
        for queue in [0, 4] {
            for report in &reports {
                list.add(queue, report);
                told.push((queue, report.clone()));
            }
        }
        list.truncated();
        assert_eq!(list.into_json(), at_once(&told, &[], true).to_string().into_bytes());
    }

    #[test]
    fn a_queue_that_falls_silent_in_the_middle_tells_nothing() {
        let reports = reports();
        let mut list = StreamList::default();
        let mark = list.mark();
        reports.iter().for_each(|report| list.add(3, report));
        list.silent(3, mark);
        list.add(5, &reports[0]);
        let mark = list.mark();
        list.add(6, &reports[1]);
        list.silent(6, mark);
        let expected = at_once(&[(5, reports[0].clone())], &[3, 6], false);
        assert_eq!(list.into_json(), expected.to_string().into_bytes());
    }

    #[test]
    fn nothing_at_all_is_an_empty_list() {
        let nothing = StreamList::default().into_json();
        assert_eq!(nothing, at_once(&[], &[], false).to_string().into_bytes());
    }
}
