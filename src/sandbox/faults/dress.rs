//! Turns an answer into what goes over the wire when a fault strikes: another body, other headers, slowly, or
//! not to its end. Pure; the waiting and the cutting are done by `http` and `wire`.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};

use super::super::calls::Answer;
use super::super::code::Code;
use super::super::view;
use super::super::wire::Cut;
use super::book::Strike;
use super::kind::{Deed, Garb};
use super::lies::tell;
use super::rule::Figures;

/// Size of a huge body unless said otherwise: far beyond what a client should read.
const HUGE: u64 = 64 << 20;
/// Bytes a chunk and pause between chunks of a drip.
const DRIP: (u64, Duration) = (1, Duration::from_millis(50));

const JSON: &str = "application/json";

const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\
<body><h1>Bad Gateway</h1><p>The upstream server could not be reached.</p></body></html>\n";

/// How a body goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    AtOnce(Bytes),
    Drip {
        body: Bytes,
        chunk: usize,
        pause: Duration,
    },
    /// So many bytes of JSON that never ends.
    Endless {
        bytes: u64,
    },
}

/// An answer, ready to be sent.
#[derive(Debug)]
pub struct Dressed {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub flow: Flow,
    /// Where the connection ends, when it ends early.
    pub cut: Option<Cut>,
}

impl Dressed {
    fn plain(answer: Answer) -> Self {
        let flow = Flow::AtOnce(answer.body.into());
        Self { status: answer.status, content_type: JSON, headers: Vec::new(), flow, cut: None }
    }

    fn page(status: u16) -> Self {
        let flow = Flow::AtOnce(Bytes::from_static(PAGE.as_bytes()));
        Self { status, content_type: "text/html", headers: Vec::new(), flow, cut: None }
    }
}

/// Dresses the answer to a call for `path`.
#[must_use]
pub fn dress(answer: Answer, strike: Option<&Strike>, path: &str) -> Dressed {
    let Some(Strike { kind, figures, .. }) = strike else { return Dressed::plain(answer) };
    let mut dressed = match kind.deed() {
        Deed::Dress(garb) => clothe(answer, garb, figures, path),
        Deed::Lie(lie) => Dressed::plain(Answer { body: tell(lie, &answer.body), ..answer }),
        // Struck when the call was carried out, or while the answer waited.
        Deed::Past | Deed::Wait(_) | Deed::Start(_) | Deed::Mail(_) | Deed::Seal(_) => Dressed::plain(answer),
    };
    if let Some(retry) = figures.retry_after.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
        dressed.headers.push((header::RETRY_AFTER, retry));
    }
    dressed
}

fn clothe(answer: Answer, garb: Garb, figures: &Figures, path: &str) -> Dressed {
    match garb {
        Garb::Failure => failure(figures.status, figures.code),
        Garb::Html => Dressed::page(figures.status.unwrap_or(answer.status)),
        Garb::Redirect => redirect(figures.status, figures.location.as_deref().unwrap_or(path)),
        Garb::Close => Dressed { cut: Some(Cut::close(0)), ..Dressed::plain(answer) },
        Garb::Reset => {
            Dressed { cut: Some(Cut::reset(figures.bytes.unwrap_or(0))), ..Dressed::plain(answer) }
        }
        Garb::Drip => drip(answer, figures.bytes, figures.delay),
        Garb::Huge => {
            let bytes = figures.bytes.unwrap_or(HUGE);
            Dressed { flow: Flow::Endless { bytes }, ..Dressed::plain(answer) }
        }
        Garb::Utf16 => foreign_script(answer),
        Garb::Empty => Dressed::plain(Answer { body: Vec::new(), ..answer }),
        Garb::Truncated => {
            let mut body = answer.body;
            let half = u64::try_from(body.len() / 2).unwrap_or(0);
            body.truncate(usize::try_from(figures.bytes.unwrap_or(half)).unwrap_or(usize::MAX));
            Dressed::plain(Answer { body, ..answer })
        }
    }
}

