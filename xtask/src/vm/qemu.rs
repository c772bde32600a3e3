//! The virtual machine: how qemu is started.

use std::path::Path;
use std::process::Command;

/// Memory of a guest, MiB: the file system with its test binaries lies in it, and the lab's rings.
const MEMORY_MIB: u32 = 2048;
/// Processors, one for each lane of the plan; a load has the appliance's worker beside the generator's thread.
const PROCESSORS: u32 = 2;

/// The processor that is emulated: the least that Debian's binaries and both kernels are content with. Later ones promise what
/// emulation is slow at, such as copies byte by byte in one instruction and a fifth level of page tables.
const EMULATED: &str = "Nehalem";

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accel {
    /// Emulation: works everywhere, slow.
    Tcg,
    /// The host's hardware.
    Kvm,
}

/// The card of the generator's side and that of the appliance, by their last octet; `guest/load.sh` knows them too.
const CARDS: [(&str, &str); 2] = [("generator", "52:54:00:00:00:01"), ("appliance", "52:54:00:00:00:02")];

/// One guest that boots `kernel` with `initrd`, tells everything on its console, which is this command's standard output, and
/// ends when the guest powers off, restarts or panics.
pub(super) fn command(kernel: &Path, initrd: &Path, accel: Accel) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args([
        "-serial",
        "stdio",
        "-m",
        &MEMORY_MIB.to_string(),
        "-smp",
        &PROCESSORS.to_string(),
    ]);
    match accel {
        Accel::Tcg => command.args(["-accel", "tcg,thread=multi", "-cpu", EMULATED]),
        Accel::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
    };
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    // A panic restarts at once, which -no-reboot turns into the end. What mitigations cost is not what is tested.
    command.args([
        "-append",
        "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check mitigations=off nokaslr rdinit=/init",
    ]);
    // A hub has one queue and no offloads, so a card on it takes XDP programs in its driver.
    for (name, mac) in CARDS {
        command.args(["-netdev", &format!("hubport,id={name},hubid=1")]);
        command.args([
            "-device",
            &format!("virtio-net-pci,netdev={name},mac={mac},rx_queue_size=1024,romfile="),
        ]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::line;

    #[test]
    fn emulation_is_asked_for_by_name_and_kvm_only_when_asked() {
        let paths = (Path::new("vmlinuz"), Path::new("initrd"));
        let tcg = line(&command(paths.0, paths.1, Accel::Tcg));
        assert!(tcg.contains("-accel tcg") && !tcg.contains("kvm"), "{tcg}");
        assert!(
            tcg.contains("-no-reboot") && tcg.contains("panic=-1"),
            "a panic must end it: {tcg}"
        );
        assert!(line(&command(paths.0, paths.1, Accel::Kvm)).contains("-accel kvm"));
    }
}
