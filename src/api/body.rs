//! From bytes to a typed request: content type, size, time, syntax, shape. What comes out has the right
//! types; whether its values make sense is for whoever asked. Names of our own fields appear in problems,
//! values never.

use super::{
    codes::Code,
    problem::{FieldError, Problem, shown},
    text,
};
use crate::http::{BodyError, read_body};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_path_to_error::{Path, Segment};
use std::{fmt, marker::PhantomData, time::Duration};

/// The largest body. A request with every text at its limit has a third of it.
pub const BODY_BYTES: usize = 64 * 1024;
/// The longest that a whole body may take to arrive: callers are near, and a waiting body holds a connection.
pub const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Field names that are only ever sent by someone who sends a card number along.
const CARD_FIELDS: [&str; 11] = [
    "number",
    "pan",
    "card_number",
    "card",
    "bank_card",
    "cvv",
    "cvc",
    "security_code",
    "expiration_month",
    "expiration_year",
    "cardholder_name",
];
/// The longest name of a field that is worth repeating.
const SHOWN_NAME_CHARS: usize = 40;

/// The JSON body of a request.
pub(super) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    media_type(headers)?;
    parse(&read(body, BODY_BYTES, BODY_WITHIN).await?)
}

/// The body of a request that has nothing to say: empty or `{}`.
pub(super) async fn nothing(headers: &HeaderMap, body: Body) -> Result<(), Problem> {
    let bytes = read(body, BODY_BYTES, BODY_WITHIN).await?;
    if bytes.is_empty() {
        return Ok(());
    }
    media_type(headers)?;
    parse::<Nothing>(&bytes).map(|Nothing {}| ())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse =
        || Problem::new(Code::UnsupportedMediaType, "Send `Content-Type: application/json`, not encoded.");
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(refuse()) };
    let value = value.to_str().map_err(|_| refuse())?.to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let json = parts.next() == Some("application/json")
        && parts.all(|parameter| matches!(parameter, "" | "charset=utf-8" | "charset=\"utf-8\""));
    if !json || headers.contains_key(header::CONTENT_ENCODING) {
        return Err(refuse());
    }
    Ok(())
}

/// The one place where bodies are read.
async fn read(body: Body, limit: usize, within: Duration) -> Result<Bytes, Problem> {
    read_body(body, limit, within).await.map_err(|error| match error {
        BodyError::TooLarge { .. } => {
            let detail = format!("A body may have {limit} bytes.");
            Problem::new(Code::BodyTooLarge, detail).limit(shown(limit))
        }
        BodyError::TooSlow { .. } => {
            let detail = format!("A body must arrive within {} s.", within.as_secs());
            Problem::new(Code::BodyTooSlow, detail)
        }
        BodyError::Broken(_) => Problem::new(Code::BodyBroken, "The body ended before it was complete."),
    })
}

/// Parses the whole of `bytes` as one `T`.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let Object(parsed) = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let path = error.path().clone();
        problem(&path, error.inner())
    })?;
    source.end().map_err(|error| malformed(&error))?;
    Ok(parsed)
}

fn problem(path: &Path, error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    if !error.is_data() && !message.starts_with("number out of range") {
        return malformed(error);
    }
    Problem::of_fields(vec![misshapen(path, &message)])
}

fn malformed(error: &serde_json::Error) -> Problem {
    let detail = format!("Not JSON from line {}, column {} on.", error.line(), error.column());
    Problem::new(Code::MalformedJson, detail)
}

/// What serde says, without the values that it quotes.
fn misshapen(path: &Path, message: &str) -> FieldError {
    if let Some(name) = named(message, "missing field `") {
        return FieldError::new(join(path, Some(name)), Code::MissingField, "It must be there.");
    }
    if let Some(name) = named(message, "duplicate field `") {
        return FieldError::new(join(path, Some(name)), Code::DuplicateField, "It occurs twice.");
    }
    let field = join(path, None);
    if let Some(name) = named(message, "unknown field `") {
        if CARD_FIELDS.contains(&name.to_ascii_lowercase().as_str()) {
            return text::raw_card(&field);
        }
        return FieldError::new(field, Code::UnknownField, "There is no such field.");
    }
    // Only the last such words are serde's own for sure: what precedes them may quote the request.
    let expected = message.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
    let expected = expected.split_once(" at line ").map_or(expected, |(expected, _)| expected);
    FieldError::new(field, Code::WrongType, format!("It must be {expected}."))
}

