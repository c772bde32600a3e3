//! An HTTP GET from inside a namespace, as a load balancer and an operator ask an appliance.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::namespace::Namespace;

/// The largest answer that is read, in bytes: thousands of streams make megabytes.
const LARGEST: u64 = 64 << 20;

/// Status and body of a GET; nobody waits for longer than `patience` for a connection, or for more of the answer.
///
/// # Errors
/// When nobody answers in time, what comes is not HTTP, or the namespace cannot be entered.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str, patience: Duration) -> io::Result<(u16, String)> {
    let answer = namespace
        .run_in(|| fetch(address, path, patience))
        .map_err(io::Error::other)??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}

/// The answer as it comes. HTTP/1.0, whose body is never in chunks (RFC 9112 7.1).
fn fetch(address: SocketAddr, path: &str, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: appliance\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(LARGEST).read_to_string(&mut answer)?;
    Ok(answer)
}
