//! A network namespace that goes away with its owner.
//!
//! Commands enter it with `nsenter --net`, not with `ip netns exec`: the latter unshares the mount namespace too, and pins
//! made in a bpffs there would vanish with the process that made them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{panic, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{require_root, run};
use crate::error::{Error, Result};
use crate::registry;
use crate::veth::MacAddr;

/// Where iproute2 keeps named namespaces.
pub(crate) const DIRECTORY: &str = "/run/netns";
/// What every lab's namespaces start with; [`crate::sweep`] looks for it.
pub(crate) const PREFIX: &str = "tg-";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A named network namespace with its loopback up; removed, with all links in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace named `tg-<pid>-<n>-<role>`, unique among all live processes.
    ///
    /// # Errors
    /// [`Error::NotRoot`]; [`Error::TornDown`]; a failing `ip`.
    pub fn new(role: &str) -> Result<Namespace> {
        require_root()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", process::id());
        registry::add_namespace(&name)?;
        // From here on Drop removes it, whatever fails.
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// A command that will run inside; its process id is the program's own, since `nsenter` replaces itself.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs `ip` inside with these arguments and returns its output.
    ///
    /// # Errors
    /// [`Error::Spawn`] or [`Error::Command`].
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        run(self.command("ip").args(arguments))
    }

    /// Runs a closure on a fresh thread that lives inside the namespace, and waits for it. Sockets and threads that it
    /// makes belong to the namespace and stay there. A panic inside goes on outside.
    ///
    /// # Errors
    /// [`Error::Io`] if the namespace cannot be entered.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                enter(&path)?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// Adds an address with its prefix length (`10.0.0.1/24`); IPv6 without duplicate address detection, which would
    /// keep the address unusable for a second.
    ///
    /// # Errors
    /// A failing `ip`.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        let mut arguments = vec!["address", "add", address, "dev", interface];
        if address.contains(':') {
            arguments.push("nodad");
        }
        self.ip(&arguments).map(drop)
    }

    /// Adds a route to `destination` (a prefix, or `default`) through a gateway; the family follows the gateway's.
    ///
    /// # Errors
    /// A failing `ip`.
    pub fn add_route(&self, destination: &str, gateway: &str, interface: &str) -> Result<()> {
        let family = if gateway.contains(':') { "-6" } else { "-4" };
        self.ip(&[family, "route", "add", destination, "via", gateway, "dev", interface])
            .map(drop)
    }

    /// Adds a neighbour that never expires, so that no packet waits for ARP or neighbour discovery.
    ///
    /// # Errors
    /// A failing `ip`.
    pub fn add_neighbour(&self, interface: &str, address: &str, mac: MacAddr) -> Result<()> {
        let mac = mac.to_string();
        self.ip(&[
            "neigh",
            "replace",
            address,
            "lladdr",
            &mac,
            "dev",
            interface,
            "nud",
            "permanent",
        ])
        .map(drop)
    }

    /// Writes a value under `/proc/sys/net`, seen from inside (`ipv4/ip_forward`).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        // The directory shows the network namespace of whoever looks.
        let path = Path::new("/proc/sys/net").join(key);
        self.run_in(|| fs::write(&path, value))?
            .map_err(|source| Error::io(format!("sysctl {key}={value}"), source))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        registry::remove_namespace(&self.name);
    }
}

/// Moves the calling thread into the namespace behind `path`, for good.
fn enter(path: &Path) -> Result<()> {
    let what = || format!("entering namespace {}", path.display());
    let file = File::open(path).map_err(|source| Error::io(what(), source))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
        .map_err(|source| Error::io(what(), source))
}
