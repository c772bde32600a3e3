//! The kernel's verifier takes each of the programs, without being worn out.

use std::time::{Duration, Instant};

use aya::EbpfLoader;
use aya::programs::Xdp;
use tidegate_frames::maps::name;

/// Instructions looked at, of the million that there may be; kernels differ by a few thousand.
const BUDGET: u32 = 200_000;

#[test]
fn programs_are_verified_within_their_budget() {
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/ebpf/lab.bpf.o");
    let mut object = EbpfLoader::new().load_file(object).expect("cargo xtask build-ebpf has built it");
    for name in [name::DROP, name::REFLECT, name::SPOIL, name::GENERATE, name::COLLECT] {
        let program: &mut Xdp = object
            .program_mut(name)
            .expect("the object has the program")
            .try_into()
            .expect("an XDP program");
        let start = Instant::now();
        if let Err(error) = program.load() {
            panic!("{name}: {error}");
        }
        let info = program.info().expect("the kernel tells about it");
        let count = info.verified_instruction_count().expect("since Linux 5.16");
        println!("{name}: {count} instructions verified in {:?}", start.elapsed());
        assert!(count < BUDGET && start.elapsed() < Duration::from_secs(20), "{name}: {count}");
    }
}
