//! provisional
use super::events::BypassPackets;
use super::figures::KernelFigures;
use super::options::Options;
use super::program::ProgramError;
use crate::policy::{DefaultAction, FailureAction, KernelPrefix, Policy};
use aya::Ebpf;
use tidegate_common::maps;
pub const PINNED: &[&str] = &[maps::name::CONFIG];
pub struct Tables;
impl Tables {
    pub fn take(_e: &mut Ebpf) -> Result<Self, ProgramError> {
        Ok(Tables)
    }
    pub fn configure(&mut self, _c: &Settings) -> Result<(), ProgramError> {
        Ok(())
    }
    pub fn publish(&mut self, _p: &[KernelPrefix], _on: FailureAction) -> Result<u64, ProgramError> {
        Ok(1)
    }
    pub fn figures(&self) -> Result<KernelFigures, ProgramError> {
        Ok(KernelFigures::zero())
    }
    pub fn bypass(&self) -> Result<BypassPackets, ProgramError> {
        Ok(BypassPackets::default())
    }
}
pub struct Settings {
    pub geneve_port: u16,
}

impl Settings {
    pub fn new(o: &Options, _p: &Policy) -> Self {
        Settings {
            geneve_port: o.geneve_port,
        }
    }
}
pub fn failure_name(a: FailureAction) -> &'static str {
    match a {
        FailureAction::Return => "return",
        FailureAction::Drop => "drop",
        FailureAction::Pass => "pass",
    }
}
pub fn default_name(a: DefaultAction) -> &'static str {
    match a {
        DefaultAction::Return => "return",
        DefaultAction::Drop => "drop",
    }
}
