//! O9: card numbers, tokens and secrets are nowhere after a run: not in a log, not in a row.

use crate::{
    evidence::rows,
    load::CARD_NUMBER,
    oracle::{Finding, Promise},
    scene::Scene,
    support::{hidden, keys},
};

/// What must be nowhere, with a word for it.
fn secrets(scene: &Scene) -> Vec<(&'static str, String)> {
    let mut all = vec![("a card number", CARD_NUMBER.to_owned())];
    // How every token of ours begins.
    all.push(("a token", "tok_".to_owned()));
    all.extend(scene.keys.iter().map(|key| ("an API key", key.clone())));
    let secret = keys::text("notify.secret").trim();
    all.push(("the secret for notifications", secret.trim_start_matches("whsec_").to_owned()));
    let line = keys::text("payoutd.key.pem").lines().nth(1).unwrap();
    all.push(("the private key", line.to_owned()));
    all
}

/// Looks through the replicas' logs and every table.
pub async fn look(scene: &Scene, findings: &mut Vec<Finding>) {
    let secrets = secrets(scene);
    let mut places = vec![];
    for n in 0..scene.callers().len() {
        places.push((format!("the log of replica {n}"), scene.log(n)));
    }
    let tables = "SELECT table_name FROM information_schema.tables
        WHERE table_schema = 'public' AND table_type = 'BASE TABLE'";
    for table in rows(&scene.pool, tables).await {
        let name = table["table_name"].as_str().unwrap();
        // A webhook's bytes are kept as they came, so they are read as text.
        let sql = match name {
            "inbox" => "SELECT convert_from(body, 'UTF8') AS body FROM inbox".to_owned(),
            // What waits for a person may still have to be started.
            "payouts" => {
                "SELECT * FROM payouts WHERE next_check_at IS NULL OR state = 'succeeded'".to_owned()
            }
            _ => format!("SELECT * FROM {name}"),
        };
        let text: Vec<String> = rows(&scene.pool, &sql).await.iter().map(ToString::to_string).collect();
        places.push((format!("table {name}"), text.join("\n")));
    }
    for (place, text) in &places {
        for (what, _) in secrets.iter().filter(|(_, secret)| hidden::is_in(text, secret)) {
            let text = format!("{what} is in {place}");
            findings.push(Finding { promise: Promise::NoSecretAnywhere, text });
        }
    }
}
