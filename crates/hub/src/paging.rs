//! Lists, a part at a time.

use std::fmt::Display;
use std::str::FromStr;

use crate::HubError;
use crate::volume_hub::{Page, PageRequest};

/// How a token begins: no name of anything does.
const TOKEN: &str = "after:";

/// The part of a list that is asked for. `items` are in the order of their keys; the token is the key of the last
/// item that was given, so that it holds although that is deleted meanwhile.
///
/// # Errors
///
/// [`HubError::BadPageToken`] when the token is no key.
pub(crate) fn page<K, T>(
    items: impl IntoIterator<Item = (K, T)>,
    request: &PageRequest,
) -> Result<Page<T>, HubError>
where
    K: Ord + Display + FromStr,
{
    let after = match request.token.as_str() {
        "" => None,
        token => {
            let key = token.strip_prefix(TOKEN).and_then(|key| key.parse::<K>().ok());
            Some(key.ok_or(HubError::BadPageToken)?)
        }
    };
    let size = match request.size {
        0 => usize::MAX,
        size => usize::try_from(size).unwrap_or(usize::MAX),
    };
    let mut rest =
        items.into_iter().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
    let mut page = Page { items: Vec::new(), next_token: String::new() };
    let mut last = None;
    for (key, item) in rest.by_ref().take(size) {
        last = Some(key);
        page.items.push(item);
    }
    if let Some((last, _)) = last.zip(rest.next()) {
        page.next_token = format!("{TOKEN}{last}");
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paged(items: &[u32], size: u32, token: &str) -> Page<u32> {
        let request = PageRequest { size, token: token.into() };
        page(items.iter().map(|n| (*n, *n)), &request).unwrap()
    }

    #[test]
    fn a_page_ends_with_a_token_only_where_more_follows() {
        assert_eq!(
            paged(&[1, 2, 3], 2, ""),
            Page { items: vec![1, 2], next_token: "after:2".into() }
        );
        assert_eq!(paged(&[1, 2], 2, ""), Page { items: vec![1, 2], next_token: String::new() });
        assert_eq!(paged(&[1, 2], 0, ""), Page { items: vec![1, 2], next_token: String::new() });
        assert_eq!(paged(&[], 2, ""), Page { items: vec![], next_token: String::new() });
    }

    #[test]
    fn a_token_outlives_what_it_names() {
        assert_eq!(paged(&[1, 3, 4], 1, "after:2").items, [3]);
        assert!(paged(&[1], 1, "after:2").items.is_empty());
    }

    #[test]
    fn a_token_that_is_no_key_is_refused() {
        for token in ["x", "2", "after:", "after:x"] {
            let request = PageRequest { size: 0, token: token.into() };
            let refused = page([(1_u32, ())], &request).unwrap_err();
            assert!(matches!(refused, HubError::BadPageToken), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn pages_together_are_the_list(items in prop::collection::btree_set(0..1000_u32, 0..20), size in 1..5_u32) {
            let items: Vec<u32> = items.into_iter().collect();
            let (mut all, mut token) = (Vec::new(), String::new());
            for n in 0.. {
                prop_assert!(n <= items.len(), "it ends");
                let page = paged(&items, size, &token);
                prop_assert!(page.items.len() <= size as usize);
                all.extend(page.items);
                token = page.next_token;
                if token.is_empty() { break; }
            }
            prop_assert_eq!(all, items);
        }
    }
}
