//! Answers that are made while they are sent, a piece at a time: the next piece is made when the last one has
//! gone out, on a thread that may read files. When the reader goes away, so does the maker.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::Sandbox;
use super::code::Code;
use super::http::respond;
use super::view;

/// Sends what `make` makes until there is no more. A failure before the first piece is an answer of its own;
/// after it the answer breaks off, so that nobody takes a part for the whole. An empty piece sends nothing.
pub async fn send<M>(sandbox: Arc<Sandbox>, content_type: &'static str, make: M) -> Response
where
    M: FnMut(&Sandbox) -> io::Result<Option<Vec<u8>>> + Send + 'static,
{
    let pieces = stream::try_unfold((sandbox, make), |(sandbox, make)| next(sandbox, make));
    let pieces = pieces.inspect_err(|error| tracing::warn!(%error, "a page broke off"));
    let mut pieces = Box::pin(pieces);
    match pieces.try_next().await {
        Ok(first) => {
            let body = Body::from_stream(stream::iter(first.map(Ok)).chain(pieces));
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], body).into_response()
        }
        Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, view::refusal(Code::InternalError)),
    }
}

async fn next<M>(sandbox: Arc<Sandbox>, mut make: M) -> io::Result<Option<(Vec<u8>, (Arc<Sandbox>, M))>>
where
    M: FnMut(&Sandbox) -> io::Result<Option<Vec<u8>>> + Send + 'static,
{
    loop {
        let at_work = Arc::clone(&sandbox);
        let made = tokio::task::spawn_blocking(move || {
            let piece = make(&at_work);
            (piece, make)
        });
        let (piece, maker) = made.await.map_err(io::Error::other)?;
        make = maker;
        match piece? {
            None => return Ok(None),
            Some(piece) if piece.is_empty() => {}
            Some(piece) => return Ok(Some((piece, (sandbox, make)))),
        }
    }
}
