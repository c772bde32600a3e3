//! The XDP program as an ELF object, carried inside this binary.
//!
//! The build script looks for it: `EBPF_OBJECT`, else what `cargo xtask build-ebpf` leaves under `target/`.

/// The object; `None` if there was none when this crate was built, see [`MISSING`].
#[cfg(tidegate_object)]
pub const OBJECT: Option<&'static [u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate.bpf.o")));

/// The object; `None` if there was none when this crate was built, see [`MISSING`].
#[cfg(not(tidegate_object))]
pub const OBJECT: Option<&'static [u8]> = None;

/// What to tell whoever needs the program and does not have it.
pub const MISSING: &str = "built without the XDP program: run cargo xtask build-ebpf and build again";
