//! Building the XDP programs, the appliance's and the load lab's, with whatever compiler on this machine can make BPF.
//!
//! A compiler will do that has a prebuilt `core` for BPF in its sysroot, or the sources to build one from. They are looked
//! for in a fixed order and the first is taken. The linker, which turns LLVM bitcode into BPF, is built once into
//! `target/tools`. A build whose inputs have not changed is not repeated.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::toolchain::{self, Core, LLVM, TARGET, llvm_major};

/// The linker's version; it is built against [`LLVM`].
const LINKER: &str = "bpf-linker@0.13.0";
/// Variables that steer a build and are not meant for this one.
const FOREIGN: [&str; 9] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTC",
];

/// An object file of XDP programs, and what it is built from.
#[derive(Clone, Copy, Debug)]
struct Object {
    /// What the programs are for, when talking of them.
    what: &'static str,
    /// The crate's folder, a workspace of its own.
    folder: &'static str,
    /// The crate's binary.
    binary: &'static str,
    /// Folders of the crates by path that it depends on.
    depends_on: &'static [&'static str],
    /// Where the object goes.
    file: &'static str,
    /// The variable that names an object built elsewhere.
    elsewhere: &'static str,
}

/// The appliance's program.
const APPLIANCE: Object = Object {
    what: "the XDP program",
    folder: "appliance-ebpf",
    binary: "tidegate",
    depends_on: &["common"],
    file: "target/ebpf/tidegate.bpf.o",
    elsewhere: "EBPF_OBJECT",
};
/// The load lab's programs.
const LAB: Object = Object {
    what: "the load lab's XDP programs",
    folder: "perf/ebpf",
    binary: "lab",
    depends_on: &["perf/frames"],
    file: "target/ebpf/lab.bpf.o",
    elsewhere: "EBPF_LAB_OBJECT",
};

/// Builds the appliance's program, unless it is built already, and returns the object file.
///
/// # Errors
/// What is missing on this machine and how to get it, or where the log of a failed build is.
pub(crate) fn run(workspace_root: &Path) -> Result<PathBuf> {
    build(workspace_root, &APPLIANCE)
}

/// Builds the load lab's programs, unless they are built already, and returns the object file.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_lab(workspace_root: &Path) -> Result<PathBuf> {
    build(workspace_root, &LAB)
}

fn build(workspace_root: &Path, wanted: &Object) -> Result<PathBuf> {
    if let Some(named) = env::var_os(wanted.elsewhere) {
        let named = workspace_root.join(named);
        if !named.is_file() {
            bail!("{} names {}, which is not a file", wanted.elsewhere, named.display());
        }
        return Ok(named);
    }
    let object = workspace_root.join(wanted.file);
    let compiler = find_compiler(workspace_root)?;
    let stamp = object.with_extension("stamp");
    let inputs = inputs_hash(workspace_root, wanted, &compiler)?;
    if fs::read_to_string(&stamp).is_ok_and(|text| Some(text) == stamp_text(inputs, &object)) {
        return Ok(object);
    }
    let directory = workspace_root.join("target/ebpf");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let linker = linker(workspace_root)?;
    println!("build-ebpf: compiling {} with {}", wanted.what, compiler.name);
    compile(workspace_root, wanted, &compiler, &linker)?;
    let built = workspace_root
        .join(wanted.folder)
        .join("target")
        .join(TARGET)
        .join("release")
        .join(wanted.binary);
    // Whoever embeds the object must never see half of it.
    let fresh = object.with_extension("new");
    fs::copy(&built, &fresh).with_context(|| format!("cannot copy {}", built.display()))?;
    fs::rename(&fresh, &object).with_context(|| format!("cannot write {}", object.display()))?;
    if let Some(text) = stamp_text(inputs, &object) {
        fs::write(&stamp, text).with_context(|| format!("cannot write {}", stamp.display()))?;
    }
    Ok(object)
}

/// A compiler that can make BPF.
#[derive(Debug)]
struct Compiler {
    /// How to call it when talking of it.
    name: String,
    rustc: PathBuf,
    /// The whole of `rustc -vV`.
    version: String,
    /// There is no prebuilt core: build it from the sysroot's sources.
    build_core: bool,
    /// The cargo that belongs to it, which matters when a core is to be built.
    cargo: OsString,
}

