//! What the tables say, for reports.

use serde::Serialize;

use super::{Component, Programme, Tables};
use crate::engine::media::mpegts::stream_type;

/// What PAT, PMTs and service information say of a transport stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TablesReport {
    /// transport_stream_id of the PAT.
    pub transport_stream_id: Option<u16>,
    /// network_id of the NIT.
    pub network_id: Option<u16>,
    /// network_name of the NIT.
    pub network_name: Option<String>,
    /// UTC of the last TDT or TOT, in seconds since 1970-01-01.
    pub utc: Option<i64>,
    /// Sections that say something else than the one before and were not read, for more came within a second than are.
    pub unread_sections: u64,
    /// Programmes in the order of their numbers.
    pub programmes: Vec<ProgrammeReport>,
}

/// A programme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgrammeReport {
    /// program_number.
    pub number: u16,
    /// service_name of the SDT.
    pub name: Option<String>,
    /// PID of its PMT.
    pub pmt_pid: u16,
    /// version_number of its PMT; `None` while that was not seen.
    pub version: Option<u8>,
    /// PCR_PID.
    pub pcr_pid: Option<u16>,
    /// The SDT says that components may be scrambled.
    pub may_be_scrambled: bool,
    /// event_id of the present event of the EIT.
    pub present_event: Option<u16>,
    /// Components in the order of PIDs.
    pub components: Vec<ComponentReport>,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentReport {
    /// Its PID.
    pub pid: u16,
    /// stream_type.
    pub stream_type: u8,
    /// What it is: the stream_type's name, or what the descriptors say of private data.
    pub kind: &'static str,
    /// ISO 639-2 code of its language.
    pub language: Option<String>,
}

impl Tables {
    /// What the tables say now.
    pub(in crate::engine) fn report(&self) -> TablesReport {
        let network = self.network.as_ref();
        TablesReport {
            transport_stream_id: self.transport_stream_id,
            network_id: network.map(|network| network.id),
            network_name: network.and_then(|network| network.name.as_deref()).map(str::to_owned),
            utc: self.utc,
            unread_sections: self.budget.unread(),
            programmes: self.programmes.iter().map(programme).collect(),
        }
    }
}

fn programme(programme: &Programme) -> ProgrammeReport {
    ProgrammeReport {
        number: programme.number,
        name: programme.name.as_deref().map(str::to_owned),
        pmt_pid: programme.pmt_pid,
        version: programme.version,
        pcr_pid: programme.pcr_pid,
        may_be_scrambled: programme.may_be_scrambled,
        present_event: programme.present.map(|event| event.id),
        components: programme.components.iter().map(component).collect(),
    }
}

fn component(component: &Component) -> ComponentReport {
    let own = || stream_type::name(component.stream_type);
    ComponentReport {
        pid: component.pid,
        stream_type: component.stream_type,
        kind: component
            .format
            .filter(|_| component.stream_type == PRIVATE)
            .unwrap_or_else(own),
        language: component
            .language
            .map(|code| String::from_utf8_lossy(&code).into_owned()),
    }
}

/// stream_type of PES packets with private data.
const PRIVATE: u8 = 0x06;
