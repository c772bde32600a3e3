//! Asking the appliance over HTTP from inside its namespace, as its operator does.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidegate_lab::Namespace;

/// Where `tidegate run` serves its figures.
pub const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);
/// Where it serves its health.
pub const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);
/// Thousands of streams make an answer of megabytes, while the cores are busy with packets.
const PATIENCE: Duration = Duration::from_secs(10);
/// Status and body of a GET.
///
/// # Errors
/// When nobody answers in time, or what comes is not HTTP.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> Result<(u16, String)> {
    tidegate_lab::http::get(namespace, address, path, PATIENCE).with_context(|| format!("GET {path}"))
}

/// The JSON of a GET that must succeed.
///
/// # Errors
/// As [`get`], and for any status but 200.
pub fn get_json(namespace: &Namespace, path: &str) -> Result<Value> {
    let (status, body) = get(namespace, ADMIN, path)?;
    ensure!(status == 200, "GET {path} answered {status}");
    serde_json::from_str(&body).with_context(|| format!("GET {path} is not JSON"))
}
