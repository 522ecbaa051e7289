//! §1.3, §1.4: who calls, and that the caller signed these bytes.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::partner::{Partner, Version};
use super::shape;
use crate::raw::{self, Message};
use crate::support::{World, partner_keys, pike_keys};

/// What the vendor's SDK signs in its own test (§1.4), and with what.
const VECTOR_KEY: &str = include_str!("../vector/pkcs8.pem");
const VECTOR_PUBLIC_KEY: &str = include_str!("../vector/spki.pem");
const VECTOR_SIGNATURE: &str = include_str!("../vector/signature_of_empty_object.txt");

const METHODS: [&str; 6] = [
    "session/create",
    "session/start/payout",
    "session/init/payout",
    "session/confirm",
    "session/cancel",
    "session/status",
];

fn sign(pair: &KeyPair, how: &'static dyn RsaEncoding, body: &[u8]) -> String {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(how, &SystemRandom::new(), body, &mut signature).unwrap();
    STANDARD.encode(signature)
}

fn public_pem(pair: &KeyPair) -> String {
    pem::encode(&pem::Pem::new("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref()))
}

/// A create of `{}` with these headers.
async fn create(partner: &Partner, headers: &[(&str, &str)]) -> Message {
    partner.send("session/create", headers, b"{}").await
}

#[tokio::test]
async fn every_method_wants_a_project_that_it_knows() {
    let world = World::open().await;
    let good = partner_keys().sign(b"{}");
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for method in METHODS {
            for project in [None, Some(""), Some("nobody"), Some("SHOP"), Some("shop,other"), Some("sh op")] {
                let sign = ("X-PARTNER-SIGN", good.as_str());
                let headers: Vec<_> =
                    project.map(|project| ("X-PARTNER-PROJECT", project)).into_iter().chain([sign]).collect();
                let answer = partner.send(method, &headers, b"{}").await;
                shape::refusal(&answer, 401, "identification_error");
            }
        }
    }
}

#[tokio::test]
async fn every_method_wants_a_signature_of_its_body() {
    let world = World::open().await;
    let good = partner_keys().sign(b"{}");
    let (of_others, by_another) = (partner_keys().sign(b"{ }"), pike_keys().sign(b"{}"));
    let wrong: [Option<&str>; 6] =
        [None, Some(""), Some("AAAA"), Some(&of_others), Some(&by_another), Some("not base64!")];
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for method in METHODS {
            for signature in wrong {
                let project = ("X-PARTNER-PROJECT", "shop");
                let sign = signature.map(|signature| ("X-PARTNER-SIGN", signature));
                let headers: Vec<_> = [project].into_iter().chain(sign).collect();
                let answer = partner.send(method, &headers, b"{}").await;
                shape::refusal(&answer, 401, "authentication_error");
            }
            // Signed well, every method gets further: it is the body that is not enough, or it is.
            let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", good.as_str())];
            let answer = partner.send(method, &headers, b"{}").await;
            let expected = if method == "session/create" { 200 } else { 400 };
            assert_eq!(answer.http(), expected, "{method}");
        }
    }
}

#[tokio::test]
async fn a_signature_is_in_standard_base64_with_padding_in_one_line() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    // White space around the braces until both alphabets differ in the signature.
    let bodies = (0..).map(|n| format!("{{}}{}", " ".repeat(n)));
    let signed = bodies.map(|body| (partner_keys().sign(body.as_bytes()), body));
    let (good, body) = signed.into_iter().find(|(it, _)| it.contains('+') && it.contains('/')).unwrap();
    let bytes = STANDARD.decode(&good).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let unpadded = good.trim_end_matches('=');
    let (front, back) = good.split_at(172);
    for wrong in [
        URL_SAFE.encode(&bytes),
        unpadded.to_owned(),
        format!("{good}="),
        format!("{unpadded}==="),
        hex.clone(),
        hex.to_uppercase(),
        hex[..64].to_owned(),
        format!("{front} {back}"),
        format!("{front}\t{back}"),
        format!("{front}\\n{back}"),
        format!("\"{good}\""),
        format!("base64,{good}"),
        format!("{good},{good}"),
        good[..342].to_owned(),
        good[4..].to_owned(),
        format!("AAAA{good}"),
        STANDARD.encode(&good),
        STANDARD.encode([0; 256]),
        STANDARD.encode([bytes.as_slice(), &[0]].concat()),
        "A".repeat(6000),
    ] {
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", wrong.as_str())];
        let answer = partner.send("session/create", &headers, body.as_bytes()).await;
        shape::refusal(&answer, 401, "authentication_error");
    }
    // HTTP itself strips what surrounds a value.
    for fine in [good.clone(), format!("  {good}\t ")] {
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", fine.as_str())];
        partner.session(&partner.send("session/create", &headers, body.as_bytes()).await);
    }
}

#[tokio::test]
async fn only_pkcs1_with_sha256_is_a_signature() {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let world = World::open_with(|settings| settings.projects[0].partner_public_key_pem = public_pem(&pair));
    let partner = Partner::of(&world.await, Version::V2);
    let ways: [(&'static dyn RsaEncoding, bool); 3] =
        [(&RSA_PSS_SHA256, false), (&RSA_PKCS1_SHA512, false), (&RSA_PKCS1_SHA256, true)];
    for (way, is_good) in ways {
        let signature = sign(&pair, way, b"{}");
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature.as_str())];
        let answer = create(&partner, &headers).await;
        if is_good {
            partner.session(&answer);
        } else {
            shape::refusal(&answer, 401, "authentication_error");
        }
    }
}

