//! Which names projects get.

use std::collections::HashSet;

use cove_types::Slug;

use crate::WorkspaceError;

pub use cove_content::volumes::FORKS_MAX;

/// The names of the forks that a call makes.
///
/// Without `wanted`, the first free `<source>-<n>`; with it that name or, when there is a
/// count, `<wanted>-1` to `<wanted>-<count>`, all of them or none.
///
/// # Errors
///
/// A wanted name is taken, a name would be too long, or the count is not 1 to 100.
pub(crate) fn fork_names(
    source: &Slug,
    wanted: Option<&Slug>,
    count: Option<u32>,
    taken: &HashSet<Slug>,
) -> Result<Vec<Slug>, WorkspaceError> {
    if count.is_some_and(|count| !(1..=FORKS_MAX).contains(&count)) {
        let found = count.unwrap_or(0);
        return Err(WorkspaceError::Invalid(format!(
            "a call makes 1 to {FORKS_MAX} forks, found {found}"
        )));
    }
    let free = |slug: Slug| match taken.contains(&slug) {
        true => Err(WorkspaceError::NameTaken { slug }),
        false => Ok(slug),
    };
    match (wanted, count) {
        (Some(wanted), None) => free(wanted.clone()).map(|slug| vec![slug]),
        (Some(wanted), Some(count)) => {
            (1..=count).map(|n| numbered(wanted, n).and_then(free)).collect()
        }
        (None, count) => {
            let mut names = Vec::new();
            let mut n = 0;
            while names.len() < count.unwrap_or(1) as usize {
                n += 1;
                let slug = numbered(source, n)?;
                if !taken.contains(&slug) {
                    names.push(slug);
                }
            }
            Ok(names)
        }
    }
}

fn numbered(slug: &Slug, n: u32) -> Result<Slug, WorkspaceError> {
    slug.numbered(n).ok_or_else(|| WorkspaceError::NameTooLong { slug: slug.clone(), n })
}

/// The names that projects get when several want one: in their order the first keeps it, each
/// later one gets the next free number. The answer is in the same order.
pub(crate) fn settle(wanted: &[Slug]) -> Vec<Slug> {
    let mut taken: HashSet<Slug> = HashSet::new();
    // A number is given only where nobody asks for that very name.
    let asked: HashSet<&Slug> = wanted.iter().collect();
    wanted
        .iter()
        .map(|slug| {
            let slug = match taken.contains(slug) {
                true => next_free(slug, |slug| taken.contains(slug) || asked.contains(slug)),
                false => slug.clone(),
            };
            taken.insert(slug.clone());
            slug
        })
        .collect()
}

/// `<slug>-<n>` for the least n from 2 that is free; the slug is cut where it is too long for that.
fn next_free(slug: &Slug, taken: impl Fn(&Slug) -> bool) -> Slug {
    (2..)
        .filter_map(|n| {
            slug.numbered(n).or_else(|| {
                let room = Slug::BYTES_MAX.saturating_sub(format!("-{n}").len());
                let short = slug.as_str().get(..room)?.trim_end_matches('-');
                short.parse::<Slug>().ok()?.numbered(n)
            })
        })
        .find(|slug| !taken(slug))
        .expect("there are more numbers than projects")
}

#[cfg(test)]
mod tests;