/// Looks through all compilers, in order: `EBPF_RUSTC`, the active toolchain, nightly, the system's.
fn find_compiler(root: &Path) -> Result<Compiler> {
    let mut refused = Vec::new();
    if let Some(named) = env::var_os("EBPF_RUSTC") {
        // Whoever names a compiler wants that one or none.
        return examine(root, "EBPF_RUSTC", &[named]).map_err(|why| anyhow::anyhow!("EBPF_RUSTC: {why}"));
    }
    let candidates: [(&str, &[&str]); 3] = [
        ("the active toolchain", &["rustc"]),
        ("nightly", &["rustup", "run", "nightly", "rustc"]),
        ("/usr/bin/rustc", &["/usr/bin/rustc"]),
    ];
    for (name, command) in candidates {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        match examine(root, name, &command) {
            Ok(compiler) => return Ok(compiler),
            Err(why) => refused.push(format!("  {name}: {why}")),
        }
    }
    bail!(
        "no Rust compiler here can make BPF:\n{}\nAny one of these helps:\n  \
         rustup component add rust-src\n  \
         apt-get install rustc-web libstd-rust-web-dev-bpf   (Debian 12: a compiler with a BPF core, beside rustup's)\n  \
         EBPF_RUSTC=/path/to/rustc, with rust-src or a core for {TARGET} in its sysroot\n  \
         EBPF_OBJECT=/path/to/tidegate.bpf.o, built elsewhere",
        refused.join("\n")
    )
}

/// Whether a compiler will do; if not, why.
fn examine(root: &Path, name: &str, command: &[OsString]) -> Result<Compiler, String> {
    let sysroot = PathBuf::from(ask(root, command, &["--print", "sysroot"])?.trim());
    let version = ask(root, command, &["-vV"])?;
    let llvm = llvm_major(&version);
    if llvm.is_none_or(|llvm| llvm > LLVM) {
        let llvm = llvm.map_or_else(|| "an unknown LLVM".to_owned(), |llvm| format!("LLVM {llvm}"));
        return Err(format!(
            "it uses {llvm}, and the linker reads what LLVM {LLVM} and older write"
        ));
    }
    let core = toolchain::core(&sysroot)
        .ok_or_else(|| format!("{} has neither a core for {TARGET} nor rust-src", sysroot.display()))?;
    let build_core = core == Core::Sources;
    let own_cargo = sysroot.join("bin/cargo");
    let cargo = if build_core && own_cargo.is_file() {
        own_cargo.into_os_string()
    } else {
        env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
    };
    let rustc = sysroot.join("bin/rustc");
    let release = version.lines().next().unwrap_or("rustc").to_owned();
    let core = match core {
        Core::Prebuilt => "its prebuilt core",
        Core::Sources => "core from rust-src",
    };
    Ok(Compiler {
        name: format!("{release} ({name}, {core})"),
        rustc,
        version,
        build_core,
        cargo,
    })
}

