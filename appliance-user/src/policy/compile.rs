//! From validated rules to the compiled policy.

use super::action::DefaultAction;
use super::index::Index;
use super::rule::Rule;
use super::{Diagnostic, Policy, SecretFile};

impl Policy {
    /// Compiles rules that are already valid.
    pub(super) fn compile(default_action: DefaultAction, rules: Vec<Rule>) -> Policy {
        let index = Index::build(rules.iter());
        Policy::indexed(default_action, rules, index)
    }

    /// Compiles rules whose index is made.
    pub(super) fn indexed(default_action: DefaultAction, rules: Vec<Rule>, index: Index) -> Policy {
        Policy {
            default_action,
            rules,
            index,
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
