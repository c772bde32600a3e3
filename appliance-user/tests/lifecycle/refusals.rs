//! What is refused at the start, with exit code 2, a reason that names the remedy, and nothing left behind. Flags, ports,
//! privileges, policies and a second process are tested beside the control plane.

use std::time::Duration;

use tidegate::io::{Socket, SocketConfig};
use tidegate_lab::{MacAddr, Namespace, VethEnd, veth};

use crate::bench::{Site, require_means};
use crate::feed::POLICY;

#[test]
fn a_queue_that_another_program_holds_is_refused() {
    require_means();
    let (near, far) = (
        Namespace::new("near").expect("made"),
        Namespace::new("far").expect("made"),
    );
    let end = |namespace, name, number| VethEnd {
        namespace,
        name,
        mac: MacAddr::local(number),
    };
    veth(end(&near, "tgr0", 1), end(&far, "tgr1", 2), 2, 1600).expect("a link");
    let config = SocketConfig {
        frames: 256,
        ring_size: 128,
        ..SocketConfig::new("tgr0", 1)
    };
    let (socket, _) = near
        .run_in(|| Socket::open(&config, Duration::ZERO))
        .expect("entered")
        .expect("opened");
    let site = Site::new(&near, "tgr0", POLICY);
    let said = site.refused(&[]);
    assert!(said.contains("queue 1") && said.contains("--queues"), "{said}");
    site.nothing_is_left();
    // The other queue is free, and serving it disturbs nobody.
    let mut process = site.run(&["--queues", "1"]);
    assert!(process.stop(Duration::from_secs(5)).expect("ended").success());
    site.nothing_is_left();
    drop(socket);
}
