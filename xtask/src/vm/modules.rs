//! The kernel's modules that a guest loads, in an order in which each finds what it needs.
//!
//! A package brings no `modules.dep`; that is made where it is installed. Each module names its own needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::image::read_module;

/// What a guest uses: its cards, the lab's links, the load's generator and its encapsulation.
pub(super) const NEEDED: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "veth",
    "dummy",
    "tun",
    "geneve",
    "pktgen",
    "sch_ingress",
    "cls_matchall",
    "cls_flower",
    "act_gact",
    "act_mirred",
    "act_pedit",
    "act_tunnel_key",
];

/// The deepest chain of needs that is followed; the kernel's own are three or four deep.
const MOST_DEEP: usize = 16;

/// A module, unpacked.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// These modules and all that they need, each after what it needs itself. One that the kernel has built in is no file and is left out.
///
/// # Errors
/// When a module cannot be read.
pub(super) fn in_order(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    collect(folder, &mut files)?;
    let mut order = Vec::new();
    for name in wanted {
        add(name, &files, &mut order, 0)?;
    }
    Ok(order)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<Module>, depth: usize) -> Result<()> {
    anyhow::ensure!(
        depth < MOST_DEEP,
        "module {name} needs modules that need modules without an end"
    );
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(file) = files.get(name) else {
        return Ok(());
    };
    let bytes = read_module(file)?;
    for need in needs(&bytes) {
        add(&need, files, order, depth + 1)?;
    }
    order.push(Module {
        name: name.to_owned(),
        bytes,
    });
    Ok(())
}

/// What a module's information says it depends on.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module.get(at + KEY.len()..).unwrap_or_default();
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(plain).collect()
}

/// A module's name as the kernel says it: file names have dashes where it has underscores.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Every module below a folder, by name.
fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if let Some((name, _)) = name.split_once(".ko") {
            files.insert(plain(name), entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need_and_once() {
        let folder = std::env::temp_dir().join(format!("xtask-modules-{}", std::process::id()));
        let make = |file: &str, needs: &str| {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("ELF\0license=GPL\0depends={needs}\0name=x\0")).unwrap();
        };
        make("net/virtio_net.ko", "virtio,net-failover");
        make("net/net_failover.ko", "failover");
        make("net/core/failover.ko", "");
        make("virtio/virtio.ko", "virtio_ring");
        make("virtio/virtio_ring.ko", "");
        make("virtio/virtio_pci.ko", "virtio_ring,virtio");
        let order = in_order(&folder, &["virtio_pci", "virtio_net", "built_in"]).unwrap();
        let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "virtio_ring",
                "virtio",
                "virtio_pci",
                "failover",
                "net_failover",
                "virtio_net"
            ]
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn needs_are_read_from_the_modules_own_words() {
        assert_eq!(
            needs(b"x\0depends=udp_tunnel,ip6_udp_tunnel\0intree=Y\0"),
            ["udp_tunnel", "ip6_udp_tunnel"]
        );
        assert!(needs(b"x\0depends=\0").is_empty());
        assert!(needs(b"\0depends").is_empty());
    }
}
