//! The control plane: loads and attaches the XDP program, watches the workers, tells the load balancer, the operator and
//! the event log what is true. It never sees a frame or a flow table.

#![forbid(unsafe_code)]

pub mod appliance;
mod bounded;
pub mod bypass;
pub mod clock;
pub mod detach;
pub mod events;
pub mod expect;
pub mod figures;
pub mod health;
pub mod http;
pub mod metrics;
pub mod monitor;
pub mod netlink;
pub mod object;
pub mod options;
pub mod pins;
mod priority;
pub mod program;
mod sockets;
pub mod spans;
mod start;
pub mod start_error;
pub mod status;
mod streams;
pub mod summary;
pub mod tables;
pub mod workers;
