//! A connection that can be told where to end: after so many bytes of an answer it is closed or reset,
//! whatever HTTP was about to say. One per connection, shared by its stream and by whoever answers on it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Where and how a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    after_bytes: u64,
    reset: bool,
}

impl Cut {
    /// Closed in the ordinary way.
    #[must_use]
    pub fn close(after_bytes: u64) -> Self {
        Self { after_bytes, reset: false }
    }

    /// Reset.
    #[must_use]
    pub fn reset(after_bytes: u64) -> Self {
        Self { after_bytes, reset: true }
    }
}

/// Orders for a connection.
#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<Option<Cut>>>);

impl Wire {
    /// From now on so many bytes go out, then none.
    pub fn cut(&self, cut: Cut) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
    }

    fn ordered(&self) -> Option<Cut> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream of a connection under orders.
pub struct Wired {
    stream: TcpStream,
    wire: Wire,
}

impl Wired {
    #[must_use]
    pub fn new(stream: TcpStream, wire: Wire) -> Self {
        Self { stream, wire }
    }
}

impl AsyncRead for Wired {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wired {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(cut) = self.wire.ordered() else { return Pin::new(&mut self.stream).poll_write(cx, bytes) };
        if cut.after_bytes == 0 {
            if cut.reset {
                // What is still in the kernel's buffers goes first on a close, and never on a reset.
                self.stream.set_zero_linger()?;
            }
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let length = usize::try_from(cut.after_bytes).map_or(bytes.len(), |left| left.min(bytes.len()));
        let polled = Pin::new(&mut self.stream).poll_write(cx, &bytes[..length]);
        if let Poll::Ready(Ok(written)) = polled {
            let written = u64::try_from(written).unwrap_or(u64::MAX);
            self.wire.cut(Cut { after_bytes: cut.after_bytes.saturating_sub(written), ..cut });
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wire.ordered().is_some_and(|cut| cut.reset) {
            self.stream.set_zero_linger()?;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
