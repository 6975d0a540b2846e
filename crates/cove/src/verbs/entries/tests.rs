use super::*;

fn moments_of(line: &str) -> Result<String, String> {
    let written: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let (before, after) = moments(&written).map_err(|failure| failure.to_string())?;
    Ok(format!("{}@{} {}@{}", before.project, before.at, after.project, after.at))
}

#[test]
fn a_difference_has_two_sides_however_it_is_written() {
    assert_eq!(moments_of("shop@abc..shop").unwrap(), "shop@abc shop@now");
    assert_eq!(moments_of("shop@v1.0..shop@v1.1").unwrap(), "shop@v1.0 shop@v1.1");
    assert_eq!(moments_of("shop@~2 store@v1").unwrap(), "shop@~2 store@v1");
    assert_eq!(moments_of("shop@abc").unwrap(), "shop@abc shop@now");
    for open in ["shop@v1..", "shop@k3f..", "shop@~1.."] {
        let before = open.trim_end_matches('.');
        assert_eq!(moments_of(open).unwrap(), format!("{before} shop@now"));
    }
    assert_eq!(moments_of("shop@v1.. shop").unwrap(), "shop@v1.. shop@now");
}

#[test]
fn a_difference_with_one_side_is_refused() {
    assert_eq!(moments_of("a@b..c..d").unwrap(), "a@b..c d@now");
    for one in ["shop", "shop..", "shop@now.."] {
        let refused = moments(&[one.to_owned()]).unwrap_err();
        assert_eq!(refused.to_string(), "a difference has two sides");
        let hint = format!("{refused:?}");
        assert!(hint.contains("`cove diff shop@~1..shop`"), "{hint}");
    }
    assert!(moments_of("Shop..shop").is_err());
}

#[test]
fn an_entry_is_not_the_present_state() {
    assert!(entry("shop@v1").is_ok());
    assert_eq!(entry("shop").unwrap_err().exit_code(), 2);
    let refused = entry("shop@now").unwrap_err();
    assert_eq!(refused.to_string(), "shop@now is the present state, not an entry");
    assert_eq!(refused.exit_code(), 2);
}

#[test]
fn an_entry_to_restore_is_written_with_its_project_or_behind_it_and_once() {
    let read = |name, behind| {
        entry_to_restore(name, behind).map(|entry| format!("{}@{}", entry.project, entry.at))
    };
    for (name, behind) in
        [("shop@v1", None), ("shop", Some("v1")), ("shop", Some("@v1")), ("shop@~1", None)]
    {
        let at = if name.ends_with("~1") { "~1" } else { "v1" };
        assert_eq!(read(name, behind).unwrap(), format!("shop@{at}"));
    }
    for (name, behind) in
        [("shop", None), ("shop@v1", Some("v1")), ("shop@now", None), ("Shop", Some("v1"))]
    {
        assert_eq!(read(name, behind).unwrap_err().exit_code(), 2, "{name} {behind:?}");
    }
}
