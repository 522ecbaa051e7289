//! One mistake at a time: what is written, and how the one problem that must come of it begins.

use super::*;

/// Lines in pairs: the settings, with `|` for a new line, and the problem's beginning.
const IN_SECTIONS: &str = r#"
[pike] | total_timout = "9s"
pike.total_timout: is not a known key; did you mean total_timeout? known here: base_url, api_version
[pikes]
pikes: is not a known key; did you mean pike? known here: database, api
[zzzzzzzzz]
zzzzzzzzz: is not a known key; known here: database, api
[projects.main.notify]
projects.main.notify: is not a known key;
["a\nb"]
a\nb: is not a known key;
[pike] | total_timeout = 9
pike.total_timeout: is a whole number, not a duration in quotes, like "30s"; 100ms to 1m
[pike] | total_timeout = "9"
pike.total_timeout: "9" is not a duration like "30s" or "5m"; 100ms to 1m
[pike] | total_timeout = "2m"
pike.total_timeout: "2m" is out of range; 100ms to 1m
[pike] | max_in_flight = 0
pike.max_in_flight: 0 is out of range; 1 to 1024
[pike] | max_in_flight = 1025
pike.max_in_flight: 1025 is out of range; 1 to 1024
[pike] | max_in_flight = 1.5
pike.max_in_flight: is a number with a fraction, not a whole number; 1 to 1024
[pike] | second_start_refused = "no"
pike.second_start_refused: is a text, not true or false without quotes; true or false
[pike] | api_version = "v3"
pike.api_version: "v3" is not one of the words; "v2" or "v1"
[pike] | base_url = "http://pike.example"
pike.base_url: the value, not repeated here, does not fit; https://host or
[pike] | base_url = "https://proxy.pikepayments.com"
pike.base_url: leads to Pike's live environment, and this is a debug build; another address, or a release
[api] | listen = 8080
api.listen: is a whole number, not a text in quotes; an IP address and a port
[api] | listen = "localhost:1"
api.listen: "localhost:1" does not fit; an IP address and a port
[log] | level = "inof"
log.level: "inof" does not fit; off, error, warn, info
[log] | level = 1979-05-27
log.level: is a date or time, not a text
[shutdown] | grace = []
shutdown.grace: is a list, not a duration
[[polling]]
polling: is a list, not a section; a section [polling]
[rules] | file = ""
rules.file: is empty; the name of a file
[attempts] | max = 6
attempts.max: 6 is out of range; 1 to 5
[attempts] | max = 2
attempts.codes: is empty, so that no payout gets 2 attempts; at least one code, or attempts.max = 1
[attempts] | codes = ["provider_timeuot"]
attempts.codes: "provider_timeuot" does not fit; a list of up to 30, each a failure code that
[attempts] | codes = ["provider_timeout", "session_cancelled_by_partner"]
attempts.codes: "session_cancelled_by_partner" does not fit; a list
[attempts] | pause = "0s"
attempts.pause: "0s" is out of range; 1s to 1day
[effects] | lease = "19s"
effects.lease: 19s may end during a call to Pike; at least 20s: pike.total_timeout + pike.connect_timeout
[pike] | connect_timeout = "16s" | [effects] | lease = "2m"
pike.connect_timeout: 16s is longer than pike.total_timeout; at most 15s, or a longer pike.total_timeout
[polling] | first = "31s"
polling.first: 31s is longer than polling.steady; at most 30s, or a longer polling.steady
[polling] | longest = "29s"
polling.steady: 30s is longer than polling.longest; at most 29s
[effects] | retry_longest = "400ms"
effects.retry_first: 500ms is longer than effects.retry_longest;
[notifications] | retry_longest = "1s"
notifications.retry_first: 5s is longer than notifications.retry_longest;
[notifications] | give_up_after = "1h"
notifications.retry_longest: 6h is longer than notifications.give_up_after;
[holds] | margin = "4h"
holds.margin: 4h leaves no time for a person to decide; less than pike.confirm_window (4h)
[admin] | listen = "127.0.0.1:8080"
admin.listen: 127.0.0.1:8080 is also api.listen; an address of its own
"#;

/// The same within `[projects.main]`.
const IN_A_PROJECT: &str = r#"
pike_projct = ""
pike_projct: is not a known key; did you mean pike_project? known here: pike_project, submerchant
submerchant = "a b"
submerchant: "a b" does not fit; up to 100 visible
webhook_scheme = "md5"
webhook_scheme: "md5" is not one of the words; "pike-rsa-sha256" or "hmac-sha256"
webhook_scheme = "hmac-sha256"
webhook_secret_file: is missing; a file with the gateway's secret
webhook_signature_header = "a:b"
webhook_signature_header: "a:b" does not fit; the name of an HTTP header
notify_url = "https://a.example/h"
notify_secret_file: is missing; a file with the secret to sign with
notify_url = "a.example"
notify_url: the value, not repeated here, does not fit; an http(s)://
notify_url = "http://a.example" | notify_secret_file = "notify.secret"
notify_url: is not encrypted; https://
notify_secret_file = "whsec_c2VjcmV0"
notify_secret_file: the value, not repeated here, does not fit; the name of a file
webhook_scheme = "hmac-sha256" | webhook_secret_file = "short.secret"
webhook_secret_file: short.secret does not hold such a secret; one line of 32
notify_url = "https://a.example" | notify_secret_file = "short.secret"
notify_secret_file: short.secret does not hold such a secret; one line: whsec_
"#;

