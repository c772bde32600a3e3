//! Receivers of the demo that are not tools of their own: an RTP receiver that keeps the TS, and a counter for the stream
//! that must not arrive.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Receives datagrams until it is told to stop.
pub(crate) struct Receiver {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Receiver {
    /// Starts receiving on a bound socket.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub(crate) fn start(socket: UdpSocket) -> io::Result<Receiver> {
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            let mut datagrams = Vec::new();
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Acquire) {
                if let Ok(length) = socket.recv(&mut buffer) {
                    datagrams.push(buffer[..length].to_vec());
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
            datagrams
        });
        Ok(Receiver { stop, count, thread })
    }

    /// Datagrams so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Stops and hands out what came.
    pub(crate) fn finish(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}