/// Any HTTP error, with Pike's body unless it looks like one of a proxy in front.
fn failure(status: Option<u16>, code: Option<Code>) -> Dressed {
    let status = status.unwrap_or(500);
    match (code, status) {
        (None, 408 | 429 | 502..=504) => Dressed::page(status),
        (code, _) => {
            let body = view::refusal(code.unwrap_or(Code::InternalError));
            Dressed::plain(Answer { status, body })
        }
    }
}

fn redirect(status: Option<u16>, location: &str) -> Dressed {
    let mut dressed = Dressed::page(status.unwrap_or(307));
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    dressed.headers.push((header::LOCATION, location));
    dressed
}

fn drip(answer: Answer, bytes: Option<u64>, delay: Option<Duration>) -> Dressed {
    let chunk = usize::try_from(bytes.unwrap_or(DRIP.0)).unwrap_or(usize::MAX).max(1);
    let mut dressed = Dressed::plain(answer);
    if let Flow::AtOnce(body) = dressed.flow {
        dressed.flow = Flow::Drip { body, chunk, pause: delay.unwrap_or(DRIP.1) };
    }
    dressed
}

/// The same text in UTF-16, and said to be.
fn foreign_script(answer: Answer) -> Dressed {
    let text = String::from_utf8_lossy(&answer.body);
    let body = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
    let dressed = Dressed::plain(Answer { body, status: answer.status });
    Dressed { content_type: "application/json; charset=utf-16", ..dressed }
}

#[cfg(test)]
mod tests {
    use super::super::kind::FaultKind;
    use super::*;

    fn dressed(kind: FaultKind, figures: Figures) -> Dressed {
        let answer = Answer { status: 200, body: br#"{"status":"ok"}"#.to_vec() };
        dress(answer, Some(&Strike { kind, figures, own: false }), "/api/v2/session/create")
    }

    fn body(kind: FaultKind, figures: Figures) -> Bytes {
        match dressed(kind, figures).flow {
            Flow::AtOnce(body) | Flow::Drip { body, .. } => body,
            Flow::Endless { .. } => panic!("endless"),
        }
    }

    #[test]
    fn bodies() {
        let plain = Figures::default;
        assert_eq!(body(FaultKind::Empty, plain()), "");
        assert_eq!(body(FaultKind::Truncated, plain()), r#"{"statu"#);
        assert_eq!(body(FaultKind::Truncated, Figures { bytes: Some(1), ..plain() }), "{");
        assert!(body(FaultKind::Html, plain()).starts_with(b"<!DOCTYPE html>"));
        assert_eq!(&body(FaultKind::WrongCharset, plain())[..4], [0xfe, 0xff, 0, b'{']);
        assert_eq!(dressed(FaultKind::Huge, plain()).flow, Flow::Endless { bytes: HUGE });
    }

    #[test]
    fn statuses_and_headers() {
        let plain = dressed(FaultKind::ErrorAfter, Figures::default());
        assert_eq!((plain.status, plain.content_type), (500, JSON));
        let retry_after = Some("Thu, 01 Jan 1970 00:00:00 GMT".to_owned());
        let figures = Figures { status: Some(429), retry_after, ..Figures::default() };
        let limited = dressed(FaultKind::ErrorBefore, figures);
        assert_eq!((limited.status, limited.content_type), (429, "text/html"));
        assert_eq!(limited.headers[0].1, "Thu, 01 Jan 1970 00:00:00 GMT");
        let moved = dressed(FaultKind::Redirect, Figures::default());
        assert_eq!(
            (moved.status, &moved.headers[0].1),
            (307, &HeaderValue::from_static("/api/v2/session/create"))
        );
    }

    #[test]
    fn cuts() {
        assert_eq!(dressed(FaultKind::AnswerLost, Figures::default()).cut, Some(Cut::close(0)));
        let figures = Figures { bytes: Some(17), ..Figures::default() };
        assert_eq!(dressed(FaultKind::Reset, figures).cut, Some(Cut::reset(17)));
        assert_eq!(dressed(FaultKind::DelayAfter, Figures::default()).cut, None);
    }
}
