//! Everything that moves bytes in or out: AF_XDP sockets with their frames, facts about interfaces, capture and transport
//! stream files, the policy's file and the secrets beside it. Nothing here knows what is inside a packet.
//!
//! `frame`, `packet` and `pool` make the ownership of a UMEM frame a type; `xsk` joins them to the rings of a socket, which
//! `open` creates; `sys` holds the few system calls that no crate wraps. `unsafe` is allowed in `frame`, `heartbeat`, `xsk`,
//! `open` and `sys` only. The feature `readers` alone has the files and no sockets.

mod blocks;
pub mod capture;
#[cfg(feature = "appliance")]
pub mod config;
#[cfg(feature = "appliance")]
pub mod frame;
#[cfg(feature = "appliance")]
pub mod heartbeat;
pub mod input;
#[cfg(feature = "appliance")]
pub mod interface;
#[cfg(feature = "appliance")]
mod open;
#[cfg(feature = "appliance")]
pub mod packet;
#[cfg(feature = "appliance")]
pub mod policy_file;
#[cfg(feature = "appliance")]
pub mod pool;
#[cfg(feature = "appliance")]
pub mod secrets;
mod source;
#[cfg(feature = "appliance")]
mod sys;
pub mod ts_file;
#[cfg(feature = "appliance")]
pub mod xsk;

#[cfg(feature = "appliance")]
pub use config::{BindMode, BusyPoll, Fallback, Feature, OpenError, Opened, SocketConfig};
#[cfg(feature = "appliance")]
pub use packet::{Burst, Fate, Packet};
#[cfg(feature = "appliance")]
pub use pool::FrameAccount;
#[cfg(feature = "appliance")]
pub use xsk::{Discarded, FlushError, Flushed, Socket, Statistics};
