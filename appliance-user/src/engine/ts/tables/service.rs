//! Conditional access and service information: what of it the reports and the roles need.

use super::progress::Step;
use super::{MAX_EMM_PIDS, MAX_VERSIONS, Network, Place, TableError, TableEvent, Tables, Version};
use crate::engine::media::mpegts::psi::{self, Cat, TableSyntaxError};
use crate::engine::media::mpegts::section::{LongHeader, Section};
use crate::engine::media::mpegts::si::{self, Eit, Nit, Sdt};

impl Tables {
    pub(super) fn cat(
        &mut self,
        place: Place,
        section: &Section<'_>,
        out: &mut impl FnMut(TableEvent),
    ) -> Result<(), TableSyntaxError> {
        let cat = Cat::read(section)?;
        let header = section.long_of(psi::CAT)?;
        let Some(crc) = section.crc.filter(|_| header.current) else {
            return Ok(());
        };
        self.version(place, header, out);
        if self.cat.knows(&header, crc) || !self.may_change(place, out) {
            return Ok(());
        }
        self.cat.take(&header, crc);
        self.emm_pids
            .retain(|(number, _)| *number != header.number && *number <= header.last_number);
        let room = MAX_EMM_PIDS.saturating_sub(self.emm_pids.len());
        self.emm_pids
            .extend(cat.descriptors.ca_pids().take(room).map(|pid| (header.number, pid)));
        if cat.descriptors.ca_pids().count() > room {
            out(place.malformed(TableError::Bound));
        }
        if !cat.descriptors.is_sound() {
            out(place.malformed(TableError::Descriptors));
        }
        self.stale = true;
        Ok(())
    }

    pub(super) fn nit(
        &mut self,
        place: Place,
        section: &Section<'_>,
        out: &mut impl FnMut(TableEvent),
    ) -> Result<(), TableSyntaxError> {
        let nit = Nit::read(section)?;
        let header = section.long_of(place.table_id)?;
        let Some(crc) = section.crc.filter(|_| header.current) else {
            return Ok(());
        };
        self.version(place, header, out);
        let [actual, _] = si::NIT;
        let known = self.network.as_ref().is_some_and(|network| network.crc == crc);
        if place.table_id == actual && header.number == 0 && !known {
            let name = nit.name().map(String::into_boxed_str);
            self.grown = true;
            self.network = Some(Network {
                id: nit.network_id,
                name,
                crc,
            });
        }
        Ok(())
    }

    pub(super) fn sdt(
        &mut self,
        place: Place,
        section: &Section<'_>,
        out: &mut impl FnMut(TableEvent),
    ) -> Result<(), TableSyntaxError> {
        let sdt = Sdt::read(section)?;
        let header = section.long_of(place.table_id)?;
        let Some(crc) = section.crc.filter(|_| header.current) else {
            return Ok(());
        };
        self.version(place, header, out);
        let [actual, _] = si::SDT;
        if place.table_id != actual || self.sdt.take(&header, crc) == Step::Known {
            return Ok(());
        }
        self.grown = true;
        for service in sdt.services() {
            if let Some(programme) = self.programme_mut(service.id) {
                let before = programme.memory();
                programme.name = service.name().map(String::into_boxed_str);
                programme.may_be_scrambled = service.scrambled;
                let after = programme.memory();
                self.described = self.described - before + after;
            }
        }
        Ok(())
    }

    /// Present and following events: the present one is remembered.
    pub(super) fn eit(&mut self, section: &Section<'_>) -> Result<(), TableSyntaxError> {
        let header = section.long_of(si::EIT_ACTUAL)?;
        let known = self
            .programme_mut(header.extension)
            .map(|programme| programme.present_crc);
        if known.is_some_and(|crc| crc == section.crc) {
            return Ok(());
        }
        let eit = Eit::read(section)?;
        if header.current
            && header.number == 0
            && let Some(programme) = self.programme_mut(eit.service_id)
        {
            programme.present = eit.events().next();
            programme.present_crc = section.crc;
        }
        Ok(())
    }

    /// Tells a table's version where it is another than before.
    pub(super) fn version(&mut self, place: Place, header: LongHeader, out: &mut impl FnMut(TableEvent)) {
        let LongHeader {
            extension,
            version,
            current,
            ..
        } = header;
        let Place { pid, table_id } = place;
        if !current {
            return;
        }
        let key = (table_id, extension);
        let known = self
            .versions
            .iter()
            .position(|known| (known.table_id, known.extension) == key);
        let Some(known) = known.and_then(|place| self.versions.get_mut(place)) else {
            if self.versions.len() < MAX_VERSIONS {
                self.grown = true;
                self.versions.push(Version {
                    table_id,
                    extension,
                    version,
                });
            }
            return;
        };
        if std::mem::replace(&mut known.version, version) != version {
            out(TableEvent::TableVersion {
                pid,
                table_id,
                extension,
                version,
            });
        }
    }
}
