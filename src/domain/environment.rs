//! Which of Pike's worlds an address leads to: the one where money is real, its double for tests, or one that
//! the address does not tell. What belongs to one must never be used in another.

/// One of Pike's worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    Live,
    Demo,
    /// A sandbox, or a gateway that may lead anywhere.
    Elsewhere,
}

/// Everything under it is Pike's.
const DOMAIN: &str = "pikepayments.com";
/// The one address of Pike's that is known to move no real money.
const DEMO: &str = "proxy-demo.pikepayments.com";

impl Environment {
    /// An address of Pike's that we do not know counts as live.
    #[must_use]
    pub fn of_host(host: &str) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let under = host.strip_suffix(DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        match (under, host == DEMO) {
            (true, true) => Self::Demo,
            (true, false) => Self::Live,
            (false, _) => Self::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pikes_and_not_known_to_be_for_tests_is_live() {
        for (host, expected) in [
            ("proxy.pikepayments.com", Environment::Live),
            ("PROXY.PikePayments.com.", Environment::Live),
            ("pikepayments.com", Environment::Live),
            ("proxy-2.pikepayments.com", Environment::Live),
            ("proxy-demo.pikepayments.com", Environment::Demo),
            ("proxy-demo.pikepayments.com.example", Environment::Elsewhere),
            ("notpikepayments.com", Environment::Elsewhere),
            ("127.0.0.1", Environment::Elsewhere),
            ("sandbox", Environment::Elsewhere),
        ] {
            assert_eq!(Environment::of_host(host), expected, "{host}");
        }
    }
}
