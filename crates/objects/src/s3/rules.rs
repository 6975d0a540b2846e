//! What a bucket does to objects by rules of its own.

use crate::Rules;

/// The status and text of an answer, or why there is none.
type Asked = Result<(u16, String), String>;

/// What the three answers of a bucket mean for the objects below `prefix`.
///
/// A bucket without rules answers 404 to two of the questions. What is answered
/// otherwise, as by stores that do not know the question, is unreadable.
pub(super) fn read(prefix: &str, lifecycle: Asked, versioning: Asked, lock: Asked) -> Rules {
    let asked = [("lifecycle", lifecycle), ("versioning", versioning), ("object lock", lock)];
    let mut unreadable = Vec::new();
    let mut is_versioned = false;
    for (name, asked) in asked {
        let text = match asked {
            Ok((200, text)) => text,
            Ok((404, text)) if text.contains("ConfigurationNotFoundError") => continue,
            Ok((404, text)) if text.contains("NoSuchLifecycleConfiguration") => continue,
            Ok((status, _)) => {
                unreadable.push(format!("{name} is answered with {status}"));
                continue;
            }
            Err(error) => {
                unreadable.push(format!("{name} is not answered: {error}"));
                continue;
            }
        };
        match name {
            "lifecycle" => {
                if let Some(what) = harmful_rule(prefix, &text) {
                    return Rules::Harmful { what };
                }
            }
            "versioning" => is_versioned = element(&text, "Status") == Some("Enabled"),
            _ => {
                if let Some(mode) = element(&text, "Mode") {
                    let what = format!("the bucket locks objects by default ({mode})");
                    return Rules::Harmful { what };
                }
            }
        }
    }
    match (unreadable.is_empty(), is_versioned) {
        (false, _) => Rules::Unreadable { why: unreadable.join(", ") },
        (true, true) => Rules::Versioning,
        (true, false) => Rules::None,
    }
}

/// The first enabled rule that takes objects below `prefix` away or out of reach.
///
/// The end of uploads that were given up and the expiry of old versions harm nobody.
fn harmful_rule(prefix: &str, text: &str) -> Option<String> {
    for rule in text.split("<Rule>").skip(1) {
        let rule = rule.split("</Rule>").next().unwrap_or(rule);
        let is_enabled = element(rule, "Status") != Some("Disabled");
        let below = element(rule, "Prefix").unwrap_or("");
        let touches = below.starts_with(prefix) || prefix.starts_with(below);
        let expires = element(rule, "Expiration")
            .is_some_and(|inner| inner.contains("<Days>") || inner.contains("<Date>"));
        let archives = rule.contains("<Transition>");
        if is_enabled && touches && (expires || archives) {
            let what = if expires { "expires" } else { "archives" };
            let id = element(rule, "ID").unwrap_or("without a name");
            let id = cove_types::escape_bytes(id.as_bytes());
            return Some(format!("the lifecycle rule {id} {what} objects below \"{below}\""));
        }
    }
    None
}

/// What is between the first `<name>` and its end.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(code: &str) -> Asked {
        Ok((404, format!("<Error><Code>{code}</Code></Error>")))
    }

    fn with_lifecycle(text: &str) -> Rules {
        let versioning = Ok((200, "<VersioningConfiguration/>".into()));
        let lock = none("ObjectLockConfigurationNotFoundError");
        read("cove/", Ok((200, text.into())), versioning, lock)
    }

    #[test]
    fn a_bucket_without_rules_has_none() {
        let found = read(
            "",
            none("NoSuchLifecycleConfiguration"),
            Ok((200, "<VersioningConfiguration/>".into())),
            none("ObjectLockConfigurationNotFoundError"),
        );
        assert_eq!(found, Rules::None);
    }

    #[test]
    fn a_rule_that_expires_or_archives_below_our_prefix_is_harmful() {
        let expiry = "<Expiration><Days>30</Days></Expiration>";
        let archive = "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>";
        for prefix in ["", "cove/", "cove/teams/"] {
            for action in [expiry, archive] {
                let found = with_lifecycle(&format!(
                    "<Rule><ID>r</ID><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status>{action}</Rule>"
                ));
                assert!(matches!(found, Rules::Harmful { .. }), "{prefix} {action}: {found:?}");
            }
        }
        for harmless in [
            format!("<Rule><Prefix>other/</Prefix><Status>Enabled</Status>{expiry}</Rule>"),
            format!("<Rule><Prefix></Prefix><Status>Disabled</Status>{expiry}</Rule>"),
            "<Rule><Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>".into(),
        ] {
            assert_eq!(with_lifecycle(&harmless), Rules::None, "{harmless}");
        }
    }

    #[test]
    fn a_question_that_is_not_answered_is_said_to_be_unreadable() {
        let found = read("", Ok((403, String::new())), Err("connection lost".into()), none("x"));
        let Rules::Unreadable { why } = found else { panic!("found {found:?}") };
        assert_eq!(
            why,
            "lifecycle is answered with 403, versioning is not answered: connection lost, object lock is answered with 404"
        );
    }
}
