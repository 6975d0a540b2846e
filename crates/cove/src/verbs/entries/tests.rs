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
}

#[test]
fn a_difference_with_one_side_is_refused() {
    assert_eq!(moments_of("a@b..c..d").unwrap(), "a@b..c d@now");
    assert_eq!(moments_of("shop").unwrap_err(), "a difference has two sides");
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
