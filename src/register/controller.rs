//! The user that the controller is to the API server. It alone may change our own annotations, which a condition of both
//! webhooks says by its name.
use super::Error;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Api, Client, api::PostParams};
use serde_json::Value;
use std::fmt::Write as _;

/// The name of that condition.
pub(super) const CONDITION: &str = "is-not-our-own-note";
/// What stands before the name in that condition.
const BEFORE: &str = "request.userInfo.username == ";

/// As whom this process talks to the API server.
pub(super) async fn own_name(client: &Client) -> Result<String, Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = answer.map_err(|source| Error::Caller(Box::new(source)))?;
    let name = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    name.filter(|name| !name.is_empty()).ok_or(Error::Nameless)
}

/// A text as CEL writes it. All that could end it, fold the YAML around it, or be anything but itself is a number: a user's
/// name may hold whatever a certificate can.
pub(super) fn literal(text: &str) -> String {
    let mut literal = String::from("'");
    for character in text.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ':' | '-' | '.' | '@' | '/' | '_' => literal.push(character),
            // Writing to a String can't fail.
            other => drop(write!(literal, "\\U{:08x}", u32::from(other))),
        }
    }
    literal.push('\'');
    literal
}

/// The name that a configuration has in its first webhook; `None` where we would not have written it so.
pub fn controller(configuration: &Value) -> Option<String> {
    let conditions = configuration.pointer("/webhooks/0/matchConditions")?.as_array()?;
    let condition =
        conditions.iter().find(|condition| condition.get("name").is_some_and(|n| n == CONDITION))?;
    // Who writes YAML folds lines differently; a name of ours has no white space in it.
    let words: Vec<&str> = condition.get("expression")?.as_str()?.split_whitespace().collect();
    let expression = words.join(" ");
    let (_, rest) = expression.split_once(BEFORE)?;
    let (text, _) = rest.strip_prefix('\'')?.split_once('\'')?;
    meant(text)
}

/// What [`literal`] wrote.
fn meant(text: &str) -> Option<String> {
    let mut parts = text.split("\\U");
    let mut meant = parts.next()?.to_owned();
    for part in parts {
        let (number, rest) = part.split_at_checked(8)?;
        meant.push(char::from_u32(u32::from_str_radix(number, 16).ok()?)?);
        meant.push_str(rest);
    }
    // Any other escape is not one of ours.
    (!text.replace("\\U", "").contains('\\')).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn configuration(expression: &str) -> Value {
        json!({"webhooks": [{"matchConditions": [
            {"name": "concerns", "expression": "true"},
            {"name": CONDITION, "expression": expression},
        ]}]})
    }

    #[rstest]
    #[case("system:serviceaccount:opportune-system:opportune-controller")]
    #[case("o'brien")]
    #[case("' || true || '")]
    #[case("\\' || true || \\'")]
    #[case("two\nlines: {{ and }} a\ttab")]
    #[case("\\U0000004a")]
    #[case("'CONTROLLER' PROTECT_STORAGE")]
    #[case("Zoë 🐘")]
    fn a_name_is_read_back_as_it_was_written(#[case] name: &str) {
        let literal = literal(name);
        let inner = &literal[1..literal.len() - 1];
        assert!(inner.chars().all(|c| c.is_ascii_graphic() && c != '\'' && c != '"'), "{literal}");
        let read = controller(&configuration(&format!("!({BEFORE}{literal} && more == 'x')")));
        assert_eq!(read.as_deref(), Some(name));
    }

    #[rstest]
    #[case("true")]
    #[case("!(request.userInfo.username == \"double\")")]
    #[case("!(request.userInfo.username == 'by\\u0061nother way')")]
    #[case("!(request.userInfo.username == '\\U00d80000')")]
    #[case("!(request.userInfo.username == '\\U12')")]
    fn what_we_did_not_write_is_not_guessed_at(#[case] expression: &str) {
        assert_eq!(controller(&configuration(expression)), None);
        assert_eq!(controller(&json!({})), None);
    }
}
