//! Requests that are none, or hardly: lines, headers, lengths and chunks, before any body is looked at.

use super::maker::{Case, Expects, Maker};
use crate::raw;
use crate::support::partner_keys;

const END: &str = "Host: h\r\nConnection: close\r\n\r\n";

pub fn request_line(maker: &mut Maker) -> Case {
    let lines = [
        "",
        " ",
        "\r\n\r\n\r\n",
        "POST",
        "POST ",
        "POST /",
        "POST / ",
        "POST / HTTP/1.1 HTTP/1.1",
        "POST  /api/v2/session/create  HTTP/1.1",
        "POST /api/v2/session/create HTTP/9.9",
        "POST /api/v2/session/create HTTP/1.",
        "POST /api/v2/session/create HTTP/0.9",
        "POST /api/v2/session/create HTTP/2.0",
        "POST /api/v2/session/create http/1.1",
        "post /api/v2/session/create HTTP/1.1",
        "P(ST /api/v2/session/create HTTP/1.1",
        "POST http://[::1/api HTTP/1.1",
        "POST http://other.test/api/v2/session/create HTTP/1.1",
        "POST * HTTP/1.1",
        "POST api/v2/session/create HTTP/1.1",
        "POST /api/v2/session/create\u{0} HTTP/1.1",
        "POST /api/v2/session/\u{1f980} HTTP/1.1",
        "POST /%zz/%00/%ff HTTP/1.1",
        "CONNECT pike.test:443 HTTP/1.1",
        "PRI * HTTP/2.0",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
        "GET /_sandbox/health",
    ];
    let mut line = maker.pick(&lines).as_bytes().to_vec();
    match maker.chance.below(4) {
        0 => line.extend(maker.noise(30)),
        1 => {
            let at = maker.chance.below(line.len() + 1);
            line.insert(at, maker.byte());
        }
        2 => line.extend(b"a".repeat(maker.pick(&[0, 100, 9000, 100_000]))),
        _ => {}
    }
    let newline = maker.pick(&["\r\n", "\r\n", "\n", "\r", ""]);
    Case::anything([&line, newline.as_bytes(), END.as_bytes()].concat())
}

