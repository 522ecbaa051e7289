//! Bodies that are signed as they should be, and should not have been written.

use serde_json::{Value, json};

use super::maker::{Case, Maker, Template, fields_of};

/// Stands in a body for what replaces it, which JSON values can not hold.
const MARK: &str = "\"@@here@@\"";

/// The body with raw text in place of one of its values.
fn replaced(template: &Template, field: &str, by: &[u8]) -> Vec<u8> {
    let mut body = template.body.clone();
    *body.pointer_mut(field).unwrap() = json!(MARK.trim_matches('"'));
    let text = body.to_string();
    let (before, after) = text.split_once(MARK).unwrap();
    [before.as_bytes(), by, after.as_bytes()].concat()
}

/// A good body with raw text at a place that chance chooses.
fn anywhere(maker: &mut Maker, by: &[u8]) -> Case {
    let template = maker.template();
    let field = maker.pick(&fields_of(&template.body));
    let body = replaced(&template, &field, by);
    Case::call(maker.signed(&template.path, &body))
}

/// The same in metadata or the customer, which nobody has to look into.
fn in_an_echo(maker: &mut Maker, by: &[u8]) -> Case {
    loop {
        let template = maker.template();
        let fields: Vec<_> = fields_of(&template.body)
            .into_iter()
            .filter(|field| field.starts_with("/metadata") || field.starts_with("/customer/"))
            .collect();
        if !fields.is_empty() {
            let field = maker.pick(&fields);
            let body = replaced(&template, &field, by);
            return Case::call(maker.signed(&template.path, &body));
        }
    }
}

fn somewhere(maker: &mut Maker, by: &[u8]) -> Case {
    if maker.chance.below(2) == 0 { anywhere(maker, by) } else { in_an_echo(maker, by) }
}

pub fn untouched(maker: &mut Maker) -> Case {
    Case::call(maker.good())
}

pub fn wrong_type(maker: &mut Maker) -> Case {
    let (template, field) = maker.next_field();
    let kinds = ["null", "true", "17", "-1", "0", "1.5", "\"text\"", "\"\"", "[]", "[1]", "{}", "{\"a\":1}"];
    let kind = maker.pick(&kinds);
    Case::call(maker.signed(&template.path, &replaced(&template, &field, kind.as_bytes())))
}

pub fn missing(maker: &mut Maker) -> Case {
    let mut template = maker.template();
    for _ in 0..=maker.chance.below(3) {
        let field = maker.pick(&fields_of(&template.body));
        let (parent, name) = field.rsplit_once('/').unwrap();
        match template.body.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.remove(name)),
            Value::Array(list) => drop(list.pop()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        if template.body == json!({}) {
            break;
        }
    }
    let body = serde_json::to_vec(&template.body).unwrap();
    Case::call(maker.signed(&template.path, &body))
}

pub fn deep(maker: &mut Maker) -> Case {
    let depth = maker.pick(&[1, 20, 100, 120, 126, 127, 128, 129, 1000, 20_000, 100_000]);
    let (open, close) = maker.pick(&[("[", "]"), ("{\"a\":", "}"), ("[{\"a\":[", "]}]")]);
    let ends = maker.chance.below(4) > 0;
    let mut text = open.repeat(depth);
    text.push_str("17");
    if ends {
        text.push_str(&close.repeat(depth));
    }
    if maker.chance.below(8) == 0 {
        return Case::call(maker.signed("/api/v1/session/create", text.as_bytes()));
    }
    somewhere(maker, text.as_bytes())
}

pub fn surrogates(maker: &mut Maker) -> Case {
    let texts =
        ["\\ud800", "\\udfff", "\\ude00\\ud83d", "\\ud83d\\ud83d", "a\\uDBFFz", "\\ud83d", "\\ud83d\\n"];
    let text = maker.pick(&texts);
    if maker.chance.below(3) == 0 {
        return somewhere(maker, format!("{{\"{text}\":1}}").as_bytes());
    }
    somewhere(maker, format!("\"{text}\"").as_bytes())
}