/// The file named by `signing_key_file`, and the problem's beginning.
const SIGNING_KEYS: &str = r#"
no.pem
signing_key_file: no.pem does not exist; a readable file
.
signing_key_file: . is not a regular file;
huge.pem
signing_key_file: huge.pem is larger than 65536 bytes;
binary.pem
signing_key_file: binary.pem is not UTF-8 text;
open.pem
signing_key_file: open.pem can be read or changed by others (mode 0644); only its owner may have access: chmod
group.pem
signing_key_file: group.pem can be read or changed by others (mode 0640);
encrypted.pem
signing_key_file: encrypted.pem is an encrypted private key
certificate.pem
signing_key_file: certificate.pem holds PEM of another kind; one unencrypted PEM block
public.pem
signing_key_file: public.pem holds a public key where the private key is wanted
short.secret
signing_key_file: short.secret is not PEM text
"#;

fn pairs(table: &str) -> Vec<(String, &str)> {
    let lines: Vec<&str> = table.trim().lines().collect();
    lines.chunks(2).map(|pair| (pair[0].replace(" | ", "\n"), pair[1])).collect()
}

/// Key files with every kind of fault; returns a line of the private key, to look for in messages.
fn faulty_keys(desk: &Desk) -> String {
    let private = fs::read_to_string(desk.0.path().join("payoutd.key.pem")).unwrap();
    let public = fs::read_to_string(desk.0.path().join("pike.pub.pem")).unwrap();
    desk.0.file("open.pem", &private, 0o644);
    desk.0.file("group.pem", &private, 0o640);
    desk.0.file("encrypted.pem", &private.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), 0o600);
    desk.0.file("certificate.pem", &private.replace("PRIVATE KEY", "CERTIFICATE"), 0o600);
    desk.0.file("public.pem", &public, 0o600);
    desk.0.file("short.secret", "hunter2\n", 0o600);
    desk.0.file("huge.pem", &"A".repeat(65_537), 0o600);
    let binary = desk.0.file("binary.pem", "", 0o600);
    fs::write(binary, [0xff, 0xfe]).unwrap();
    private.lines().nth(1).unwrap().to_owned()
}

#[test]
fn in_sections() {
    let desk = Desk::new();
    for (settings, expected) in pairs(IN_SECTIONS) {
        desk.one(&good(&settings), expected);
    }
    for settings in [
        "[effects]\nlease = \"20s\"",
        "[holds]\nmargin = \"239m\"",
        "[pike]\nmax_in_flight = 1024",
        "[pike]\ntotal_timeout = \"100ms\"\nconnect_timeout = \"100ms\"",
        "[admin]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"127.0.0.1:0\"",
    ] {
        desk.load(&good(settings)).unwrap();
    }
}

#[test]
fn in_a_project() {
    let desk = Desk::new();
    faulty_keys(&desk);
    for (settings, expected) in pairs(IN_A_PROJECT) {
        desk.one(&good(&settings), &format!("projects.main.{expected}"));
        assert!(!desk.lines(&good(&settings))[0].contains("hunter2"));
    }
}

#[test]
fn of_missing_parts() {
    let desk = Desk::new();
    desk.one(DATABASE, "projects: none is set up; at least one section [projects.<name>]");
    let renamed = good("").replace("projects.main", "projects.Main");
    desk.one(&renamed, "projects.Main: is not a name for a project; a name of 1 to 40 lower-case");
    for (key, expected) in [
        ("pike_project =", "pike_project: is missing; 1 to 100 visible ASCII characters"),
        ("signing_key_file =", "signing_key_file: is missing; the name of a file"),
        ("pike_public_key_files =", "pike_public_key_files: is missing; 1 to 4 files with public keys"),
    ] {
        let rest: Vec<&str> = PROJECT.lines().filter(|line| !line.starts_with(key)).collect();
        desk.one(&format!("{DATABASE}{}\n", rest.join("\n")), &format!("projects.main.{expected}"));
    }
    let keys = |count| good("").replace("\"pike.pub.pem\"", &"\"pike.pub.pem\",".repeat(count));
    desk.load(&keys(4)).unwrap();
    let expected =
        "projects.main.pike_public_key_files: 5 entries are too many; a list of up to 4, each the name";
    desk.one(&keys(5), expected);
}

#[test]
fn of_key_files_without_their_contents() {
    let desk = Desk::new();
    let inside = faulty_keys(&desk);
    for (file, expected) in pairs(SIGNING_KEYS) {
        let settings = good("").replace("payoutd.key.pem", &file);
        desk.one(&settings, &format!("projects.main.{expected}"));
        let shown = desk.lines(&settings).join("\n");
        assert!(!shown.contains(&inside) && !shown.contains("hunter2"), "{shown}");
    }
    let swapped = good("").replace("pike.pub.pem", "payoutd.key.pem");
    let expected =
        "pike_public_key_files: payoutd.key.pem holds a private key where the public key is wanted";
    desk.one(&swapped, &format!("projects.main.{expected}"));
}
