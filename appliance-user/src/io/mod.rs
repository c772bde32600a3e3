//! Everything that moves bytes in or out: AF_XDP sockets with their frames, facts about interfaces, capture and transport
//! stream files, the policy's file and the secrets beside it. Nothing here knows what is inside a packet.
//!
//! `frame`, `packet` and `pool` make the ownership of a UMEM frame a type; `xsk` joins them to the rings of a socket, which
//! `open` creates; `sys` holds the few system calls that no crate wraps. `unsafe` is allowed in `frame`, `heartbeat`, `xsk`, `open` and
//! `sys` only.

mod blocks;
pub mod capture;
pub mod config;
pub mod frame;
pub mod heartbeat;
pub mod input;
pub mod interface;
mod open;
pub mod packet;
pub mod policy_file;
pub mod pool;
pub mod secrets;
mod source;
mod sys;
pub mod ts_file;
pub mod xsk;

pub use config::{BindMode, BusyPoll, Fallback, Feature, OpenError, Opened, SocketConfig};
pub use packet::{Burst, Packet};
pub use pool::FrameAccount;
pub use xsk::{Discarded, FlushError, Flushed, Socket, Statistics};
