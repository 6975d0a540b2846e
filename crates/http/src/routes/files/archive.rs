//! Paths with everything below, as tar streams.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use cove_content::volumes::FileEdit;
use cove_types::wire::FilesReply;
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio_stream::wrappers::ReceiverStream;

use super::edits::{Target, change, in_task};
use super::{Place, place};
use crate::body::{self, Written};
use crate::guard::RequestId;
use crate::reading::{self, Asked, Params, Project};
use crate::routes::{Answer, App, Keyed, Octets, Refused, Reply};
use crate::trailers::Ending;

/// Reads a path with everything below as a tar stream; names in it begin with the path's last
/// name, `.` for the root.
///
/// What goes wrong after the first byte stands in the trailer `Cove-Problem`, an error as JSON, and
/// what was not taken as it is in `Cove-Remarks`, a list of lines: for callers that send
/// `TE: trailers`. For others an answer that goes wrong breaks off.
#[utoipa::path(get, path = "/projects/{slug}/files/archive", operation_id = "export_archive", tag = "files", params(
    ("slug", description = "The project"),
    Place,
    ("TE" = Option<String>, Header, description = "With trailers the answer ends in them"),
), responses(
    (status = 200, description = "The archive; whole only without the trailer Cove-Problem", body = Octets, content_type = "application/x-tar"),
    Refused,
))]
pub(crate) async fn export(
    State(app): State<App>,
    Project(slug): Project,
    Params(at): Params<Place>,
    RequestId(request_id): RequestId,
    headers: HeaderMap,
) -> Answer {
    let (reference, path) = place(slug, &at.path, at.at.as_deref())?;
    let (writer, ending, mut from) = body::writer().await;
    tokio::spawn(async move {
        let call = async move { app.workspaces.export(&reference, &path, Box::new(writer)).await };
        // Nobody hears it when the caller has gone away.
        drop(ending.send(Written::Ended(in_task(call).await)).await);
    });
    let first = match from.recv().await {
        // A refusal comes before the first byte.
        Some(Written::Ended(Err(problem))) => return Err(problem),
        first => first,
    };
    let last = Ending::new(&headers, &request_id);
    let announcement = last.announcement();
    let pieces = futures::stream::iter(first).chain(ReceiverStream::new(from));
    let frames = pieces.filter_map(move |piece| {
        std::future::ready(match piece {
            Written::Bytes(bytes) => Some(Ok(Frame::data(bytes))),
            Written::Ended(ended) => last.frame(&ended),
        })
    });
    let kind = [(header::CONTENT_TYPE, "application/x-tar")];
    Ok((kind, announcement, Body::new(StreamBody::new(frames))).into_response())
}

/// Extracts a tar stream below a directory, merging directories.
#[utoipa::path(put, path = "/projects/{slug}/files/archive", operation_id = "extract_archive", tag = "files", params(
    ("slug", description = "The project"),
    Target,
    Keyed,
), request_body(content = Octets, content_type = "application/x-tar"), responses(
    (status = 200, description = "The first names in it, durable on this node", body = FilesReply),
    Refused,
))]
pub(crate) async fn extract(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(target): Params<Target>,
    request: Request,
) -> Reply<FilesReply> {
    let path = reading::path("path", &target.path)?;
    let (archive, refusal) = body::reader(request.into_body()).await;
    let edit = FileEdit::Extract(path, Box::new(archive));
    change(app, asked, slug, edit).await.map_err(|problem| refusal.or(problem))
}
