//! Where TLS was asked for and does not come about, nothing was sent, and nothing is sent without it.

use crate::egress::{call, pike};
use payoutd::{domain::effect::EffectKind, pike::Answer};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What a TLS client begins with: a record of the handshake.
const HANDSHAKE: u8 = 22;

#[tokio::test]
async fn a_handshake_that_breaks_has_sent_nothing_and_nothing_goes_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let beginnings = Arc::new(Mutex::new(vec![]));
    let kept = Arc::clone(&beginnings);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            kept.lock().unwrap().push(first[0]);
            // As a server does that speaks no TLS. The client may have gone by then.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let pike = pike(&url, Duration::from_secs(60));
    for kind in EffectKind::ALL {
        let answer = pike.call(&call(kind)).await;
        assert!(matches!(answer.answer, Answer::NotSent(_)), "{kind:?}: {answer:?}");
    }
    assert_eq!(
        *beginnings.lock().unwrap(),
        EffectKind::ALL.map(|_| HANDSHAKE),
        "one try each, none in clear"
    );
}
