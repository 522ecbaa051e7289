//! Keys really sign and verify, files are private, nothing is overwritten, and faults are named.

use super::*;
use crate::config::scratch::Scratch;
use aws_lc_rs::{rand::SystemRandom, signature::RSA_PKCS1_SHA256};
use std::os::unix::fs::PermissionsExt;

fn names(files: &[PathBuf]) -> Vec<&str> {
    files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect()
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn generated_keys_sign_and_verify() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("deep/keys");
    let files = generate(&dir, ForSandbox::Yes).unwrap();
    assert_eq!(
        names(&files),
        ["payoutd.key.pem", "payoutd.pub.pem", "notify.secret", "pike.key.pem", "pike.pub.pem"]
    );
    assert_eq!(mode(&dir), 0o700);
    for pair in ["payoutd", "pike"] {
        let private = fs::read_to_string(dir.join(format!("{pair}.key.pem"))).unwrap();
        let public = fs::read_to_string(dir.join(format!("{pair}.pub.pem"))).unwrap();
        assert!(private.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        let (signing, verifying) = (signing_key(&private).unwrap(), verifying_key(&public).unwrap());
        let mut signature = vec![0; signing.public_modulus_len()];
        assert_eq!(signature.len(), 256);
        signing.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"{}", &mut signature).unwrap();
        assert!(verifying.verify_sig(b"{}", &signature).is_ok());
        assert!(verifying.verify_sig(b"{ }", &signature).is_err());
    }
    for file in &files {
        let public = file.to_str().unwrap().ends_with(".pub.pem");
        assert!(public || mode(file) == 0o600, "{}", file.display());
    }
}

#[test]
fn without_the_sandbox_there_are_three_files_and_a_second_run_writes_nothing() {
    let scratch = Scratch::new();
    let files = generate(scratch.path(), ForSandbox::No).unwrap();
    assert_eq!(names(&files), ["payoutd.key.pem", "payoutd.pub.pem", "notify.secret"]);
    let before = fs::read(&files[0]).unwrap();
    fs::remove_file(&files[2]).unwrap();
    let error = generate(scratch.path(), ForSandbox::Yes).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("payoutd.key.pem exists") && message.contains("move it away"), "{message}");
    assert_eq!(fs::read(&files[0]).unwrap(), before);
    assert!(!files[2].exists() && !scratch.path().join("pike.key.pem").exists());
}

#[test]
fn a_dangling_link_is_not_written_through() {
    let scratch = Scratch::new();
    let target = scratch.path().join("elsewhere");
    std::os::unix::fs::symlink(&target, scratch.path().join("notify.secret")).unwrap();
    assert!(matches!(generate(scratch.path(), ForSandbox::No), Err(KeysError::Exists { .. })));
    assert!(!target.exists());
}

#[test]
fn secrets_have_their_form_and_differ() {
    let notify = new_notify_secret().unwrap();
    let encoded = notify.expose_secret().strip_prefix(NOTIFY_SECRET_PREFIX).unwrap();
    assert_eq!(STANDARD.decode(encoded).unwrap().len(), 32);
    let (one, two) = (new_webhook_secret().unwrap(), new_webhook_secret().unwrap());
    assert_eq!(one.expose_secret().len(), 64);
    assert!(one.expose_secret().bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_ne!(one.expose_secret(), two.expose_secret());
}

#[test]
fn a_secret_is_written_once_and_for_its_owner_only() {
    let scratch = Scratch::new();
    let file = scratch.path().join("webhook.secret");
    write_secret(&file, &SecretString::from("one")).unwrap();
    assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("one\n", 0o600));
    assert!(matches!(write_secret(&file, &SecretString::from("two")), Err(KeysError::Exists { .. })));
    assert_eq!(fs::read_to_string(&file).unwrap(), "one\n");
}

#[test]
fn faults_are_told_apart() {
    let pair = new_pair().unwrap();
    let (private, public) = (pair.private.expose_secret(), pair.public.as_str());
    let old_encrypted = private.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
    let relabelled = |label: &str| private.replace("PRIVATE KEY", label);
    for (text, fault) in [
        (String::new(), KeyFault::NotPem),
        ("no key".to_owned(), KeyFault::NotPem),
        (format!("{private}{private}"), KeyFault::Several),
        (relabelled("ENCRYPTED PRIVATE KEY"), KeyFault::Encrypted),
        (old_encrypted, KeyFault::Encrypted),
        (public.to_owned(), KeyFault::PublicForPrivate),
        (relabelled("CERTIFICATE"), KeyFault::OtherLabel),
        (relabelled("OPENSSH PRIVATE KEY"), KeyFault::OtherLabel),
        (to_pem("PRIVATE KEY", b"rubbish"), KeyFault::NotRsa),
    ] {
        assert_eq!(signing_key(&text).unwrap_err(), fault);
    }
    assert_eq!(verifying_key(private).unwrap_err(), KeyFault::PrivateForPublic);
    assert_eq!(verifying_key(&to_pem("PUBLIC KEY", b"rubbish")).unwrap_err(), KeyFault::NotRsa);
    assert_eq!(verifying_key(&relabelled("CERTIFICATE")).unwrap_err(), KeyFault::OtherLabel);
}

#[test]
fn nothing_secret_is_printed() {
    let pair = new_pair().unwrap();
    let shown = format!("{pair:?}");
    assert!(!shown.contains("PRIVATE"), "{shown}");
}
