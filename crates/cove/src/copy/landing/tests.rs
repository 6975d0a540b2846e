use super::*;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn merged(home: &Path, from: &str, to: &str) -> Result<(), Failure> {
    let dir = Dir::from_path(home).unwrap();
    for step in [Step::Look, Step::Move] {
        merge(step, (&dir, &path(from)), (&dir, &path(to)), home)?;
    }
    Ok(())
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
    make("clash/src/a", "a3");
    make("clash/src/deep/b/file", "b is a directory here");
    merged(home.path(), "new", "old").unwrap();
    let read = |path: &str| std::fs::read_to_string(home.path().join(path)).unwrap();
    assert_eq!(
        (read("old/src/a"), read("old/src/c"), read("old/src/deep/b")),
        ("a2".into(), "c".into(), "b".into())
    );
    let refused = merged(home.path(), "old", "clash").unwrap_err().to_string();
    let clash = home.path().join("clash/src/deep/b");
    assert_eq!(
        refused,
        format!("{} is a directory, and a file does not replace it", clash.display())
    );
    assert_eq!(read("clash/src/a"), "a3", "what is refused writes nothing");
}

#[test]
fn a_stream_that_breaks_off_leaves_nothing_where_it_was_to_go() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("mine"), "mine").unwrap();
    let mut tar = Vec::new();
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("x")).unwrap();
    for name in ["one", "two"] {
        std::fs::write(source.path().join("x").join(name), [7; 5_000]).unwrap();
    }
    let dir = Dir::from_path(source.path()).unwrap();
    let options = archive::PackOptions::default();
    archive::pack(&dir, &path("x"), b"x", &mut tar, &options, &|_, _| {}).unwrap();
    let landed = |landing| Landed {
        local: Local::open(home.path()).unwrap(),
        landing,
        name: Some(b"x".to_vec()),
        top: b"x".to_vec(),
    };
    let names = || {
        let mut names: Vec<String> = std::fs::read_dir(home.path())
            .unwrap()
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    for length in [600, 4_000, tar.len() - 1_100] {
        for landing in [Landing::Inside, Landing::Merged] {
            landed(landing).extract(&tar[..length], &|_, _| {}).unwrap_err();
            assert_eq!(names(), ["mine"], "{length} bytes, {landing:?}");
        }
    }
    let reply = landed(Landing::Inside).extract(&tar[..], &|_, _| {}).unwrap();
    assert_eq!(reply.files[0].path, shown(&home.path().join("x")));
    landed(Landing::Merged).extract(&tar[..], &|_, _| {}).unwrap();
    assert_eq!(names(), ["mine", "one", "two", "x"]);
}
