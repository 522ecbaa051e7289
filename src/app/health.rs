//! Whether a payoutd that runs elsewhere is ready: what a container asks of itself.

use std::time::Duration;

/// Asks the administration's `/readyz` at this address.
///
/// # Errors
/// When there is no way to ask at all. No answer, and an answer that says no, are `false`.
pub async fn is_ready(url: &str) -> anyhow::Result<bool> {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()?;
    Ok(http.get(url).send().await.is_ok_and(|response| response.status().is_success()))
}