/// Well-formed requests for things that there are or are not.
pub fn path(maker: &mut Maker) -> Case {
    let paths = [
        "/",
        "//",
        "/api",
        "/api/v1/",
        "/api/v2/session/",
        "/api/v2/session/create/",
        "/api/v2//session/create",
        "/api/v2/session/%63reate",
        "/api/v2/session/../session/create",
        "/api/v2/token",
        "/api/v1/token",
        "/api/v1/token/info",
        "/api/v1/wallet/balance",
        "/_sandbox",
        "/_sandbox/",
        "/_sandbox/health",
        "/_sandbox/ledger",
        "/_sandbox/ledger?project=",
        "/_sandbox/ledger?after=x&limit=-1",
        "/_sandbox/ledger?limit=99999999999999999999",
        "/_sandbox/ledger?project=%ff%00",
        "/_sandbox/ledger/events",
        "/_sandbox/ledger/events?session=",
        "/_sandbox/ledger/events?session=%E0%A4%A",
        "/_sandbox/report?project=shop&cut=%00",
        "/_sandbox/sessions?limit=1e9",
    ];
    let verb = maker.pick(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW", "M-S"]);
    let mut path = maker.pick(&paths).to_owned();
    if maker.chance.below(3) == 0 {
        let more = "abcXYZ019-._~!$&'()*+,;=:@/?%25".as_bytes();
        path.extend((0..maker.chance.below(40)).map(|_| char::from(maker.pick(more))));
    }
    let bytes = format!("{verb} {path} HTTP/1.1\r\nContent-Length: 0\r\n{END}").into_bytes();
    Case { bytes, expects: Expects::Answers(1), is_call: path.starts_with("/api/v") && verb == "POST" }
}

pub fn header_soup(maker: &mut Maker) -> Case {
    let lines = [
        "no colon",
        ": no name",
        "",
        "X-PARTNER-PROJECT : shop",
        "X PARTNER PROJECT: shop",
        "X-PARTNER-PROJECT: shop\r\n folded",
        "X-PARTNER-PROJECT:",
        "x-partner-sign: \u{0}",
        "X-PARTNER-SIGN: \u{7f}",
        "Host: a\r\nHost: b",
        "Expect: 100-continue",
        "Expect: nothing",
        "Upgrade: h2c\r\nConnection: upgrade",
        "Connection: keep-alive, close, upgrade, x",
        "Transfer-Encoding: gzip",
        "Content-Encoding: gzip",
        "Content-Type: \u{1f980}",
        "Content-Type: multipart/form-data",
        "Range: bytes=0-",
        "Cookie: a=b; c",
        "\u{e9}t\u{e9}: non",
    ];
    let mut head = b"POST /api/v2/session/create HTTP/1.1\r\n".to_vec();
    for _ in 0..maker.chance.below(30) {
        let mut line = maker.pick(&lines).as_bytes().to_vec();
        if maker.chance.below(4) == 0 {
            line = maker.noise(40);
        }
        head.extend(line);
        head.extend(maker.pick(&["\r\n", "\r\n", "\r\n", "\n", "\r"]).as_bytes());
    }
    head.extend(END.as_bytes());
    Case::anything(head)
}

pub fn huge_headers(maker: &mut Maker) -> Case {
    let mut head = "POST /api/v2/session/create HTTP/1.1\r\n".to_owned();
    if maker.chance.below(2) == 0 {
        let size = maker.pick(&[8_000, 70_000, 400_000, 1_500_000]);
        let name = maker.pick(&["X-PARTNER-SIGN", "X-PARTNER-PROJECT", "X-PARTNER-IDEMPOTENCY-KEY", "X-Any"]);
        head.push_str(&format!("{name}: {}\r\n", "a".repeat(size)));
    } else {
        for n in 0..maker.pick(&[90, 101, 500, 5000]) {
            head.push_str(&format!("X-{n}: {}\r\n", maker.printable(20)));
        }
    }
    head.push_str(END);
    Case::anything(head.into_bytes())
}

/// Whole calls whose own headers are anything that a header may be.
pub fn partner_headers(maker: &mut Maker) -> Case {
    let signature = partner_keys().sign(b"{}");
    let mut headers = vec![("X-PARTNER-PROJECT", "shop".to_owned()), ("X-PARTNER-SIGN", signature.clone())];
    let which = maker.chance.below(5);
    let odd = match maker.chance.below(4) {
        0 => maker.printable(400),
        1 => "é\u{80}ÿ".repeat(maker.chance.below(50)),
        2 => signature[..maker.chance.below(signature.len())].to_owned(),
        _ => format!("{signature}{}", maker.printable(8)),
    };
    match which {
        0 | 1 => headers[which].1 = odd,
        2 => headers.push(("X-PARTNER-SIGN", odd)),
        3 => headers.push(("X-PARTNER-IDEMPOTENCY-KEY", odd)),
        _ => headers.push(("X-PARTNER-SUBMERCHANT", odd)),
    }
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Case::call(raw::post("/api/v2/session/create", &headers, b"{}"))
}

/// Where the headers of a whole request end.
fn head_end(request: &[u8]) -> usize {
    request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
}

/// A whole request with its line about the length replaced.
fn with_length(request: &[u8], line: &str) -> Vec<u8> {
    let (head, body) = request.split_at(head_end(request));
    let head = String::from_utf8_lossy(head);
    let at = head.find("Content-Length").unwrap();
    [head[..at].as_bytes(), line.as_bytes(), b"\r\n\r\n", body].concat()
}

pub fn wrong_length(maker: &mut Maker) -> Case {
    let request = maker.good();
    let length = request.len() - head_end(&request);
    let lines = [
        format!("Content-Length: {}", maker.chance.below(length)),
        format!("Content-Length: {}", length + 1 + maker.chance.below(1000)),
        format!("Content-Length: {length}\r\nContent-Length: {}", length + 1),
        format!("Content-Length: {length}, {length}"),
        format!("Content-Length: +{length}"),
        format!("Content-Length: {length:#x}"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("Content-Length: {length}abc"),
        "Content-Length: -1".to_owned(),
        "Content-Length:".to_owned(),
        "Content-Length: 18446744073709551615".to_owned(),
        "Content-Length: 18446744073709551616".to_owned(),
        "Content-Length: 99999999999999999999999".to_owned(),
        "X-No-Length: 1".to_owned(),
    ];
    let line = maker.pick(&lines);
    Case::anything(with_length(&request, &line))
}

pub fn chunks(maker: &mut Maker) -> Case {
    let request = maker.good();
    let body = request[head_end(&request)..].to_vec();
    let sizes = [
        format!("{:x}", body.len()),
        format!("{:X};name=\"va;lue\"", body.len()),
        format!("{:x}", body.len() + 5),
        format!("{:x}", body.len() / 2),
        "ffffffffffffffff".to_owned(),
        "fffffffffffffffff".to_owned(),
        "-1".to_owned(),
        "0x5".to_owned(),
        String::new(),
        format!("5{}", ";a".repeat(20_000)),
        "g".to_owned(),
    ];
    let is_good = maker.chance.below(3) == 0;
    let size = if is_good { sizes[0].clone() } else { maker.pick(&sizes) };
    let end = if is_good {
        "0\r\n\r\n"
    } else {
        maker.pick(&["0\r\n\r\n", "0\r\nA: b\r\n\r\n", "0\r\n", "", "\r\n"])
    };
    let chunked = [size.as_bytes(), b"\r\n", &body, b"\r\n", end.as_bytes()].concat();
    let head = with_length(&request[..head_end(&request)], "Transfer-Encoding: chunked");
    let bytes = [head, chunked].concat();
    if is_good { Case::call(bytes) } else { Case::anything(bytes) }
}

pub fn cut_short(maker: &mut Maker) -> Case {
    let mut request = maker.good();
    request.truncate(maker.chance.below(request.len()));
    Case::anything(request)
}

/// Several calls in one write, good and bad in turn: each has its own answer.
pub fn pipeline(maker: &mut Maker) -> Case {
    let count = 2 + maker.chance.below(5);
    let mut bytes = Vec::new();
    for n in 0..count {
        let request = match if n == 0 { 3 } else { maker.chance.below(4) } {
            0 => raw::post("/api/v1/session/status", &[], b"{}"),
            1 => raw::post("/api/v9/session/status", &[("X-PARTNER-PROJECT", "shop")], b""),
            2 => raw::post("/api/v2/session/create", &[("X-PARTNER-PROJECT", "shop")], &[b'x'; 3000]),
            _ => maker.signed("/api/v2/session/create", b"{}"),
        };
        let text = b"Connection: close\r\n";
        let at = request.windows(text.len()).position(|window| window == text).unwrap();
        let keeps = if n + 1 < count { at + text.len() } else { at };
        bytes.extend([&request[..at], &request[keeps..]].concat());
    }
    Case { bytes, expects: Expects::Answers(count), is_call: true }
}

pub fn random(maker: &mut Maker) -> Case {
    let mut noise = maker.noise(2000);
    if maker.chance.below(2) == 0 {
        noise = [b"POST ".as_slice(), &noise, b"\r\n\r\n"].concat();
    }
    Case::anything(noise)
}

pub fn flipped(maker: &mut Maker) -> Case {
    let mut request = maker.good();
    for _ in 0..=maker.chance.below(8) {
        let at = maker.chance.below(request.len());
        request[at] ^= 1 << maker.chance.below(8);
    }
    Case::anything(request)
}
