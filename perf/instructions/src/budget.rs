//! The budget: what each part may take, and what it must never.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::count::Count;

/// How far a count may lie above its budget, and below it without a word, in per cent.
const TOLERANCE: u64 = 5;
const HEADING: &str = "# Instructions of one operation of each part, on x86-64; see src/main.rs. Written by `cargo xtask instructions\n\
                       # --update`, which keeps every `ceiling`.\n\n";

/// What one part may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    budget: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ceiling: Option<u64>,
}

/// What every part may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Budget(BTreeMap<String, Allowed>);

/// How a count lies to its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within.
    Within,
    /// So many per cent above, more than is allowed.
    Above(u64),
    /// So many per cent below: the budget should be lowered.
    Below(u64),
    /// Above what must never be.
    BeyondCeiling(u64),
    /// The budget does not know it.
    Unknown,
}

impl Verdict {
    /// Whether the check fails for it.
    pub(crate) fn fails(self) -> bool {
        matches!(self, Verdict::Above(_) | Verdict::BeyondCeiling(_) | Verdict::Unknown)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Within => Ok(()),
            Verdict::Above(by) => write!(f, "FAILED: {by} % above its budget"),
            Verdict::Below(by) => write!(f, "{by} % below: lower the budget with --update"),
            Verdict::BeyondCeiling(ceiling) => write!(f, "FAILED: beyond its ceiling of {ceiling}"),
            Verdict::Unknown => write!(f, "FAILED: not in the budget; add it with --update"),
        }
    }
}

impl Budget {
    /// Reads it; a file that is not there is an empty budget.
    ///
    /// # Errors
    /// When the file is not a budget.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{} is not a budget", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Budget::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = format!("{HEADING}{}", toml::to_string(self)?);
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Makes these counts the budget of all there is; ceilings stay.
    pub(crate) fn update(&mut self, counts: &[Count]) {
        let budgets = counts.iter().map(|count| {
            let ceiling = self.0.get(count.name).and_then(|allowed| allowed.ceiling);
            let budget = count.instructions;
            (count.name.to_owned(), Allowed { budget, ceiling })
        });
        self.0 = budgets.collect();
    }

    /// The budget of a part.
    pub(crate) fn of(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|allowed| allowed.budget)
    }

    /// Every part that has a budget.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How a part's count lies to its budget.
    pub(crate) fn judge(&self, name: &str, count: u64) -> Verdict {
        let Some(allowed) = self.0.get(name) else {
            return Verdict::Unknown;
        };
        if let Some(ceiling) = allowed.ceiling.filter(|ceiling| count > *ceiling) {
            return Verdict::BeyondCeiling(ceiling);
        }
        let budget = allowed.budget.max(1);
        let apart = count.abs_diff(budget);
        // In hundredths of the budget; what is told is rounded up, so that it never reads as within.
        if apart * 100 <= budget * TOLERANCE {
            return Verdict::Within;
        }
        let by = (apart * 100).div_ceil(budget);
        if count > budget {
            Verdict::Above(by)
        } else {
            Verdict::Below(by)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(text: &str) -> Budget {
        toml::from_str(text).expect("a budget")
    }

    #[test]
    fn five_per_cent_are_within_and_more_is_told_with_how_much() {
        let budget = budget("[walk]\nbudget = 1000\n");
        assert_eq!(budget.judge("walk", 1050), Verdict::Within);
        assert_eq!(budget.judge("walk", 950), Verdict::Within);
        assert_eq!(budget.judge("walk", 1051), Verdict::Above(6));
        assert_eq!(budget.judge("walk", 1100), Verdict::Above(10));
        assert_eq!(budget.judge("walk", 949), Verdict::Below(6));
        assert!(Verdict::Above(6).fails() && !Verdict::Below(6).fails() && !Verdict::Within.fails());
        assert!(budget.judge("run", 1).fails());
    }

    #[test]
    fn a_ceiling_holds_whatever_the_budget_says_and_outlives_updates() {
        let mut budget = budget("[\"rtp/1\"]\nbudget = 1200\nceiling = 1000\n[gone]\nbudget = 1\n");
        assert_eq!(budget.judge("rtp/1", 1001), Verdict::BeyondCeiling(1000));
        assert_eq!(budget.judge("rtp/1", 1000), Verdict::Below(17));
        budget.update(&[Count {
            name: "rtp/1",
            instructions: 990,
        }]);
        assert_eq!((budget.of("rtp/1"), budget.of("gone")), (Some(990), None));
        assert_eq!(budget.judge("rtp/1", 1001), Verdict::BeyondCeiling(1000));
        let written = toml::to_string(&budget).expect("it is TOML");
        assert_eq!(toml::from_str::<Budget>(&written).expect("a budget"), budget);
    }

    #[test]
    fn what_the_budget_does_not_know_is_refused() {
        assert!(toml::from_str::<Budget>("[walk]\nbudget = 1\nlimit = 2\n").is_err());
    }
}
