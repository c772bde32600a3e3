//! Metrics in the text format of OpenMetrics: everything that is counted anywhere, at the moment of the scrape.
//!
//! The figures live where they are counted, in workers and BPF maps; a scrape copies them into [`Family`] values, which
//! are plain data, and these are encoded. Nothing here keeps a number of its own.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What every name begins with.
const PREFIX: &str = "tidegate";

/// Whether a figure only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows until the maps or the worker are made anew; `_total` is put behind its name.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A label: its name and its value.
pub type Label = (&'static str, String);

/// One metric with all its labelled values.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name without prefix and suffix.
    pub name: &'static str,
    /// What it counts, with its unit, without a full stop at the end.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// The values.
    pub samples: Vec<(Vec<Label>, f64)>,
}

impl Family {
    /// A metric that only grows.
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Family {
            name,
            help,
            kind: Kind::Counter,
            samples: Vec::new(),
        }
    }

    /// A metric that goes up and down.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Family {
            name,
            help,
            kind: Kind::Gauge,
            samples: Vec::new(),
        }
    }

    /// Adds a value. Counts beyond 2^53 lose their last digits, as in every Prometheus.
    pub fn add(&mut self, labels: Vec<Label>, value: u64) {
        self.samples.push((labels, value as f64));
    }

    /// The same with a value added.
    pub fn with(mut self, labels: Vec<Label>, value: f64) -> Self {
        self.samples.push((labels, value));
        self
    }
}

/// Writes the families, in order, ending in `# EOF`.
pub fn render(families: Vec<Family>) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(families)));
    let mut out = String::new();
    match text::encode(&mut out, &registry) {
        Ok(()) => out,
        // Writing to a string does not fail, so this is a label the encoder refuses.
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            "# EOF\n".to_owned()
        }
    }
}

#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in &family.samples {
                if labels.is_empty() {
                    encode_value(family.kind, *value, &mut metric)?;
                } else {
                    encode_value(family.kind, *value, &mut metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_value(kind: Kind, value: f64, metric: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
    match kind {
        Kind::Counter => metric.encode_counter::<NoLabelSet, u64, f64>(&(value as u64), None),
        Kind::Gauge => metric.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_get_their_suffix_and_labels_are_escaped() {
        let mut dropped = Family::counter("worker_dropped_packets", "Packets dropped by workers");
        dropped.add(vec![("queue", "0".to_owned()), ("reason", "no-rule".to_owned())], 3);
        dropped.add(vec![("queue", "1".to_owned()), ("reason", "a\"b".to_owned())], 4);
        let flows = Family::gauge("flows", "Flows followed").with(Vec::new(), 2.0);
        let text = render(vec![dropped, flows, Family::gauge("absent", "Without values")]);
        assert!(
            text.contains("# TYPE tidegate_worker_dropped_packets counter\n"),
            "{text}"
        );
        assert!(
            text.contains("tidegate_worker_dropped_packets_total{queue=\"0\",reason=\"no-rule\"} 3\n"),
            "{text}"
        );
        assert!(text.contains("reason=\"a\\\"b\"} 4\n"), "{text}");
        assert!(text.contains("tidegate_flows 2.0\n"), "{text}");
        assert!(!text.contains("absent"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
