use super::*;

fn finds(pattern: &str, name: &str) -> bool {
    NamePattern::parse(pattern).unwrap().matches(name.as_bytes())
}

#[test]
fn a_pattern_without_wild_cards_is_a_part_of_the_name() {
    assert!(finds("app", "my-app.ts"));
    assert!(!finds("app", "ap.p"));
}

#[test]
fn a_glob_is_the_whole_name() {
    assert!(finds("*.ts", "app.ts"));
    assert!(!finds("*.ts", "app.tsx"));
    assert!(finds("a*b*c", "aXbYbZc"));
    assert!(finds("?pp.*", "app.ts"));
    assert!(!finds("?pp", "pp"));
    assert!(finds("*", "anything"));
}

#[test]
fn a_bracket_is_one_of_its_characters() {
    assert!(finds("[ab]pp", "bpp"));
    assert!(finds("v[0-9].txt", "v7.txt"));
    assert!(!finds("v[!0-9].txt", "v7.txt"));
    assert!(finds("[]]", "]"));
    assert!(finds("a[b", "a[b"));
}

#[test]
fn a_glob_with_many_stars_ends_soon() {
    assert!(!finds(&"a*".repeat(100), &format!("{}b", "a".repeat(90))));
}

#[test]
fn a_pattern_with_a_slash_is_of_the_whole_path() {
    assert!(finds("src/*.ts", "src/deep/app.ts"));
    assert!(finds("/src/*.ts", "src/app.ts"));
    assert!(finds("*/app.ts", "src/app.ts"));
    assert!(!finds("src/*.ts", "lib/src/app.ts"));
    assert!(finds("deep/app", "src/deep/app.ts"));
    assert!(finds("/src", "src/app.ts") && !finds("/src", "my-src/app.ts"));
    assert!(finds("app.ts", "src/app.ts") && !finds("src", "src/app.ts"));
}

#[test]
fn a_text_stands_for_itself_and_an_expression_for_what_it_means() {
    let found = |pattern: &str, expression, ignores_case, line: &[u8]| {
        LinePattern::parse(pattern, expression, ignores_case).unwrap().is_in(line)
    };
    assert!(found("a.b", false, false, b"a.b") && !found("a.b", false, false, b"axb"));
    assert!(found("a.b", true, false, b"axb"));
    assert!(found("^TODO: (a|b)$", true, false, b"TODO: b"));
    assert!(!found("todo", false, false, b"TODO") && found("todo", false, true, b"TODO"));
    assert!(found("\\xff", false, false, b"a\xff") && !found("\\xff", false, false, b"a\xfe"));
    let refused = LinePattern::parse("(a", true, false).unwrap_err().to_string();
    assert_eq!(refused, "\"(a\" is no regular expression: unclosed group");
    assert!(LinePattern::parse("((a{99}){99}){99}", true, false).is_err(), "it is too large");
}

fn search(text: &[u8], part: &str, room: usize) -> Lines {
    lines_with("f", text, &LinePattern::parse(part, false, false).unwrap(), room).unwrap()
}

fn lines(text: &[u8], part: &str) -> Vec<(u64, String)> {
    let Lines::Found(found) = search(text, part, 100) else { panic!("it is binary") };
    found.into_iter().map(|found| (found.line, found.text)).collect()
}

#[test]
fn a_match_has_its_lines_number_and_text() {
    let found = lines(b"one\ntwo three\r\nfour\tthree", "three");
    assert_eq!(found, [(2, "two three".to_owned()), (3, "four\tthree".to_owned())]);
}

#[test]
fn a_binary_file_has_no_lines() {
    assert_eq!(search(b"three\0three", "three", 100), Lines::Binary);
}

#[test]
fn a_long_line_is_shown_in_part_and_the_next_one_has_its_number() {
    let mut text = b"x".to_vec();
    text.extend(std::iter::repeat_n(b'a', 3 << 20));
    text.extend_from_slice(b"\nx");
    let found = lines(&text, "x");
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].1.len(), found[1].0), (500, 2));
}

#[test]
fn what_would_act_on_a_terminal_is_escaped() {
    assert_eq!(lines(b"\x1b[2J three", "three"), [(1, "\\x1b[2J three".to_owned())]);
}

#[test]
fn no_more_than_the_room_is_found() {
    assert!(matches!(search(b"a\na\na\n", "a", 2), Lines::Found(found) if found.len() == 2));
}

#[test]
fn a_tab_is_shown_and_what_only_looks_like_its_escape_is_not_one() {
    assert_eq!(lines(b"a\tb \\x09", "a"), [(1, "a\tb \\\\x09".to_owned())]);
}
