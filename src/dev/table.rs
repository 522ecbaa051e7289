//! What `payoutd dev` leaves on the screen: the table of final statuses, the URLs, and lines to paste.

use super::{run::Ports, sample::Shown};
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use secrecy::{ExposeSecret, SecretString};

pub(super) fn render(payouts: &[Shown]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["reference", "destination", "amount", "status", "reason", "what happened"]);
    for payout in payouts {
        let amount = format!("{} {}", payout.amount, payout.currency);
        table.add_row([
            payout.reference.as_deref().unwrap_or("-"),
            &payout.destination.r#type,
            &amount,
            &payout.status,
            payout.reason(),
            payout.because.as_deref().unwrap_or(&payout.status_details.message),
        ]);
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The keys shown here open this machine's own payoutd only.
pub(super) fn print_next_steps(
    ports: &Ports,
    caller: &SecretString,
    approver: &SecretString,
    payouts: &[Shown],
) {
    let (api, caller, approver) = (ports.api, caller.expose_secret(), approver.expose_secret());
    let any = payouts.first().map_or("payout_…", |payout| &payout.id);
    let held = payouts.iter().find(|payout| payout.status == "on_hold").map_or(any, |payout| &payout.id);
    println!(
        r#"
  REST API   http://{api}/v1/payouts
  webhooks   http://{webhook}/pike/demo
  admin      http://{admin}/metrics   /healthz   /readyz
  sandbox    http://{sandbox}/_sandbox/  what really happened, faults on command

Pay somebody:
  curl -sS http://{api}/v1/payouts -H 'Authorization: Bearer {caller}' \
    -H 'Content-Type: application/json' -H "Idempotency-Key: try-$(date +%s)" \
    -d '{{"amount":150000,"currency":"RUB","customer_reference":"user-77",
         "recipient":{{"name":"Anna Petrova"}},
         "destination":{{"type":"tokenized_card","token":"tok_success_try"}}}}'

Read a payout's whole story:
  curl -sS http://{api}/v1/payouts/{any}/history -H 'Authorization: Bearer {caller}'

Approve the one that is on hold (with another key than the one that created it):
  curl -sS -X POST http://{api}/v1/payouts/{held}/approve -H 'Authorization: Bearer {approver}'

Ctrl-C stops everything; the next start finds the data still there."#,
        webhook = ports.webhook,
        admin = ports.admin,
        sandbox = ports.sandbox,
    );
}
