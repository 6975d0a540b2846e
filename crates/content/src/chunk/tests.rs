use proptest::prelude::*;

use super::*;

const SQLITE: &[u8] = b"SQLite format 3\0";

fn grid(path: &str, size: u64, first_bytes: &[u8]) -> Grid {
    grid_for(&TreePath::parse(path).unwrap(), size, first_bytes)
}

#[test]
fn most_files_are_on_the_full_grid() {
    assert_eq!(grid("files/src/main.rs", 100, b"fn main() {}"), Grid::Full);
}

#[test]
fn the_data_of_services_is_on_the_page_grid() {
    assert_eq!(grid("services/db/base/1/2", 8192, b""), Grid::Page);
}

#[test]
fn a_directory_called_services_elsewhere_means_nothing() {
    assert_eq!(grid("files/services/db", 8192, b""), Grid::Full);
    assert_eq!(grid("services", 8192, b""), Grid::Full);
    assert_eq!(grid("services2/db/a", 8192, b""), Grid::Full);
}

#[test]
fn an_sqlite_file_is_on_the_page_grid_wherever_it_is() {
    assert_eq!(grid("files/app.db", 8192, SQLITE), Grid::Page);
    assert_eq!(grid("files/app.db", 8192, &SQLITE[..15]), Grid::Full);
}

#[test]
fn a_file_over_a_gibibyte_is_on_the_full_grid() {
    assert_eq!(grid("services/db/a", 1 << 30, b""), Grid::Page);
    assert_eq!(grid("services/db/a", (1 << 30) + 1, SQLITE), Grid::Full);
}

#[test]
fn an_empty_file_has_no_chunks() {
    assert_eq!(Grid::Full.chunks(0), 0);
    assert_eq!(Grid::Full.range(0, 0), 0..0);
    assert_eq!(Grid::Full.touched(&(0..10), 0), 0..0);
}

#[test]
fn the_last_chunk_ends_with_the_file() {
    assert_eq!(Grid::Page.chunks(16 * 1024 + 1), 2);
    assert_eq!(Grid::Page.range(1, 16 * 1024 + 1), 16 * 1024..16 * 1024 + 1);
    assert_eq!(Grid::Page.range(2, 16 * 1024 + 1), 16 * 1024 + 1..16 * 1024 + 1);
}

#[test]
fn a_changed_byte_touches_its_chunk_alone() {
    let end = u64::from(GRID_BYTES);
    assert_eq!(Grid::Full.touched(&(end - 1..end), 3 * end), 0..1);
    assert_eq!(Grid::Full.touched(&(end - 1..end + 1), 3 * end), 0..2);
    assert_eq!(Grid::Full.touched(&(0..u64::MAX), 3 * end), 0..3);
}

#[test]
fn one_byte_that_is_not_zero_is_found_wherever_it_is() {
    let mut bytes = vec![0; 200];
    assert!(is_zeros(&bytes) && is_zeros(&[]));
    for at in 0..bytes.len() {
        bytes[at] = 1;
        assert!(!is_zeros(&bytes));
        bytes[at] = 0;
    }
}

proptest! {
    #[test]
    fn the_chunks_of_a_file_are_its_bytes_once(size in 0u64..2_000_000, page: bool) {
        let grid = if page { Grid::Page } else { Grid::Full };
        let mut end = 0;
        for number in 0..grid.chunks(size) {
            let range = grid.range(number, size);
            prop_assert_eq!(range.start, end);
            prop_assert!(!range.is_empty());
            prop_assert_eq!(grid.chunk_at(range.start), number);
            end = range.end;
        }
        prop_assert_eq!(end, size);
    }
}
