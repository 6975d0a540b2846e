use super::*;

const SQLITE: &[u8] = b"SQLite format 3\0";

fn grid(path: &str, size: u64, first_bytes: &[u8]) -> Grid {
    grid_for(&TreePath::parse(path).unwrap(), size, first_bytes)
}

#[test]
fn most_files_are_on_the_full_grid() {
    assert_eq!(grid("files/src/main.rs", 100, b"fn main() {}"), Grid::Large);
}

#[test]
fn the_data_of_services_is_on_the_page_grid() {
    assert_eq!(grid("services/db/base/1/2", 8192, b""), Grid::Small);
}

#[test]
fn a_directory_called_services_elsewhere_means_nothing() {
    assert_eq!(grid("files/services/db", 8192, b""), Grid::Large);
    assert_eq!(grid("services", 8192, b""), Grid::Large);
    assert_eq!(grid("services2/db/a", 8192, b""), Grid::Large);
}

#[test]
fn an_sqlite_file_is_on_the_page_grid_wherever_it_is() {
    assert_eq!(grid("files/app.db", 8192, SQLITE), Grid::Small);
    assert_eq!(grid("files/app.db", 8192, &SQLITE[..15]), Grid::Large);
}

#[test]
fn a_file_over_a_gibibyte_is_on_the_full_grid() {
    assert_eq!(grid("services/db/a", 1 << 30, b""), Grid::Small);
    assert_eq!(grid("services/db/a", (1 << 30) + 1, SQLITE), Grid::Large);
}

#[test]
fn the_last_chunk_of_a_file_may_be_short_and_an_empty_file_has_none() {
    assert_eq!(Grid::Large.chunks(0), 0);
    assert_eq!(Grid::Small.chunks(16 * 1024), 1);
    assert_eq!(Grid::Small.chunks(16 * 1024 + 1), 2);
    assert_eq!(
        (Grid::Large.bytes(), Grid::Small.bytes()),
        (GRID_BYTES.into(), PAGE_GRID_BYTES.into())
    );
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
