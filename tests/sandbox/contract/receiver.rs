//! A receiver of webhooks that keeps every byte and answers as it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::raw::{Message, parse};
use crate::support::{World, pike_keys, settings, until};

/// What a webhook gets for an answer.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    Http(u16),
    /// Back to where it came, which nobody should follow.
    MovedTo(&'static str),
    /// Nothing, until the sender has had enough.
    Silence,
    HangUp,
    NotHttp,
}

/// One webhook as it came.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub at: Instant,
    pub request: Message,
    pub hook: Value,
}

pub struct Receiver {
    address: String,
    deliveries: Mutex<Vec<Delivery>>,
    /// The next answers; when there are none left, 200.
    replies: Mutex<VecDeque<Reply>>,
}

impl Receiver {
    pub async fn open(replies: &[Reply]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let replies = Mutex::new(replies.iter().copied().collect());
        let receiver = Arc::new(Self { address, deliveries: Mutex::default(), replies });
        let accepting = Arc::clone(&receiver);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&accepting).receive(stream));
            }
        });
        receiver
    }

    /// A sandbox whose webhooks all come here.
    pub async fn world(self: &Arc<Self>, change: impl FnOnce(&mut payoutd::sandbox::Settings)) -> World {
        let sink = crate::support::Sink::open().await;
        let mut settings = settings(&sink);
        for project in &mut settings.projects {
            project.webhook_url = self.url();
        }
        change(&mut settings);
        World::start(settings, sink).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/pike?of=shop", self.address)
    }

    async fn receive(self: Arc<Self>, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let request = loop {
            match parse(&bytes, false) {
                Some((request, _)) => break request,
                None if stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) => {}
                None => return,
            }
        };
        let at = Instant::now();
        let hook = serde_json::from_slice(&request.body).unwrap_or_default();
        let reply = self.replies.lock().unwrap().pop_front().unwrap_or(Reply::Http(200));
        self.deliveries.lock().unwrap().push(Delivery { at, request, hook });
        let end = "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let answer = match reply {
            Reply::Http(status) => format!("HTTP/1.1 {status} So{end}"),
            Reply::MovedTo(path) => {
                format!("HTTP/1.1 301 So\r\nLocation: http://{}{path}{end}", self.address)
            }
            Reply::Silence => {
                while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {}
                return;
            }
            Reply::HangUp => return,
            Reply::NotHttp => "SMTP ready\r\n\r\n".to_owned(),
        };
        drop(stream.write_all(answer.as_bytes()).await);
    }

    /// Everything that came, be it a webhook or not.
    pub fn all(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }

    /// Everything about a session so far.
    pub fn about(&self, session: &str) -> Vec<Delivery> {
        self.all().into_iter().filter(|it| it.hook["session"]["id"] == session).collect()
    }

    pub fn types(&self, session: &str) -> Vec<String> {
        let kind = |it: &Delivery| it.hook["type"].as_str().unwrap().to_owned();
        self.about(session).iter().map(kind).collect()
    }

    /// Waits for the `n`th delivery (from 1) of a type about a session; it is signed and has its headers.
    pub async fn wait(&self, session: &str, kind: &str, n: usize) -> Delivery {
        self.find(session, kind, n, |_| true).await
    }

    /// Waits for a delivery that says this of its session: nobody promises an order (§5.5).
    pub async fn wait_saying(&self, session: &str, kind: &str, status: &str) -> Delivery {
        self.find(session, kind, 1, |hook| hook["session"]["status"] == status).await
    }

    async fn find(&self, session: &str, kind: &str, n: usize, test: impl Fn(&Value) -> bool) -> Delivery {
        let is_meant = |it: &Delivery| it.hook["type"] == kind && test(&it.hook);
        let nth = async || self.about(session).into_iter().filter(is_meant).nth(n - 1);
        let delivery = until(&format!("{kind} number {n}"), nth).await;
        delivery.assert_genuine();
        delivery
    }

    /// Waits until exactly these types have come about a session, in whatever order.
    pub async fn wait_types(&self, session: &str, expected: &[&str]) {
        let enough = async || (self.about(session).len() >= expected.len()).then_some(());
        until(&format!("{expected:?}"), enough).await;
        let mut types = self.types(session);
        types.sort_unstable();
        assert_eq!(types, expected);
    }
}

impl Delivery {
    /// §1.2, §1.3, §1.4: a POST of JSON, signed over exactly these bytes.
    fn assert_genuine(&self) {
        let request = &self.request;
        assert_eq!(request.first_line, "POST /pike?of=shop HTTP/1.1");
        assert_eq!(request.all("content-type"), ["application/json"]);
        let signatures = request.all("x-partner-sign");
        assert_eq!(signatures.len(), 1, "{request:?}");
        assert_eq!(signatures[0].len(), 344, "§1.4: base64 of 2048 bits");
        assert!(pike_keys().verifies(&request.body, signatures[0]), "{request:?}");
        let fields: Vec<_> = self.hook.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["session", "type"], "§5.6: {}", self.hook);
        assert_ne!(self.hook["session"], json!({}));
    }
}
