//! Placeholder while the workspace is laid out: builds the XDP program.

mod build_ebpf;

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    println!("{}", build_ebpf::run(root)?.display());
    Ok(())
}
