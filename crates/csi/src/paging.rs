//! Lists, a page at a time.

use std::future::Future;

use cove_hub::HubError;
use cove_hub::volume_hub::{Page, PageRequest};
use cove_types::{Classify, ErrorKind};

use crate::status::CallError;

/// A page of at most `max_entries`, or all that there are from the token on when that is 0. `fetch` may give fewer
/// than it is asked for.
pub(crate) async fn page<T, F>(
    max_entries: i32,
    token: String,
    mut fetch: impl FnMut(PageRequest) -> F,
) -> Result<Page<T>, CallError>
where
    F: Future<Output = Result<Page<T>, CallError>>,
{
    let most = entries_max(max_entries)?;
    let mut page = Page { items: Vec::new(), next_token: token };
    loop {
        let size = most.map_or(0, |most| most - page.items.len().min(most));
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let part = fetch(PageRequest { size, token: page.next_token }).await?;
        page.items.extend(part.items);
        page.next_token = part.next_token;
        if page.next_token.is_empty() || most.is_some_and(|most| page.items.len() >= most) {
            return Ok(page);
        }
    }
}

/// How many entries a list may have; any number when nothing is said.
pub(crate) fn entries_max(max_entries: i32) -> Result<Option<usize>, CallError> {
    match usize::try_from(max_entries) {
        Ok(0) => Ok(None),
        Ok(most) => Ok(Some(most)),
        Err(_) => Err(CallError::Invalid {
            field: "max_entries",
            why: "a number of entries is not negative".to_owned(),
        }),
    }
}

/// Why a list was not given. Of what a list is asked with, a token alone can break a law.
pub(crate) fn refused(has_token: bool) -> impl Fn(HubError) -> CallError {
    move |error| match error {
        HubError::BadPageToken => CallError::BadToken,
        error if has_token && error.kind() == ErrorKind::Invalid => CallError::BadToken,
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers below 10, two at a time at most.
    async fn numbers(request: PageRequest) -> Result<Page<u32>, CallError> {
        let first: u32 = match request.token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| CallError::BadToken)?,
        };
        let size = if request.size == 0 { 2 } else { request.size.min(2) };
        let end = (first + size).min(10);
        let next_token = if end < 10 { end.to_string() } else { String::new() };
        Ok(Page { items: (first..end).collect(), next_token })
    }

    #[tokio::test]
    async fn a_page_has_as_many_as_are_asked_for() {
        let three = page(3, String::new(), numbers).await.unwrap();
        assert_eq!((three.items, three.next_token.as_str()), (vec![0, 1, 2], "3"));
        let rest = page(0, three.next_token, numbers).await.unwrap();
        assert_eq!((rest.items.len(), rest.next_token.as_str()), (7, ""));
        let many = page(99, String::new(), numbers).await.unwrap();
        assert_eq!((many.items.len(), many.next_token.as_str()), (10, ""));
    }

    #[tokio::test]
    async fn a_bad_token_is_aborted_and_a_negative_number_invalid() {
        let token = page(0, "x".to_owned(), numbers).await.unwrap_err();
        assert_eq!(token.code(), tonic::Code::Aborted);
        let negative = page(-1, String::new(), numbers).await.unwrap_err();
        assert_eq!(negative.code(), tonic::Code::InvalidArgument);
        assert_eq!(refused(false)(HubError::BadPageToken).code(), tonic::Code::Aborted);
        let remote = || HubError::Remote { kind: ErrorKind::Invalid, message: String::new() };
        assert_eq!(refused(true)(remote()).code(), tonic::Code::Aborted);
        assert_eq!(refused(false)(remote()).code(), tonic::Code::InvalidArgument);
    }
}
