//! Lists that may be longer than a message.

use cove_content::volumes::{Edited, FileView, VolumeStatus};
use cove_content::volumes::{EntryView, Verified};
use cove_types::{VolumeId, wire};
use futures::{Stream, stream};
use prost::Message;
use tonic::Status;

use crate::failure::internal;
use crate::field::{FieldError, each_json, json, wire_json};
use crate::pb;

/// How many bytes are gathered in one message, at least, of a list that goes on.
const BATCH_BYTES: usize = 256 << 10;

/// A message that is a part of a list.
pub(crate) trait Batch: Message + Default + Sized + 'static {
    /// The list.
    type List: Default + Send + 'static;

    /// The messages of a list, but for the mark of the last.
    fn split(list: Self::List) -> impl Iterator<Item = Result<Self, FieldError>> + Send + 'static;

    /// Whether it is the last, and where that stands.
    fn last(&mut self) -> &mut bool;

    /// Adds what it holds to the list.
    fn gather(self, list: &mut Self::List) -> Result<(), FieldError>;
}

/// The messages of a list: one at least, the last of which says so.
pub(crate) fn told<B: Batch>(
    rpc: &'static str,
    list: B::List,
) -> impl Stream<Item = Result<B, Status>> + Send + 'static {
    let mut batches = B::split(list).peekable();
    let mut is_over = false;
    stream::iter(std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let batch = batches.next().unwrap_or_else(|| Ok(B::default()));
        let batch = batch.map(|mut batch| {
            *batch.last() = batches.peek().is_none();
            batch
        });
        is_over = batch.is_err() || batches.peek().is_none();
        Some(batch.map_err(|error| internal(rpc, &error.to_string())))
    }))
}

/// Gathers items into messages of some size.
fn batches<T, W: Message, B>(
    items: Vec<T>,
    mut write: impl FnMut(T) -> Result<W, FieldError> + Send + 'static,
    batch: impl Fn(Vec<W>) -> B + Send + 'static,
) -> impl Iterator<Item = Result<B, FieldError>> + Send + 'static
where
    T: Send + 'static,
{
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let Some(item) = items.next() else { break };
            match write(item) {
                Ok(item) => {
                    bytes += item.encoded_len();
                    gathered.push(item);
                }
                Err(error) => return Some(Err(error)),
            }
        }
        (!gathered.is_empty()).then(|| Ok(batch(gathered)))
    })
}

fn gather<W, T: TryFrom<W, Error = FieldError>>(
    field: &str,
    items: Vec<W>,
    list: &mut Vec<T>,
) -> Result<(), FieldError> {
    for item in items {
        list.push(T::try_from(item).map_err(|error| error.within(field))?);
    }
    Ok(())
}

/// Lists whose items are messages.
macro_rules! lists {
    ($($reply:ident: $field:ident of $item:ty),+ $(,)?) => { $(
        impl Batch for pb::$reply {
            type List = Vec<$item>;

            fn split(
                list: Vec<$item>,
            ) -> impl Iterator<Item = Result<Self, FieldError>> + Send + 'static {
                batches(list, TryInto::try_into, |$field| Self { $field, is_last: false })
            }

            fn last(&mut self) -> &mut bool {
                &mut self.is_last
            }

            fn gather(self, list: &mut Vec<$item>) -> Result<(), FieldError> {
                gather(stringify!($field), self.$field, list)
            }
        }
    )+ };
}

lists! {
    ListResponse: volumes of VolumeStatus,
    FindResponse: volumes of VolumeStatus,
    ListEntriesResponse: entries of EntryView,
    FindEntriesResponse: entries of (VolumeId, EntryView),
    ListFilesResponse: files of FileView,
}

impl Batch for pb::DiffResponse {
    type List = Vec<wire::Change>;

    fn split(
        list: Vec<wire::Change>,
    ) -> impl Iterator<Item = Result<Self, FieldError>> + Send + 'static {
        let write = |change| wire_json("changes_json", &change);
        batches(list, write, |changes_json| Self { changes_json, is_last: false })
    }

    fn last(&mut self) -> &mut bool {
        &mut self.is_last
    }

    fn gather(self, list: &mut Vec<wire::Change>) -> Result<(), FieldError> {
        list.extend(each_json("changes_json", &self.changes_json)?);
        Ok(())
    }
}

impl Batch for pb::EditResponse {
    type List = Edited;

    fn split(list: Edited) -> impl Iterator<Item = Result<Self, FieldError>> + Send + 'static {
        let Edited { files, remarks } = list;
        let files = batches(files, TryInto::try_into, |files| Self { files, ..Self::default() });
        let remarks = batches(remarks, Ok, |remarks| Self { remarks, ..Self::default() });
        files.chain(remarks)
    }

    fn last(&mut self) -> &mut bool {
        &mut self.is_last
    }

    fn gather(self, list: &mut Edited) -> Result<(), FieldError> {
        list.remarks.extend(self.remarks);
        gather("files", self.files, &mut list.files)
    }
}

impl Batch for pb::VerifyResponse {
    type List = Verified;

    fn split(list: Verified) -> impl Iterator<Item = Result<Self, FieldError>> + Send + 'static {
        let Verified { problems, checked } = list;
        let write = |problem| wire_json("problems_json", &problem);
        let problems =
            batches(problems, write, |problems_json| Self { problems_json, ..Self::default() });
        let checked = wire_json("checked_json", &checked)
            .map(|checked_json| Self { checked_json, ..Self::default() });
        problems.chain(std::iter::once(checked))
    }

    fn last(&mut self) -> &mut bool {
        &mut self.is_last
    }

    fn gather(self, list: &mut Verified) -> Result<(), FieldError> {
        list.problems.extend(each_json("problems_json", &self.problems_json)?);
        if self.is_last {
            list.checked = json("checked_json", &self.checked_json)?;
        }
        Ok(())
    }
}
