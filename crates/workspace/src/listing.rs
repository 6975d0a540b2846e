//! What a listing found.

use cove_content::volumes::FileView;
use cove_types::wire;

use crate::shape;

/// Files in the order of their paths, each brought into the form of the API only when it is asked
/// for: there may be very many, and that form takes several times the room.
pub struct Listing(std::vec::IntoIter<FileView>);

impl Listing {
    pub(crate) fn new(views: Vec<FileView>) -> Self {
        Self(views.into_iter())
    }

    /// All of them at once.
    #[must_use]
    pub fn reply(self) -> wire::FilesReply {
        wire::FilesReply { files: self.collect(), remarks: Vec::new() }
    }
}

impl Iterator for Listing {
    type Item = wire::File;

    fn next(&mut self) -> Option<wire::File> {
        self.0.next().as_ref().map(shape::file)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Listing {}
