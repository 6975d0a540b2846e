//! The API's description, made of the code that serves it.

use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cove",
        version = "1",
        description = "Whole workspaces that snapshot, fork and restore. Paths, and names in \
        them, have bytes that are not UTF-8, control characters and backslashes escaped as \\xNN \
        and \\\\, in answers and in requests. Times are RFC 3339 in UTC, sizes are bytes. Clients \
        tolerate unknown fields and unknown values of enums. A call that changes something may be \
        repeated under its Idempotency-Key and has its effect once.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(crate::long::Until))
)]
struct Head;

/// The OpenAPI 3.1 document as JSON, with a line end.
#[must_use]
pub fn document() -> String {
    let calls = OpenApiRouter::with_openapi(Head::openapi()).nest("/v1", crate::routes::calls());
    let mut api = calls.into_openapi();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Over TCP; the token is in the file `token` in Cove's home"))
        .build();
    api.components
        .get_or_insert_with(Components::new)
        .add_security_scheme("token", SecurityScheme::Http(bearer));
    api.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    let mut text = api.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    /// Each schema that is named must be there, and each call needs a name of its own.
    #[test]
    fn the_document_is_whole() {
        let text = super::document();
        let api: serde_json::Value = serde_json::from_str(&text).unwrap();
        let schemas = api["components"]["schemas"].as_object().unwrap();
        let marker = "\"#/components/schemas/";
        for (at, _) in text.match_indices(marker) {
            let name = text[at + marker.len()..].split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        let mut names: Vec<&str> =
            text.lines().filter_map(|line| line.trim().strip_prefix("\"operationId\": ")).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_checked_in_document_is_that_of_the_code() {
        expect_test::expect_file!["../../../api/openapi/cove-1.json"].assert_eq(&super::document());
    }
}
