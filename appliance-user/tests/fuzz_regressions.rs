//! The fuzz targets under plain `cargo test`: every seed, seeds cut short and with single bits flipped, and every input that
//! ever found something, which is committed under `fuzz/regressions/TARGET/`.
#![cfg(feature = "readers")]

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library of its own where libFuzzer drives it")]
mod targets;

use std::fs;
use std::path::PathBuf;

use targets::TARGETS;

fn fuzz_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Names in a folder, sorted; none where there is no folder.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(fuzz_folder().join(folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_ever_found_stays_found() {
    for target in TARGETS {
        for name in names(&format!("regressions/{}", target.name)) {
            // Shown when it fails: the input to look at.
            println!("{} {name}", target.name);
            let path = fuzz_folder().join("regressions").join(target.name).join(&name);
            (target.run)(&fs::read(path).expect("a committed file"));
        }
    }
}

#[test]
fn seeds_and_what_is_close_to_them_keep_every_promise() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        (target.run)(&[]);
        for (number, seed) in seeds.iter().enumerate() {
            println!("{} seed {number}", target.name);
            (target.run)(seed);
            // Some forty of each, spread over the seed.
            for place in (0..seed.len()).step_by(1 + seed.len() / 40) {
                (target.run)(&seed[..place]);
                let mut spoilt = seed.clone();
                spoilt[place] ^= 1 << (place % 8);
                (target.run)(&spoilt);
            }
        }
    }
}

#[test]
fn every_target_is_joined_to_libfuzzer_and_no_folder_is_an_orphan() {
    let known: Vec<String> = {
        let mut known: Vec<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        known.sort();
        known
    };
    let files: Vec<String> = known.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names("fuzz_targets"), files);
    for folder in names("regressions") {
        assert!(known.contains(&folder), "regressions/{folder} belongs to no target");
    }
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).expect("the manifest");
    for name in &known {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} is no binary of fuzz/Cargo.toml"
        );
    }
}
