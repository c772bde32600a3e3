//! Asking the appliance over HTTP from inside its namespace, as the load balancer and the operator do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tidegate_lab::Namespace;

/// Status and body of a GET.
///
/// # Errors
/// When nobody answers within two seconds, or what comes is not HTTP.
pub(crate) fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let answer = namespace.run_in(|| fetch(address, path))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?.parse()?;
    Ok((status, body.to_owned()))
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

fn fetch(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: appliance\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
