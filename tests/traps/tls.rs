//! Where TLS was asked for and does not come about, nothing was sent, and nothing is sent without it.

use crate::egress::{call, pike};
use payoutd::{
    domain::{effect::EffectKind, event::Outcome},
    pike::Answer,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
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

/// Certificates, all with the server's key, and whether a client that trusts `authority.pem` may talk to it.
const CERTIFICATES: [(&str, &str, bool); 5] = [
    ("good", include_str!("../vectors/tls/good.pem"), true),
    ("expired", include_str!("../vectors/tls/expired.pem"), false),
    ("not valid yet", include_str!("../vectors/tls/early.pem"), false),
    ("for another name", include_str!("../vectors/tls/other_name.pem"), false),
    ("of another authority", include_str!("../vectors/tls/foreign.pem"), false),
];
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 62\r\n\r\n\
    {\"status\":\"ok\",\"session\":{\"id\":\"ps_1\",\"status\":\"in_progress\"}}";
const TARGETS: &str = "PAYOUTD_TRAPS_TLS_TARGETS";

/// Serves under this certificate and counts the requests that it can read.
async fn serve(certificate: &str, heard: Arc<AtomicUsize>) -> String {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../vectors/tls/server.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, heard) = (acceptor.clone(), Arc::clone(&heard));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    heard.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(OK).await.unwrap();
                    // What is left unread would reset the connection under the answer.
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                }
            });
        }
    });
    url
}

/// What the child does, whose trust is set by its environment.
#[tokio::test]
#[ignore = "run by only_a_good_certificate_is_talked_to, in a process that trusts another authority"]
async fn child_of_certificates() {
    let targets = std::env::var(TARGETS).unwrap();
    for (url, (what, _, good)) in targets.split(' ').zip(CERTIFICATES) {
        let pike = pike(url, Duration::from_secs(60));
        for kind in EffectKind::ALL {
            let answer = pike.call(&call(kind)).await.answer;
            let came = matches!(answer, Answer::Came(Outcome::Accepted(_)));
            assert!(came == good && (good || matches!(answer, Answer::NotSent(_))), "{what}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn only_a_good_certificate_is_talked_to() {
    let (mut urls, mut all_heard) = (vec![], vec![]);
    for (_, certificate, _) in CERTIFICATES {
        let heard = Arc::new(AtomicUsize::new(0));
        urls.push(serve(certificate, Arc::clone(&heard)).await);
        all_heard.push(heard);
    }
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "tls::child_of_certificates", "--ignored"]).env(TARGETS, urls.join(" "));
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/tls/authority.pem");
    let ended = child.env("SSL_CERT_FILE", authority).env_remove("SSL_CERT_DIR").output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    for ((what, _, good), heard) in CERTIFICATES.iter().zip(all_heard) {
        let calls = if *good { EffectKind::ALL.len() } else { 0 };
        assert_eq!(heard.load(Ordering::SeqCst), calls, "{what}");
    }
}
