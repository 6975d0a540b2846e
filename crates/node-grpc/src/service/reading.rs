//! Bytes that go out.

use std::io::Read;

use bytes::Bytes;
use cove_content::volumes::{FileReader, Moment};
use cove_types::{TreePath, VolumeId};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument;

use super::{Replies, Service, refuse, tell};
use crate::failure::status;
use crate::pb;
use crate::pb::export_response::Part as ExportPart;
use crate::pieces::{PIECE_BYTES, PIECES_MAX, Piece, PieceWriter, Pieces, feed};
use crate::request::{path_at, range};

impl Service {
    /// A file and its bytes. Few bytes that are at hand come with it.
    pub(super) async fn read_bytes(
        &self,
        request: pb::ReadRequest,
    ) -> Result<Replies<pb::ReadResponse>, Status> {
        const RPC: &str = "Read";
        let (volume, moment, path) = path_at(request.place, &request.path).map_err(refuse)?;
        let range = request.range.map(range).transpose().map_err(refuse)?;
        let (view, reader) =
            self.look(RPC, self.volumes.read(&volume, &moment, &path, range)).await?;
        let file = Some(tell(RPC, view)?);
        let opened = |whole| {
            let part = pb::read_response::Part::Opened(pb::Opened { file, whole });
            pb::ReadResponse { part: Some(part) }
        };
        let reader: Box<dyn Read + Send> = match reader {
            FileReader::Whole(bytes) => {
                let at = usize::try_from(bytes.position()).unwrap_or(usize::MAX);
                let bytes = bytes.into_inner();
                let bytes = bytes.slice(at.min(bytes.len())..);
                if bytes.len() <= PIECE_BYTES {
                    return Ok(stream::iter([Ok(opened(Some(bytes)))]).boxed());
                }
                let pieces = split(bytes).map(Piece::Bytes).chain([Piece::End]);
                let pieces = std::iter::once(opened(None)).chain(pieces.map(Pieces::of));
                return Ok(stream::iter(pieces.map(Ok)).boxed());
            }
            FileReader::Stream(reader) => reader,
        };
        let (to, from) = mpsc::channel(PIECES_MAX);
        feed(reader, self.turn().await, move |piece| {
            to.blocking_send(Ok(Pieces::of(piece))).is_ok()
        });
        Ok(stream::iter([Ok(opened(None))]).chain(ReceiverStream::new(from)).boxed())
    }

    /// An archive as it is written. What fails before its first byte, fails instead of it.
    pub(super) async fn write_archive(
        &self,
        volume: VolumeId,
        moment: Moment,
        path: TreePath,
    ) -> Replies<pb::ExportResponse> {
        const RPC: &str = "Export";
        let (to, from) = mpsc::channel(PIECES_MAX);
        let writer = Box::new(PieceWriter::new(to.clone(), self.turn().await));
        let volumes = self.volumes();
        let task = async move {
            let ended = volumes.export(&volume, &moment, &path, writer).await;
            let last: Vec<Result<pb::ExportResponse, Status>> = match ended {
                Ok(remarks) => {
                    let remarks = remarks.into_iter().map(ExportPart::Remark);
                    let parts = remarks.chain([ExportPart::End(pb::End {})]);
                    parts.map(|part| Ok(pb::ExportResponse { part: Some(part) })).collect()
                }
                Err(error) => vec![Err(status(RPC, &error))],
            };
            for part in last {
                // Nobody hears it when the caller has gone away.
                if to.send(part).await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(task.instrument(tracing::info_span!("node", rpc = RPC)));
        ReceiverStream::new(from).boxed()
    }
}

/// Bytes in pieces.
fn split(mut bytes: Bytes) -> impl Iterator<Item = Bytes> + Send + 'static {
    std::iter::from_fn(move || {
        (!bytes.is_empty()).then(|| bytes.split_to(bytes.len().min(PIECE_BYTES)))
    })
}
