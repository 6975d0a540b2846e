//! Listings, which are written as they are sent when they are long.

use axum::Json;
use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cove_types::wire;
use cove_workspace::Listing;

use crate::body;

/// A listing of no more files is sent in one piece.
const FILES_AT_ONCE: usize = 1_000;
/// How much of a longer one is gathered before it is sent.
const PIECE_BYTES: usize = 64 << 10;

/// The answer `{"files": […]}`.
pub(crate) async fn answer(listing: Listing) -> Response {
    if listing.len() <= FILES_AT_ONCE {
        return Json(listing.reply()).into_response();
    }
    let pieces = Pieces { files: listing, stands: Stands::BeforeFirst };
    let body = body::of_pieces(pieces).await;
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Where a body that is being written stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    BeforeFirst,
    Between,
    AtEnd,
}

/// The pieces of the body of a listing.
struct Pieces<I> {
    files: I,
    stands: Stands,
}

impl<I: Iterator<Item = wire::File>> Iterator for Pieces<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.stands == Stands::AtEnd {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES + (PIECE_BYTES >> 3));
        if self.stands == Stands::BeforeFirst {
            piece.extend_from_slice(b"{\"files\":[");
        }
        while piece.len() < PIECE_BYTES {
            let Some(file) = self.files.next() else {
                piece.extend_from_slice(b"]}");
                self.stands = Stands::AtEnd;
                break;
            };
            if self.stands == Stands::Between {
                piece.push(b',');
            }
            self.stands = Stands::Between;
            serde_json::to_writer(&mut piece, &file).expect("texts and numbers are JSON");
        }
        Some(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: usize) -> wire::File {
        wire::File {
            path: format!("src/\"{number}\""),
            kind: "file".into(),
            bytes: number as u64,
            mode: "0644".into(),
            modified: "2026-11-25T00:00:00Z".into(),
            target: None,
        }
    }

    #[test]
    fn a_long_listing_is_the_same_as_a_short_one_in_pieces() {
        for count in [0, 1, 2, 3_000] {
            let files = (0..count).map(file);
            let pieces: Vec<Bytes> =
                Pieces { files: files.clone(), stands: Stands::BeforeFirst }.collect();
            let whole = wire::FilesReply { files: files.collect(), remarks: Vec::new() };
            assert_eq!(pieces.concat(), serde_json::to_vec(&whole).unwrap(), "{count} files");
            assert!(pieces.iter().all(|piece| piece.len() < 2 * PIECE_BYTES));
            assert!(count < 1_000 || pieces.len() > 3);
        }
    }
}
