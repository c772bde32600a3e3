//! Asking the appliance over HTTP from inside its namespace, as the load balancer and the operator do.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tidegate_lab::{Namespace, http};

const PATIENCE: Duration = Duration::from_secs(2);

/// Status and body of a GET.
///
/// # Errors
/// When nobody answers within two seconds, or what comes is not HTTP.
pub(crate) fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    http::get(namespace, address, path, PATIENCE).with_context(|| format!("GET {path}"))
}

/// The JSON of a GET that must succeed.
///
/// # Errors
/// As [`get`], and for any status but 200.
pub(crate) fn get_json(namespace: &Namespace, address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let (status, body) = get(namespace, address, path)?;
    anyhow::ensure!(status == 200, "GET {path} answered {status}: {body}");
    serde_json::from_str(&body).with_context(|| format!("GET {path}"))
}
