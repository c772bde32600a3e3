//! `tidegate detach`: clean up what a crashed or handed-over process left in the kernel.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::EXIT_REFUSED;
use crate::control::detach;
use crate::control::pins::{self, Pins};

/// Take the XDP program off an interface and remove its pins.
///
/// Needs nothing but the interface's name, works after a crash, and does no harm when there is nothing to do. From then on
/// the load balancer's packets reach the kernel's network stack, which does not return them.
#[derive(Args, Clone, Debug)]
pub struct DetachArgs {
    /// The interface.
    #[arg(long, value_name = "IF")]
    interface: String,
    /// Directory that `run` pinned under.
    #[arg(long, value_name = "DIR", default_value = pins::DEFAULT_BASE)]
    pins: PathBuf,
}

/// Detaches: 0 if nothing of Tidegate is left, 2 with the reason if something is.
///
/// # Errors
/// None; the signature is that of every subcommand.
pub fn run(args: &DetachArgs) -> anyhow::Result<ExitCode> {
    super::log_to_stderr();
    let interface = &args.interface;
    let detached = Pins::new(&args.pins, interface)
        .map_err(Into::into)
        .and_then(|pins| detach::detach(&pins, interface));
    let detached = match detached {
        Ok(detached) => detached,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
    };
    match (detached.link, detached.layouts) {
        (true, _) => println!("{interface}: program detached, pins removed"),
        (false, 0) => println!("{interface}: nothing to detach"),
        (false, _) => println!("{interface}: pinned maps removed; no program was attached"),
    }
    if let Some(id) = detached.foreign {
        println!(
            "{interface}: another XDP program (id {id}) is attached that is not pinned under {}; it was left alone",
            args.pins.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
