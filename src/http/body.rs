//! Reads a request's body whole, bounded in size and in total time. Used by every handler that takes a body;
//! decides nothing about its content.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use tokio::time::timeout;

/// Why a body was not read to its end. The rest of it stays unread, and the connection closes after the
/// answer.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive within {within:?}")]
    TooSlow { within: Duration },
    #[error("the body broke off: {0}")]
    Broken(axum::Error),
}

/// The whole body, if it has at most `limit` bytes and all of it arrives within `within`. The time is for the
/// body as a whole: a limit per chunk lets a client that drips stay for ever.
pub async fn read_body(body: Body, limit: usize, within: Duration) -> Result<Bytes, BodyError> {
    // What Content-Length announces; known before a byte is read, so that nothing is read for nothing.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge { limit });
    }
    match timeout(within, collect(body, limit, announced)).await {
        Ok(read) => read,
        Err(_) => Err(BodyError::TooSlow { within }),
    }
}

async fn collect(mut body: Body, limit: usize, announced: usize) -> Result<Bytes, BodyError> {
    let mut read = Vec::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        // Frames without data are trailers, which nothing of ours looks at.
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        if data.len() > limit - read.len() {
            return Err(BodyError::TooLarge { limit });
        }
        read.extend_from_slice(&data);
    }
    Ok(Bytes::from(read))
}