fn named<'a>(message: &'a str, words: &str) -> Option<&'a str> {
    message.strip_prefix(words)?.split_once('`').map(|(name, _)| name)
}

/// The path as text. Names that the caller made up appear only if they look like names.
fn join(path: &Path, last: Option<&str>) -> String {
    let segments = path.iter().map(|segment| match segment {
        Segment::Seq { index } => index.to_string(),
        Segment::Map { key } => shown_name(key).to_owned(),
        Segment::Enum { variant } => shown_name(variant).to_owned(),
        Segment::Unknown => "?".to_owned(),
    });
    let last = last.map(|name| shown_name(name).to_owned());
    let joined: Vec<String> = segments.chain(last).filter(|part| part != ".").collect();
    joined.join(".")
}

/// A caller's name for something, or `?` when it had better not be repeated.
pub(super) fn shown_name(name: &str) -> &str {
    let rule = text::Rule { shortest: 1, longest: SHOWN_NAME_CHARS, alphabet: text::Alphabet::Name };
    if rule.check("", name).is_none() { name } else { "?" }
}

/// A `T` that is written as an object. Without this, serde would take an array of the fields' values as well.
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        source.deserialize_map(Fields(PhantomData))
    }
}

/// An integer; one that does not fit becomes the largest that does, for the range check to refuse.
pub(super) fn integer<'de, D: Deserializer<'de>>(source: D) -> Result<i64, D::Error> {
    struct Integer;
    impl Visitor<'_> for Integer {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer")
        }

        fn visit_i64<E>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }

        fn visit_u64<E>(self, value: u64) -> Result<i64, E> {
            Ok(i64::try_from(value).unwrap_or(i64::MAX))
        }
    }
    source.deserialize_i64(Integer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use futures_util::{StreamExt, stream};
    use std::io;

    fn typed(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_plain_json_is_read() {
        for good in
            ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""]
        {
            assert!(media_type(&typed(good)).is_ok(), "{good}");
        }
        for bad in ["", "text/json", "application/jsonx", "application/json; charset=latin1", "text/plain"] {
            assert_eq!(media_type(&typed(bad)).unwrap_err().code(), Code::UnsupportedMediaType, "{bad}");
        }
        assert!(media_type(&HeaderMap::new()).is_err());
        let mut twice = typed("application/json");
        twice.append(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(media_type(&twice).is_err());
        let mut encoded = typed("application/json");
        encoded.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(media_type(&encoded).is_err());
    }

    #[tokio::test]
    async fn bodies_end_at_their_limits() {
        let within = Duration::from_secs(5);
        let full = read(Body::from(vec![b' '; BODY_BYTES]), BODY_BYTES, within).await.unwrap();
        assert_eq!(full.len(), BODY_BYTES);
        let over = read(Body::from(vec![b' '; BODY_BYTES + 1]), BODY_BYTES, within).await;
        assert_eq!(over.unwrap_err().code(), Code::BodyTooLarge);

        let drip = stream::iter([Ok::<_, io::Error>("{")]).chain(stream::pending());
        let slow = read(Body::from_stream(drip), BODY_BYTES, Duration::from_millis(20)).await;
        assert_eq!(slow.unwrap_err().code(), Code::BodyTooSlow);

        let torn = stream::iter([Ok("{"), Err(io::Error::other("reset"))]);
        let torn = read(Body::from_stream(torn), BODY_BYTES, within).await;
        assert_eq!(torn.unwrap_err().code(), Code::BodyBroken);
    }

    #[tokio::test]
    async fn a_request_without_content_may_say_so_in_two_ways() {
        assert!(nothing(&HeaderMap::new(), Body::empty()).await.is_ok());
        assert!(nothing(&typed("application/json"), Body::from("{}")).await.is_ok());
        for (headers, body, code) in [
            (HeaderMap::new(), "{}", Code::UnsupportedMediaType),
            (typed("application/json"), "{\"force\":true}", Code::UnknownField),
            (typed("application/json"), "[1]", Code::WrongType),
            (typed("application/json"), "{", Code::MalformedJson),
        ] {
            assert_eq!(nothing(&headers, Body::from(body)).await.unwrap_err().code(), code, "{body}");
        }
    }

    #[test]
    fn made_up_names_are_repeated_only_if_they_are_names() {
        assert_eq!(shown_name("order_id"), "order_id");
        for bad in ["4111111111111111", "a b", "", &"x".repeat(SHOWN_NAME_CHARS + 1), "<script>"] {
            assert_eq!(shown_name(bad), "?", "{bad}");
        }
    }
}
