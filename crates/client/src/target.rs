//! A route filled in.

use std::fmt::Write;

use crate::routes::Route;

/// Text as one part of a path or a query, everything but unreserved characters escaped.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all that is written to it");
        }
    }
    encoded
}

/// A route with its parts and its query.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) route: Route,
    path: String,
    query: String,
    /// The first and, unless all of the rest is wanted, the last byte of its answer.
    pub(crate) range: Option<(u64, Option<u64>)>,
}

impl Target {
    /// `route` with `parts` in place of its `{…}`, in order.
    pub(crate) fn new(route: Route, parts: &[&str]) -> Self {
        let mut parts = parts.iter();
        let fill = |step: &str| match step.starts_with('{') {
            true => encode(parts.next().copied().unwrap_or_default()),
            false => step.to_owned(),
        };
        let path = route.template.split('/').map(fill).collect::<Vec<_>>().join("/");
        Self { route, path, query: String::new(), range: None }
    }

    /// With one more field in the query.
    pub(crate) fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        self.query.push_str(&encode(&value.to_string()));
        self
    }

    /// With a field in the query when there is a value.
    pub(crate) fn query_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// What stands in the request line.
    pub(crate) fn uri(&self) -> String {
        format!("/v1{}{}", self.path, self.query)
    }

    /// How messages name the call.
    pub(crate) fn call(&self) -> String {
        format!("{} /v1{}", self.route.method, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    #[test]
    fn parts_and_values_are_escaped_and_the_template_is_not() {
        let target = Target::new(routes::EDIT_ENTRY, &["shop", "~1/x"]).query("a", "b&c\\x0a");
        assert_eq!(target.uri(), "/v1/projects/shop/entries/~1%2Fx?a=b%26c%5Cx0a");
    }

    #[test]
    fn every_call_is_one_of_the_api() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/openapi/cove-1.json");
        let text = std::fs::read_to_string(file).expect("the OpenAPI file is checked in");
        let api: serde_json::Value = serde_json::from_str(&text).unwrap();
        for route in routes::ALL {
            let path = &api["paths"][format!("/v1{}", route.template)];
            let method = &path[route.method.to_lowercase()];
            assert!(method.is_object(), "{} {} is not in the API", route.method, route.template);
        }
    }
}