/// What a compiler says; rustup must not install a toolchain only because it was asked for.
fn ask(root: &Path, command: &[OsString], arguments: &[&str]) -> Result<String, String> {
    let Some((program, first)) = command.split_first() else {
        return Err("no command".to_owned());
    };
    let output = Command::new(program)
        .args(first)
        .args(arguments)
        .current_dir(root)
        .env("RUSTUP_AUTO_INSTALL", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.lines().next().unwrap_or("it fails").trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The linker under `target/tools`, built if it is not there.
fn linker(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools");
    let linker = tools.join("bin/bpf-linker");
    if ask(root, &[linker.clone().into_os_string()], &["--version"]).is_ok() {
        return Ok(linker);
    }
    let prefix = env::var_os("LLVM_PREFIX").unwrap_or_else(|| format!("/usr/lib/llvm-{LLVM}").into());
    if !Path::new(&prefix).join("bin/llvm-config").is_file() {
        bail!(
            "LLVM {LLVM} with its headers is not at {}: it is needed to build {LINKER}. Any one of these helps:\n  \
             apt-get install llvm-{LLVM}-dev   (Debian 12)\n  LLVM_PREFIX=/path/to/llvm-{LLVM}\n  \
             EBPF_OBJECT=/path/to/tidegate.bpf.o, built elsewhere",
            prefix.display()
        );
    }
    println!("build-ebpf: building {LINKER} into target/tools (once, about three minutes)");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["install", "--locked", LINKER, "--no-default-features", "--features"]);
    command
        .arg(format!("llvm-{LLVM}"))
        .arg("--root")
        .arg(&tools)
        .arg("--target-dir")
        .arg(tools.join("build"));
    command.current_dir(root).env("LLVM_PREFIX", prefix);
    logged(root, command, "bpf-linker")?;
    // What was compiled on the way is large and not needed again; a remnant does no harm.
    let _ = fs::remove_dir_all(tools.join("build"));
    Ok(linker)
}

fn compile(root: &Path, wanted: &Object, compiler: &Compiler, linker: &Path) -> Result<()> {
    let mut command = Command::new(&compiler.cargo);
    command.args([
        "build",
        "--locked",
        "--release",
        "--target",
        TARGET,
        "--target-dir",
        "target",
    ]);
    if compiler.build_core {
        command.args(["-Z", "build-std=core"]);
    }
    let mut flags: Vec<OsString> = flags();
    flags.push(joined(&["-Clinker=".as_ref(), linker.as_os_str()]));
    // Nobody's directories belong into the object.
    flags.push(joined(&[
        "--remap-path-prefix=".as_ref(),
        root.as_os_str(),
        "=tidegate".as_ref(),
    ]));
    if let Some(home) = cargo_home() {
        flags.push(joined(&[
            "--remap-path-prefix=".as_ref(),
            home.as_os_str(),
            "=cargo".as_ref(),
        ]));
    }
    command.current_dir(root.join(wanted.folder));
    command
        .env("RUSTC", &compiler.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\u{1f}")));
    // aya-ebpf uses inline assembly, which is unstable on BPF; building core needs unstable options of cargo as well.
    command.env("RUSTC_BOOTSTRAP", if compiler.build_core { "1" } else { "aya_ebpf" });
    logged(root, command, &format!("compile-{}", wanted.binary))
}

/// The flags that do not depend on where things are.
fn flags() -> Vec<OsString> {
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH);
    // Without this every field of a packet is read byte by byte. The processors that this runs on do not mind, nor do their
    // kernels' verifiers.
    let misaligned = "-Clink-arg=--cpu-features=+allows-misaligned-mem-access";
    ["-Clink-arg=--btf", misaligned, "-Cdebuginfo=2", &architecture]
        .map(OsString::from)
        .to_vec()
}

/// Runs a command whose output goes to a log; a failure shows the log's end.
fn logged(root: &Path, mut command: Command, name: &str) -> Result<()> {
    let path = root.join("target/ebpf").join(format!("{name}.log"));
    let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    for variable in FOREIGN {
        // One that was set for this very command stays.
        if !command
            .get_envs()
            .any(|(name, value)| name == variable && value.is_some())
        {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
    bail!(
        "{}\n{name} failed ({status}); the whole log is {}",
        end.join("\n"),
        path.display()
    )
}

/// A hash of everything that the object depends on: sources, manifests, lock, flags, compiler and linker.
fn inputs_hash(root: &Path, wanted: &Object, compiler: &Compiler) -> Result<u64> {
    let mut files = vec![root.join("Cargo.toml"), root.join(wanted.folder).join("Cargo.lock")];
    for folder in wanted.depends_on.iter().chain([&wanted.folder]) {
        collect(&root.join(folder).join("src"), &mut files)?;
        files.push(root.join(folder).join("Cargo.toml"));
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    (LINKER, &compiler.version, compiler.build_core, flags()).hash(&mut hasher);
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        (file.strip_prefix(root).unwrap_or(&file), bytes).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// What the stamp beside an up-to-date object says; `None` without an object.
fn stamp_text(inputs: u64, object: &Path) -> Option<String> {
    let mut hasher = DefaultHasher::new();
    fs::read(object).ok()?.hash(&mut hasher);
    Some(format!("{inputs:016x} {:016x}\n", hasher.finish()))
}

fn cargo_home() -> Option<PathBuf> {
    let named = env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

fn joined(parts: &[&OsStr]) -> OsString {
    parts.iter().copied().collect()
}
