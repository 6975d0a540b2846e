use super::*;

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn check(source: &str, wanted: Option<&str>, count: Option<u32>, taken: &[&str], expected: &str) {
    let taken = taken.iter().map(|text| slug(text)).collect();
    let wanted = wanted.map(slug);
    let found = match fork_names(&slug(source), wanted.as_ref(), count, &taken) {
        Ok(names) => names.iter().map(Slug::as_str).collect::<Vec<_>>().join(" "),
        Err(error) => format!("refused: {error}"),
    };
    assert_eq!(found, expected);
}

#[test]
fn a_fork_without_a_name_takes_the_first_free_number() {
    check("shop", None, None, &["shop"], "shop-1");
    check("shop", None, None, &["shop", "shop-1", "shop-3"], "shop-2");
}

#[test]
fn forks_without_a_name_fill_the_gaps() {
    check("shop", None, Some(3), &["shop", "shop-2"], "shop-1 shop-3 shop-4");
}

#[test]
fn one_fork_has_the_name_that_was_asked_for() {
    check("shop", Some("intake"), None, &["shop"], "intake");
}

#[test]
fn counted_forks_of_a_name_begin_at_one() {
    check("shop", Some("x"), Some(3), &["shop", "x"], "x-1 x-2 x-3");
    check("shop", Some("x"), Some(1), &["shop"], "x-1");
}

#[test]
fn a_taken_name_makes_no_fork_at_all() {
    check("shop", Some("shop"), None, &["shop"], "refused: a project named shop exists already");
    check("shop", Some("x"), Some(3), &["x-2"], "refused: a project named x-2 exists already");
}

#[test]
fn a_fork_whose_name_would_be_too_long_is_refused() {
    let long = "a".repeat(39);
    let expected = format!("refused: {long}-1 is longer than a project's name may be");
    check(&long, None, None, &[], &expected);
}

#[test]
fn nobody_forks_none_or_more_than_a_hundred() {
    check("shop", None, Some(0), &[], "refused: a call makes 1 to 100 forks, found 0");
    check("shop", None, Some(101), &[], "refused: a call makes 1 to 100 forks, found 101");
}

fn settled(wanted: &[&str]) -> String {
    let wanted: Vec<Slug> = wanted.iter().map(|text| slug(text)).collect();
    settle(&wanted).iter().map(Slug::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_first_of_two_projects_with_one_name_keeps_it() {
    assert_eq!(settled(&["shop", "blog", "shop", "shop"]), "shop blog shop-2 shop-3");
}

#[test]
fn nobody_loses_his_name_to_a_number() {
    assert_eq!(settled(&["shop", "shop", "shop-2"]), "shop shop-3 shop-2");
}

#[test]
fn a_name_without_room_for_a_number_is_cut() {
    let long = "a".repeat(40);
    let short = format!("{}-2", "a".repeat(38));
    assert_eq!(settled(&[&long, &long]), format!("{long} {short}"));
}