#[tokio::test]
async fn each_project_has_its_own_key() {
    let pair = KeyPair::generate(KeySize::Rsa3072).unwrap();
    let world = World::open_with(|settings| settings.projects[1].partner_public_key_pem = public_pem(&pair));
    let partner = Partner::of(&world.await, Version::V1);
    let (large, small) = (sign(&pair, &RSA_PKCS1_SHA256, b"{}"), partner_keys().sign(b"{}"));
    for (project, signature, is_good) in
        [("shop", &small, true), ("shop", &large, false), ("other", &large, true), ("other", &small, false)]
    {
        let headers = [("X-PARTNER-PROJECT", project), ("X-PARTNER-SIGN", signature.as_str())];
        let answer = create(&partner, &headers).await;
        if is_good {
            partner.session(&answer);
        } else {
            shape::refusal(&answer, 401, "authentication_error");
        }
    }
}

#[tokio::test]
async fn the_sdks_own_signature_is_one_and_ours_is_the_same() {
    let world =
        World::open_with(|settings| settings.projects[0].partner_public_key_pem = VECTOR_PUBLIC_KEY.into());
    let partner = Partner::of(&world.await, Version::V2);
    let signature = VECTOR_SIGNATURE.trim();
    let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature)];
    partner.session(&create(&partner, &headers).await);
    // There is no chance in this padding: whoever signs these bytes with that key writes this.
    let pair = KeyPair::from_pkcs8(pem::parse(VECTOR_KEY).unwrap().contents()).unwrap();
    assert_eq!(sign(&pair, &RSA_PKCS1_SHA256, b"{}"), signature);
    let answer = partner.send("session/create", &headers, b"{ }").await;
    shape::refusal(&answer, 401, "authentication_error");
}

#[tokio::test]
async fn one_signature_serves_every_call_with_the_same_body() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let id = partner.created().await;
    let body = format!("{{\"session_id\":\"{id}\"}}");
    let signature = partner_keys().sign(body.as_bytes());
    // §1.4: neither method nor version is signed, and nothing makes a signature stale.
    for (version, method) in
        [(Version::V1, "session/status"), (Version::V2, "session/status"), (Version::V2, "session/cancel")]
    {
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", signature.as_str())];
        let partner = partner.version(version);
        partner.session(&partner.send(method, &headers, body.as_bytes()).await);
    }
    partner.wait_status(&id, "cancelled").await;
}

#[tokio::test]
async fn header_names_may_be_written_in_any_case() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let good = partner_keys().sign(b"{}");
    for (n, change) in [str::to_lowercase, str::to_uppercase, mixed].into_iter().enumerate() {
        let [project, sign, sub, key] =
            ["X-Partner-Project", "X-Partner-Sign", "X-Partner-Submerchant", "X-Partner-Idempotency-Key"]
                .map(change);
        let (used, fresh) = (format!("k{n}"), format!("fresh{n}"));
        let headers = |value| {
            let own = [(project.as_str(), "shop"), (sign.as_str(), good.as_str())];
            [own, [(sub.as_str(), "legal-1"), (key.as_str(), value)]].concat()
        };
        partner.session(&create(&partner, &headers(&used)).await);
        shape::refusal(&create(&partner, &headers(&used)).await, 400, "idempotency_key_already_exists");
        partner.session(&create(&partner, &headers(&fresh)).await);
    }
}

fn mixed(name: &str) -> String {
    let each =
        |(n, c): (usize, char)| if n % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
    name.chars().enumerate().map(each).collect()
}

#[tokio::test]
async fn a_submerchant_may_be_named_by_anyone() {
    let world = World::open().await;
    for version in Version::BOTH {
        let partner = Partner::of(&world, version);
        for submerchant in ["legal-entity-1", "17", "", " "] {
            let answer =
                partner.signed("session/create", &[("X-PARTNER-SUBMERCHANT", submerchant)], b"{}").await;
            partner.session(&answer);
        }
    }
}

#[tokio::test]
async fn a_header_that_comes_twice_lets_nobody_in_who_may_not() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let (good, bad) = (partner_keys().sign(b"{}"), pike_keys().sign(b"{}"));
    let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", &bad), ("X-PARTNER-SIGN", &bad)];
    shape::refusal(&create(&partner, &headers).await, 401, "authentication_error");
    // One good and one bad: the documents do not know of it, so either way, but in its shape.
    for (first, second) in [(&good, &bad), (&bad, &good), (&good, &good)] {
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", first), ("X-PARTNER-SIGN", second)];
        let answer = create(&partner, &headers).await;
        if answer.http() == 200 {
            partner.session(&answer);
        } else {
            shape::refusal(&answer, 401, "authentication_error");
        }
    }
    for (first, second) in [("shop", "nobody"), ("nobody", "shop"), ("shop", "other")] {
        let headers =
            [("X-PARTNER-PROJECT", first), ("X-PARTNER-PROJECT", second), ("X-PARTNER-SIGN", &good)];
        let answer = create(&partner, &headers).await;
        if answer.http() == 200 {
            partner.session(&answer);
        } else {
            shape::refusal(&answer, 401, "identification_error");
        }
    }
}

#[tokio::test]
async fn a_header_that_is_not_text_is_a_wrong_one() {
    let world = World::open().await;
    let partner = Partner::of(&world, Version::V2);
    let good = partner_keys().sign(b"{}");
    for (name, code) in
        [("X-PARTNER-PROJECT", "identification_error"), ("X-PARTNER-SIGN", "authentication_error")]
    {
        let headers = [("X-PARTNER-PROJECT", "shop"), ("X-PARTNER-SIGN", good.as_str())];
        let request = raw::post("/api/v2/session/create", &headers, b"{}");
        let at = request.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        let mut request = request.clone();
        request.insert(at + name.len() + 2, 0xff);
        shape::refusal(&raw::answer(partner.address, &request).await, 401, code);
    }
}
