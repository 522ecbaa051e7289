//! Our HTTP clients against servers that point elsewhere, hang up, never end or make no sense: one request
//! each, and nothing but a whole readable answer counts as one.

use crate::{
    peer::{Conduct, Peer, answer},
    support::project,
};
use payoutd::{
    domain::{effect::EffectKind, event::Outcome, id::SessionId, money::Money, payout::DestinationKind},
    keys,
    notify::{Endpoint, Notifier, PrivateAddresses, Secret, SendFailed},
    pike::{Answer, ApiVersion, Call, Pike, PikeError, PikeProject, PikeSettings, sign::Signer},
};
use secrecy::ExposeSecret;
use std::{collections::BTreeMap, process::Stdio, sync::OnceLock, time::Duration};

const OK: &str = r#"{"status":"ok","session":{"id":"ps_1","status":"in_progress"}}"#;
const MOST_BYTES: usize = 4096;
/// For what must end by the time-out, and for what must not.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

pub fn pike(url: &str, total_timeout: Duration) -> Pike {
    pike_at(url, total_timeout).unwrap()
}

fn pike_at(url: &str, total_timeout: Duration) -> Result<Pike, PikeError> {
    static KEY: OnceLock<String> = OnceLock::new();
    let key = KEY.get_or_init(|| keys::new_pair().unwrap().private.expose_secret().to_owned());
    let settings = PikeSettings {
        base_url: url.to_owned(),
        version: ApiVersion::V2,
        connect_timeout: LONG,
        total_timeout,
        max_response_bytes: MOST_BYTES,
    };
    let signer = Signer::from_pem(key).unwrap();
    let identity = PikeProject { pike_project: "demo".to_owned(), submerchant: None, signer };
    Pike::new(settings, BTreeMap::from([(project(), identity)]))
}

#[test]
fn where_pike_is_has_a_host() {
    for nowhere in ["", "pike.example", "foo:bar", "/api"] {
        let refused = pike_at(nowhere, SHORT).unwrap_err();
        assert!(matches!(refused, PikeError::BadUrl), "{nowhere}: {refused}");
    }
    assert!(pike_at("https://pike.example:444", SHORT).is_ok());
}

pub fn call(kind: EffectKind) -> Call {
    Call {
        project: project(),
        kind,
        session: Some(SessionId("ps_1".to_owned())),
        amount: Money::new(1_000, "RUB".parse().unwrap()).unwrap(),
        destination: DestinationKind::TokenizedCard,
        destination_secret: Some("token".to_owned()),
        recipient_name: "Anna".to_owned(),
        customer_reference: "user-1".to_owned(),
        metadata_tag: "payout/1".to_owned(),
        idempotency_key: Some("key".to_owned()),
    }
}

fn notifier(url: &str, timeout: Duration) -> Notifier {
    let secret = keys::new_notify_secret().unwrap();
    let secret = Secret::parse(secret.expose_secret()).unwrap();
    let endpoint = Endpoint { url: url.to_owned(), secret };
    Notifier::new(BTreeMap::from([(project(), endpoint)]), timeout, PrivateAddresses::Allowed).unwrap()
}

async fn notify(url: &str, timeout: Duration) -> Result<(), SendFailed> {
    notifier(url, timeout).send(&project(), "msg_1", 1, "{}").await
}

/// The code under which an outcome is unknown.
fn unknown(answer: Answer) -> String {
    let Answer::Came(Outcome::Unknown(error)) = answer else { panic!("{answer:?}") };
    error.code
}

#[tokio::test]
async fn an_answer_that_points_elsewhere_is_not_followed() {
    for status in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        for kind in [EffectKind::StartPayout, EffectKind::Confirm] {
            let peer = Peer::start(|own| {
                Conduct::Say(answer(&format!("{status}\r\nlocation: {own}/elsewhere"), ""))
            })
            .await;
            unknown(pike(&peer.url, LONG).call(&call(kind)).await.answer);
            assert_eq!(peer.heard(), 1, "{status}: sent more than once");
        }
        let peer =
            Peer::start(|own| Conduct::Say(answer(&format!("{status}\r\nlocation: {own}/elsewhere"), "")))
                .await;
        let failed = notify(&peer.url, LONG).await.unwrap_err();
        assert!(matches!(failed, SendFailed::Status(300..400)), "{failed:?}");
        assert_eq!(peer.heard(), 1, "{status}: sent more than once");
    }
}

#[tokio::test]
async fn a_request_that_was_read_and_never_answered_is_sent_once() {
    for kind in EffectKind::ALL {
        let peer = Peer::start(|_| Conduct::HangUp).await;
        assert_eq!(unknown(pike(&peer.url, LONG).call(&call(kind)).await.answer), "connection_lost");
        assert_eq!(peer.heard(), 1, "{kind:?}");
    }
    let peer = Peer::start(|_| Conduct::HangUp).await;
    assert_eq!(notify(&peer.url, LONG).await, Err(SendFailed::NoAnswer));
    assert_eq!(peer.heard(), 1);
}

