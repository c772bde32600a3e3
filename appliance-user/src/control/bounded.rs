//! A listener whose connections are bounded in number and in time, whatever the peers do.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at once on each port; the next waits in the kernel's backlog.
pub(super) const CONNECTIONS: usize = 256;
/// No connection lives longer.
const LIFE: Duration = Duration::from_secs(60);

/// A listener that holds at most [`CONNECTIONS`] connections, each with a deadline.
pub(super) struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
    step: Duration,
}

impl Bounded {
    /// From a bound listener; a step of a connection may take this long.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub(super) fn new(listener: StdListener, step: Duration) -> io::Result<Self> {
        Ok(Bounded {
            step,
            listener: TcpListener::from_std(listener)?,
            free: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Deadlined;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Deadlined, SocketAddr) {
        loop {
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else {
                // Nobody closes the semaphore.
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => return (Deadlined::new(stream, permit, self.step), peer),
                // Out of descriptors, or a connection that went before it was taken.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when a step takes too long: only what is sent to the peer moves its deadline on, so a head
/// that trickles in does not.
pub(super) struct Deadlined {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    end: Instant,
    step: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Deadlined {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit, step: Duration) -> Self {
        let now = Instant::now();
        Deadlined {
            stream,
            deadline: Box::pin(tokio::time::sleep_until(now + step)),
            end: now + LIFE,
            step,
            _permit: permit,
        }
    }

    fn expired(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Deadlined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.expired(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Deadlined {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(Ok(written)) => {
                let next = (Instant::now() + self.step).min(self.end);
                self.deadline.as_mut().reset(next);
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.expired(context).map(Err),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
