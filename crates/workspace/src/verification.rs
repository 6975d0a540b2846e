//! What is remembered of a project's checks: which one says more than which.

use cove_content::volumes::VerifyLevel;
use cove_database::Verified;

/// What a check at a level found.
pub(crate) fn verified(level: VerifyLevel, at_us: i64, problems: u64) -> Verified {
    let (level, part) = match level {
        VerifyLevel::Agree => (0, None),
        VerifyLevel::Located => (1, None),
        VerifyLevel::Read { part, of } => (2, Some((part, of))),
    };
    Verified { at_us, problems, level, part }
}

/// Whether `check` looks at all that `other` looked at.
fn covers(check: &Verified, other: &Verified) -> bool {
    match (check.part, other.part) {
        // Every deeper level begins with what the ones below it do.
        (_, None) => check.level >= other.level,
        (Some(part), Some(other)) => part.1 == 1 || part == other,
        (None, Some(_)) => false,
    }
}

/// What is known of a project once `new` has ended: what a check found stays until one that looks
/// at as much finds nothing of it.
pub(crate) fn remembered(known: Option<Verified>, new: Verified) -> Verified {
    match known.filter(|known| known.problems > 0 && !covers(&new, known)) {
        None => new,
        Some(known) if new.problems == 0 => known,
        // Only a check that looks at what both looked at clears them.
        Some(known) => {
            let (level, part) = match covers(&known, &new) {
                true => (known.level, known.part),
                false => (2, Some((1, 1))),
            };
            Verified { at_us: new.at_us, problems: known.problems.max(new.problems), level, part }
        }
    }
}

/// The flags of `cove verify` that ask for the same check.
pub(crate) fn flags(check: &Verified) -> String {
    match check.part {
        Some((_, 1)) | None => format!("--level {}", check.level),
        Some((part, of)) => format!("--level {} --read {part}/{of}", check.level),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: VerifyLevel = VerifyLevel::Read { part: 1, of: 1 };

    fn eighth(part: u32) -> VerifyLevel {
        VerifyLevel::Read { part, of: 8 }
    }

    #[test]
    fn what_a_check_found_stays_until_one_that_looks_at_as_much_finds_nothing() {
        use VerifyLevel::{Agree, Located};
        for (found, clean, clears) in [
            (Agree, Agree, true),
            (Agree, READ, true),
            (Located, Agree, false),
            (Located, eighth(1), true),
            (READ, Located, false),
            (READ, eighth(1), false),
            (eighth(1), eighth(2), false),
            (eighth(1), eighth(1), true),
            (eighth(1), READ, true),
        ] {
            let known = verified(found, 1, 3);
            let new = verified(clean, 2, 0);
            let expected = if clears { new } else { known };
            assert_eq!(remembered(Some(known), new), expected, "{found:?}, then {clean:?}");
        }
    }

    #[test]
    fn two_parts_with_problems_are_cleared_by_a_check_of_everything_only() {
        let both = remembered(Some(verified(eighth(1), 1, 3)), verified(eighth(2), 2, 1));
        assert_eq!(both, verified(READ, 2, 3));
        let deep = remembered(Some(verified(READ, 1, 3)), verified(VerifyLevel::Agree, 2, 5));
        assert_eq!(deep, verified(READ, 2, 5), "a shallow one that finds something is told too");
    }

    #[test]
    fn the_flags_ask_for_the_same_check() {
        assert_eq!(flags(&verified(VerifyLevel::Located, 1, 1)), "--level 1");
        assert_eq!(flags(&verified(READ, 1, 1)), "--level 2");
        assert_eq!(flags(&verified(eighth(3), 1, 1)), "--level 2 --read 3/8");
    }
}
