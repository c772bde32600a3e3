//! The load lab's XDP programs: loaded, with their maps, and attached.

use aya::maps::{Array, Map, MapData};
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};

use crate::error::{Error, Result};
use crate::sys::Value;

/// The object; `None` if there was none when this crate was built.
#[cfg(lab_object)]
const OBJECT: Option<&'static [u8]> = Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lab.bpf.o")));

/// The object; `None` if there was none when this crate was built.
#[cfg(not(lab_object))]
const OBJECT: Option<&'static [u8]> = None;

/// A loaded object. What is attached stays so for as long as it lives.
#[derive(Debug)]
pub(crate) struct Programs(Ebpf);

impl Programs {
    pub(crate) fn load() -> Result<Programs> {
        let object = OBJECT.ok_or(Error::NoObject)?;
        Ok(Programs(EbpfLoader::new().load(object)?))
    }

    /// Takes a map out of the object.
    pub(crate) fn array<V>(&mut self, name: &'static str) -> Result<Array<MapData, Value<V>>>
    where
        Value<V>: Pod,
    {
        Ok(Array::try_from(self.map(name)?)?)
    }

    /// Takes a map of any kind out of the object.
    pub(crate) fn map(&mut self, name: &'static str) -> Result<Map> {
        self.0.take_map(name).ok_or(Error::Missing(name))
    }

    /// Shows a program to the verifier and returns a descriptor of it.
    pub(crate) fn verify(&mut self, name: &'static str) -> Result<ProgramFd> {
        let program = self.xdp(name)?;
        let verified = program
            .load()
            .and_then(|()| program.fd()?.try_clone().map_err(Into::into));
        verified.map_err(|source| Error::Program {
            what: format!("loading the XDP program {name}"),
            source,
        })
    }

    /// Attaches a program to an interface of the caller's network namespace, in native mode.
    pub(crate) fn attach(&mut self, name: &'static str, interface: &str) -> Result<()> {
        self.verify(name)?;
        let attached = self.xdp(name)?.attach(interface, XdpMode::Driver);
        attached.map(drop).map_err(|source| Error::Program {
            what: format!("attaching the XDP program {name} to {interface}"),
            source,
        })
    }

    fn xdp(&mut self, name: &'static str) -> Result<&mut Xdp> {
        let program = self.0.program_mut(name).ok_or(Error::Missing(name))?;
        program.try_into().map_err(|source| Error::Program {
            what: format!("the program {name}"),
            source,
        })
    }
}

/// The index of an interface of the caller's network namespace.
pub(crate) fn interface_index(interface: &str) -> Result<u32> {
    tidegate_lab::interface_index(interface)
        .map_err(|source| Error::io(format!("looking for interface {interface}"), source))
}

/// Writes every value of a table, from the first on.
pub(crate) fn fill<V: Copy>(map: &mut Array<MapData, Value<V>>, values: &[V]) -> Result<()>
where
    Value<V>: Pod,
{
    for (index, value) in values.iter().enumerate() {
        map.set(index as u32, Value(*value), 0)?;
    }
    Ok(())
}