/// A connection that was kept open and is closed under the next request: a client may be tempted to send
/// that one again.
#[tokio::test]
async fn a_kept_connection_that_breaks_is_no_reason_to_send_again() {
    let kept = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{OK}", OK.len());
    let peer = Peer::start(|_| Conduct::Say(kept.into_bytes())).await;
    let pike = pike(&peer.url, LONG);
    for sent in 1..=20 {
        let answer = pike.call(&call(EffectKind::Confirm)).await.answer;
        assert!(!matches!(answer, Answer::Came(Outcome::Declined(_))), "{answer:?}");
        // Never more than calls; a call on the dead connection may not even have left.
        assert!(peer.heard() <= sent, "{} requests for {sent} calls", peer.heard());
    }
}

#[tokio::test]
async fn a_refused_connection_is_known_not_to_have_sent_anything() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for kind in EffectKind::ALL {
        let answer = pike(&url, LONG).call(&call(kind)).await.answer;
        assert!(matches!(answer, Answer::NotSent(_)), "{kind:?}: {answer:?}");
    }
    assert_eq!(notify(&url, LONG).await, Err(SendFailed::NoAnswer));
}

/// No name has a part of 64 letters, so nobody needs to be asked.
#[tokio::test]
async fn a_name_that_leads_nowhere_is_known_not_to_have_sent_anything() {
    let url = format!("http://{}.invalid", "a".repeat(64));
    for kind in EffectKind::ALL {
        let answer = pike(&url, LONG).call(&call(kind)).await.answer;
        let Answer::NotSent(why) = &answer else { panic!("{kind:?}: {answer:?}") };
        assert!(why.contains("lookup"), "not even looked up: {why}");
    }
}

#[tokio::test]
async fn only_a_whole_readable_answer_counts() {
    let cases = [
        ("answer_too_large", Conduct::Say(answer("200 OK", &format!("{OK}{}", " ".repeat(MOST_BYTES))))),
        ("answer_too_large", Conduct::Drip(endless(&" ".repeat(MOST_BYTES)))),
        ("unreadable_answer", Conduct::Say(answer("200 OK", &OK[..OK.len() - 2]))),
        ("unreadable_answer", Conduct::Say(answer("200 OK", "<html>Welcome</html>"))),
        ("unreadable_answer", Conduct::Say(answer("200 OK", ""))),
        ("unreadable_answer", Conduct::Say(answer("502 Bad Gateway", "<html>nginx</html>"))),
        ("unreadable_answer", Conduct::Say(answer("200 OK\r\ncontent-encoding: gzip", "\u{1f}not gzip"))),
        ("unexpected_answer", Conduct::Say(answer("500 Oops", OK))),
        (
            "answer_cut_off",
            Conduct::Say(format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{OK}").into()),
        ),
        ("connection_lost", Conduct::Say(b"HTTP/1.1 200 OK\r\nconten".to_vec())),
        ("connection_lost", Conduct::Say(b"SSH-2.0-OpenSSH_9.7\r\n".to_vec())),
    ];
    for (code, conduct) in cases {
        let shown = format!("{conduct:?}").chars().take(80).collect::<String>();
        let peer = Peer::start(|_| conduct).await;
        let answer = pike(&peer.url, LONG).call(&call(EffectKind::StartPayout)).await.answer;
        assert_eq!(unknown(answer), code, "{shown}");
        assert_eq!(peer.heard(), 1, "{shown}");
    }
    let peer = Peer::start(|_| Conduct::Say(answer("200 OK", OK))).await;
    let good = pike(&peer.url, LONG).call(&call(EffectKind::StartPayout)).await.answer;
    assert!(matches!(good, Answer::Came(Outcome::Accepted(_))), "{good:?}");
}

/// A head and the beginning of a body without an end.
fn endless(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{body}").into_bytes()
}

/// Without a limit on the whole call these would never end.
#[tokio::test]
async fn an_answer_that_never_ends_is_given_up() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type:".to_vec();
    for conduct in [Conduct::Drip(endless(&OK[..20])), Conduct::Drip(head), Conduct::Drip(vec![])] {
        let peer = Peer::start(|_| conduct.clone()).await;
        unknown(pike(&peer.url, SHORT).call(&call(EffectKind::Confirm)).await.answer);
        assert_eq!(peer.heard(), 1, "{conduct:?}");
    }
    let peer = Peer::start(|_| Conduct::Drip(vec![])).await;
    assert_eq!(notify(&peer.url, SHORT).await, Err(SendFailed::NoAnswer));
    assert_eq!(peer.heard(), 1);
}

const TARGET: &str = "PAYOUTD_TRAPS_TARGET";

/// What the child does under an environment that names a proxy.
#[tokio::test]
#[ignore = "run by a_proxy_in_the_environment_is_ignored, in a process with another environment"]
async fn child_of_a_proxy_in_the_environment() {
    let target = std::env::var(TARGET).unwrap();
    let answer = pike(&target, LONG).call(&call(EffectKind::ReadStatus)).await.answer;
    assert!(matches!(answer, Answer::Came(Outcome::Accepted(_))), "{answer:?}");
    notify(&target, LONG).await.unwrap();
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_ignored() {
    let target = Peer::start(|_| Conduct::Say(answer("200 OK", OK))).await;
    let proxy = Peer::start(|_| Conduct::Say(answer("200 OK", OK))).await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "egress::child_of_a_proxy_in_the_environment", "--ignored"])
        .env(TARGET, &target.url);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, &proxy.url);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = child.output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    assert_eq!((target.heard(), proxy.heard()), (2, 0));
}
