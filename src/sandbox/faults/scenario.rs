//! A scenario: a seed and rules, from a TOML file or as JSON over the control API.

use serde_json::Value;

use super::book::MOST_RULES;
use super::rule::Rule;

/// What a scenario says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenario {
    /// Where the dice start; the sandbox's own seed when left out.
    pub seed: Option<u64>,
    pub rules: Vec<Rule>,
}

impl Scenario {
    /// Reads a TOML file's text.
    ///
    /// # Errors
    /// A sentence that says where it is wrong.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let value: toml::Value = toml::from_str(text).map_err(|error| error.to_string())?;
        Self::read(serde_json::to_value(value).map_err(|error| error.to_string())?)
    }

    /// Reads the same as JSON.
    ///
    /// # Errors
    /// A sentence that says where it is wrong.
    pub fn read(value: Value) -> Result<Self, String> {
        let Value::Object(object) = value else { return Err("a scenario is an object".to_owned()) };
        let mut scenario = Self::default();
        for (key, value) in object {
            match (key.as_str(), value) {
                ("seed", value) => {
                    scenario.seed = Some(value.as_u64().ok_or("`seed` is a whole number from 0")?);
                }
                ("fault", Value::Array(rules)) if rules.len() > MOST_RULES => {
                    return Err(format!("{} faults are too many, {MOST_RULES} are allowed", rules.len()));
                }
                ("fault", Value::Array(rules)) => {
                    for (place, rule) in rules.into_iter().enumerate() {
                        let read =
                            Rule::read(rule).map_err(|error| format!("fault {}: {error}", place + 1))?;
                        scenario.rules.push(read);
                    }
                }
                ("fault", _) => return Err("`fault` is a list: [[fault]]".to_owned()),
                (other, _) => {
                    return Err(format!("`{other}` is not part of a scenario; there are seed, fault"));
                }
            }
        }
        Ok(scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_file() {
        let text = "seed = 7\n[[fault]]\nfault = \"answer_lost\"\nmethod = \"session/confirm\"\nrate = 0.1\n\
                    [[fault]]\nfault = \"delay_before\"\ndelay = \"40s\"\ntimes = 2\n";
        let scenario = Scenario::from_toml(text).unwrap();
        assert_eq!((scenario.seed, scenario.rules.len()), (Some(7), 2));
        assert_eq!(scenario.rules[1].times, Some(2));
    }

    #[test]
    fn says_where_it_is_wrong() {
        let second = "[[fault]]\nfault = \"html\"\n[[fault]]\nfault = \"flood\"\n";
        for (text, part) in [
            ("seed = -1", "seed"),
            ("fault = 1", "[[fault]]"),
            ("speed = 1", "speed"),
            (second, "fault 2"),
            ("[[fault]", "TOML"),
        ] {
            let refusal = Scenario::from_toml(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }
}
