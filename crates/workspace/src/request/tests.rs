use super::*;

#[test]
fn thirty_two_hexadecimal_digits_are_the_operation_id() {
    let key = "0000000700112233445566778899aabb";
    let Key::Id(id) = parse_key(key).unwrap() else { panic!("{key} is an id") };
    assert_eq!((id.to_string().as_str(), id.seq()), (key, 7));
}

#[test]
fn any_other_visible_text_is_a_key() {
    for key in ["x", "my-key/7", "0000000700112233445566778899AABB", &"k".repeat(255)] {
        assert_eq!(parse_key(key).unwrap(), Key::Text, "{key}");
    }
}

#[test]
fn a_key_with_spaces_or_nothing_or_too_much_is_refused() {
    for key in ["", "a b", "a\n", "schlüssel", &"k".repeat(256)] {
        assert!(parse_key(key).is_err(), "{key}");
    }
}

#[test]
fn a_key_belongs_to_its_principal() {
    assert_eq!(operation_of("a", "k", 3), operation_of("a", "k", 3));
    assert_ne!(operation_of("a", "k", 3), operation_of("b", "k", 3));
    assert_ne!(operation_of("a", "bk", 3), operation_of("ab", "k", 3));
    assert_eq!(operation_of("a", "k", 3).seq(), 3);
}

#[test]
fn a_request_is_bound_with_its_name_and_arguments() {
    let arguments = serde_json::json!({"slug": "shop"});
    assert_ne!(request_digest("trash", &arguments), request_digest("undelete", &arguments));
}
