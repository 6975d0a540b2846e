use super::*;

#[test]
fn only_the_present_state_changes() {
    assert!(place_to_change(OsStr::new("shop:/a")).is_ok());
    assert!(place_to_change(OsStr::new("shop@v1:/a")).is_err());
    assert!(place_to_change(OsStr::new("shop:/../a")).is_err());
}

#[test]
fn a_project_alone_is_its_root() {
    assert!(place(OsStr::new("shop")).unwrap().path.is_top());
    assert!(place(OsStr::new("shop@v1")).unwrap().path.is_top());
    assert!(place(OsStr::new("no such name")).is_err());
}

#[test]
fn bytes_that_are_no_text_are_base64() {
    let groups = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
    let encoded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
    assert_eq!(groups.map(|text| base64(text.as_bytes())), encoded);
    assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
}