pub fn duplicate(maker: &mut Maker) -> Case {
    let template = maker.template();
    let names = fields_of(&template.body).into_iter().filter(|field| {
        let name = field.rsplit('/').next().unwrap();
        name.parse::<usize>().is_err()
    });
    let field = maker.pick(&names.collect::<Vec<_>>());
    let name = field.rsplit('/').next().unwrap();
    let own = template.body.pointer(&field).unwrap().to_string();
    let twin = maker.pick(&[own.as_str(), "null", "17", "\"other\"", "{}", "[]"]);
    let pair = match maker.chance.below(3) {
        0 => format!("{own},\"{name}\":{twin}"),
        1 => format!("{twin},\"{name}\":{own}"),
        _ => {
            // The same name, spelt otherwise.
            let (first, rest) = name.split_at(1);
            format!("{own},\"\\u{:04x}{rest}\":{twin}", first.as_bytes()[0])
        }
    };
    Case::call(maker.signed(&template.path, &replaced(&template, &field, pair.as_bytes())))
}

pub fn number(maker: &mut Maker) -> Case {
    let long = "9".repeat(1 + maker.chance.below(5000));
    let point = format!("0.{long}");
    let power = format!("1e{}", maker.chance.below(1_000_000));
    let numbers = [
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "-0",
        "-0.0",
        "1e400",
        "-1e400",
        "1e-400",
        "5e-324",
        "1.7976931348623157e308",
        "1e2147483648",
        "1E+2",
        "100.0",
        "0.1e1",
        &long,
        &point,
        &power,
    ];
    let number = maker.pick(&numbers).to_owned();
    if maker.chance.below(3) == 0 {
        let template = amount_template(maker);
        let body = replaced(&template, "/amount_details/amount", number.as_bytes());
        return Case::call(maker.signed(&template.path, &body));
    }
    somewhere(maker, number.as_bytes())
}

fn amount_template(maker: &mut Maker) -> Template {
    loop {
        let template = maker.template();
        if template.body.get("amount_details").is_some() {
            return template;
        }
    }
}

pub fn nul(maker: &mut Maker) -> Case {
    let texts: [&[u8]; 6] =
        [b"\"\\u0000\"", b"\"a\\u0000b\"", b"\"\0\"", b"\0", b"{\"\\u0000\":1}", b"\"ps_\\u0000\""];
    let text = maker.pick(&texts);
    somewhere(maker, text)
}

pub fn not_utf8(maker: &mut Maker) -> Case {
    let bytes: [&[u8]; 8] = [
        b"\xff",
        b"\x80",
        b"\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x82",
    ];
    let bytes = maker.pick(&bytes);
    let quoted = [b"\"", bytes, b"\""].concat();
    match maker.chance.below(3) {
        0 => somewhere(maker, bytes),
        1 => somewhere(maker, &[b"{", quoted.as_slice(), b":1}"].concat()),
        _ => somewhere(maker, &quoted),
    }
}

pub fn broken(maker: &mut Maker) -> Case {
    let template = maker.template();
    let mut body = serde_json::to_vec(&template.body).unwrap();
    let at = maker.chance.below(body.len());
    match maker.chance.below(4) {
        0 => body.truncate(at),
        1 => {
            let noise = maker.noise(20);
            drop(body.splice(at..at, noise));
        }
        2 => drop(body.drain(at..(at + 1 + maker.chance.below(9)).min(body.len()))),
        _ => {
            let more = maker.pick(&["}", "]", ",", "{", "\"", "//", "\u{feff}", "null", "\\", "1"]);
            drop(body.splice(at..at, more.bytes()));
        }
    }
    Case::call(maker.signed(&template.path, &body))
}

pub fn long(maker: &mut Maker) -> Case {
    let length = maker.pick(&[300, 5000, 70_000, 300_000]);
    let unit = maker.pick(&["x", "ж", "\\n", "\\u0416", "4242424242424242"]);
    let text = format!("\"{}\"", unit.repeat(length / unit.len()));
    somewhere(maker, text.as_bytes())
}

pub fn wide(maker: &mut Maker) -> Case {
    let unit = maker.pick(&["0,", "[],", "{},", "null,", "\"\","]);
    let list = format!("[{}0]", unit.repeat(maker.pick(&[10, 1000, 50_000])));
    somewhere(maker, list.as_bytes())
}

pub fn too_large(maker: &mut Maker) -> Case {
    let size = maker.pick(&[1_100_000, 2_500_000]);
    let text = format!("\"{}\"", "x".repeat(size));
    anywhere(maker, text.as_bytes())
}
