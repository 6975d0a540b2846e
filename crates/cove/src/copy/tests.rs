use super::*;

/// As in the table of `docker cp`: what is copied, what is there, where it goes.
#[test]
fn a_copy_goes_where_docker_cp_puts_it() {
    let check = |source, target, slash, landing| {
        assert_eq!(plan(source, target, slash).ok(), landing, "{source:?} to {target:?}");
    };
    check(Source::File, Target::Missing, false, Some(Landing::As));
    check(Source::File, Target::Missing, true, None);
    check(Source::File, Target::File, false, Some(Landing::As));
    check(Source::File, Target::File, true, None);
    check(Source::File, Target::Directory, false, Some(Landing::Inside));
    check(Source::Directory, Target::Missing, false, Some(Landing::As));
    check(Source::Directory, Target::Missing, true, Some(Landing::As));
    check(Source::Directory, Target::File, false, None);
    check(Source::Directory, Target::Directory, false, Some(Landing::Inside));
    check(Source::Contents, Target::Missing, false, Some(Landing::As));
    check(Source::Contents, Target::File, false, None);
    check(Source::Contents, Target::Directory, false, Some(Landing::Merged));
}

#[test]
fn a_colon_before_the_first_slash_makes_a_side_a_projects() {
    let side = |text: &str| Side::parse(OsStr::new(text));
    assert!(matches!(side("shop:/a"), Ok(Side::Project(_))));
    assert!(matches!(side("shop@v1:/a"), Ok(Side::Project(_))));
    assert!(matches!(side("./a:b"), Ok(Side::Local(_))));
    assert!(matches!(side("/a:b"), Ok(Side::Local(_))));
    assert!(side("Shop:/a").is_err());
}

#[test]
fn bytes_that_are_not_utf8_are_escaped_as_they_are_read() {
    let written = OsStr::from_bytes(b"shop:/a\xff");
    let Side::Project(reference) = Side::parse(written).unwrap() else { panic!("it has a colon") };
    assert_eq!(reference.path.as_bytes(), b"a\xff");
}

#[test]
fn a_dash_is_a_stream() {
    assert_eq!(Side::parse(OsStr::new("-")).unwrap(), Side::Stream);
    assert!(matches!(Side::parse(OsStr::new("./-")), Ok(Side::Local(_))));
}

#[test]
fn a_projects_links_lead_to_where_they_point_and_never_out() {
    let behind = |path: &str, target: &str| {
        behind(&TreePath::parse(path).unwrap(), target).map(|path| path.to_string())
    };
    assert_eq!(behind("a/link", "b/c").as_deref(), Some("a/b/c"));
    assert_eq!(behind("a/link", "../c/./d").as_deref(), Some("c/d"));
    assert!(behind("a/link", "..").is_some_and(|top| top.is_empty() || top == "/"));
    assert_eq!(behind("a/link", "../../c"), None);
    assert_eq!(behind("link", "/etc"), None);
}
