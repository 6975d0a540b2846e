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
fn a_directory_takes_in_the_names_of_another_and_a_file_replaces_no_directory() {
    let home = tempfile::tempdir().unwrap();
    let make = |path: &str, text: &str| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    make("new/src/a", "a2");
    make("new/src/deep/b", "b");
    make("old/src/a", "a1");
    make("old/src/c", "c");
    make("clash/src/deep/b/file", "b is a directory here");
    let dir = Dir::from_path(home.path()).unwrap();
    let path = |text: &str| TreePath::parse(text).unwrap();
    merge(&dir, &path("new"), &path("old")).unwrap();
    let read = |path: &str| std::fs::read_to_string(home.path().join(path)).unwrap();
    assert_eq!(
        (read("old/src/a"), read("old/src/c"), read("old/src/deep/b")),
        ("a2".into(), "c".into(), "b".into())
    );
    let refused = merge(&dir, &path("old"), &path("clash")).unwrap_err();
    assert!(refused.to_string().contains("clash/src/deep/b is a directory"), "{refused}");
}
