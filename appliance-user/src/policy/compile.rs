//! From validated rules to the compiled policy.

use super::action::DefaultAction;
use super::rule::Rule;
use super::trie::PrefixTrie;
use super::{Diagnostic, Policy, SecretFile};

impl Policy {
    /// Compiles rules that are already valid.
    pub(super) fn compile(default_action: DefaultAction, rules: Vec<Rule>) -> Policy {
        let mut by_source = PrefixTrie::<Vec<u32>>::new();
        for (id, rule) in (0u32..).zip(&rules) {
            for source in &rule.sources {
                let listed = by_source.at(*source);
                // A rule may name a prefix twice.
                if listed.last() != Some(&id) {
                    listed.push(id);
                }
            }
        }
        Policy {
            default_action,
            rules,
            by_source,
            observes_all: false,
            warnings: Vec::new(),
            files: Vec::new(),
            has_secrets: false,
        }
    }

    pub(super) fn with_warnings(self, warnings: Vec<Diagnostic>) -> Policy {
        Policy { warnings, ..self }
    }

    pub(super) fn with_files(self, files: Vec<SecretFile>) -> Policy {
        Policy { files, ..self }
    }
}
