use super::*;

fn touched(path: &str, origin: Option<&str>, content: Content) -> Touched {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Touched { path: bytes(path), origin: origin.map(bytes), content }
}

fn check(touched: Vec<Touched>, is_same: bool) -> bool {
    let changes = Changes { touched, ..Changes::default() };
    is_written(&changes, &TreePath::parse(".replaced-x").unwrap(), |_| is_same)
}

#[test]
fn what_only_moved_there_is_not_written() {
    let moved = || vec![touched(".replaced-x/0.old", Some("files/d"), Content::Same)];
    assert!(!check(moved(), true));
    assert!(check(moved(), false), "its mode, owner, time or attributes differ");
}

#[test]
fn new_files_and_new_content_are_compared_with_what_was_there() {
    for (path, origin) in [("0.old/new", None), ("12.old/log", Some("files/d/log"))] {
        let touched = || vec![touched(&format!(".replaced-x/{path}"), origin, Content::Whole)];
        assert!(check(touched(), false));
        assert!(!check(touched(), true));
    }
}

#[test]
fn what_is_written_elsewhere_is_not_looked_at() {
    for path in ["files/d/new", ".replaced-x/0.at", ".replaced-xy/0.old/a", ".replaced-x"] {
        assert!(!check(vec![touched(path, None, Content::Whole)], false), "{path}");
    }
}
