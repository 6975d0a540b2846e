//! The volumes of a node in another process.

mod replies;

use std::io::{Cursor, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cove_content::document::ProjectDocument;
use cove_content::spec::SpecChange;
use cove_content::volumes::{
    Call, Capacity, Captured, Edited, EntryEdit, EntryView, FileEdit, FileReader, FileView,
    FoundLost, Moment, NewEntry, NewVolume, Progress, Recovered, Restore, Restored, Snapshot,
    Source, Verified, VerifyLevel, VolumeError, VolumeFilter, VolumeStatus, Volumes,
};
use cove_types::{EntryId, ErrorKind, TreePath, VolumeId, wire};
use cove_unix_grpc::channel;
use futures::{Stream, StreamExt, stream};
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use self::replies::{Steps, list, write};
use crate::connection::{Effect, Peer};
use crate::field::{
    FieldError, each_json, message, optional_directory, optional_json, wire_json, wire_tree_path,
};
use crate::pb;
use crate::pb::Mark;
use crate::pb::node_client::NodeClient as Rpc;
use crate::pieces::{PIECES_MAX, PieceReader, Pieces, STREAMS_MAX, Turn, feed};
use crate::request::{wire_call, wire_edit, wire_place, wire_restore, wire_volume_filter};
use crate::server::{MESSAGE_BYTES_MAX, WINDOWS};

/// The volumes of a node in another process, over its unix socket. Clones share one connection.
///
/// Connects with the first call, and again with the next one after the connection was lost. A connection that cannot
/// be made is of kind `Unavailable`: nothing was sent. When one is lost in between, a call with an operation id gives
/// [`VolumeError::Unknown`], another one that changes something is of kind `TimedOut`, and the rest, which can be
/// asked again, is of kind `Unavailable`. What was captured and is being saved then goes on there.
///
/// A future that is dropped stops nothing that changes something. Readers and writers that are given away are used in
/// threads that block. A [`FileReader`] that is given back blocks, too, and belongs into such a thread: a worker of the
/// runtime that waits there can be the one that would bring the bytes.
#[derive(Debug, Clone)]
pub struct NodeClient {
    rpc: Rpc<Channel>,
    peer: Peer,
    /// The turns of streams of bytes.
    turns: Arc<Semaphore>,
}

impl NodeClient {
    /// The node at a socket, which need not be there yet. Needs a runtime, on which the connection lives.
    #[must_use]
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        let socket: PathBuf = socket.into();
        let rpc = Rpc::new(channel(&socket, Some(WINDOWS)));
        let rpc = rpc.max_decoding_message_size(MESSAGE_BYTES_MAX);
        let turns = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { rpc, peer: Peer::at(&socket), turns }
    }

    fn rpc(&self) -> Rpc<Channel> {
        self.rpc.clone()
    }

    /// Waits for a turn.
    async fn turn(&self) -> Turn {
        // It fails only for one that is closed, and nobody closes this one.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// The reply to a call, or what it may have done.
    fn reply<T>(
        &self,
        effect: Effect,
        answered: Result<Response<T>, Status>,
    ) -> Result<T, VolumeError> {
        answered.map(Response::into_inner).map_err(|status| self.peer.error(effect, &status))
    }

    /// The reply to a call that may be asked again.
    fn answer<T>(&self, answered: Result<Response<T>, Status>) -> Result<T, VolumeError> {
        self.reply(Effect::Nothing, answered)
    }

    /// The reply in steps to a call.
    fn steps<R>(
        &self,
        (effect, progress): (Effect, Vec<Progress>),
        answered: Result<Response<Streaming<R>>, Status>,
    ) -> Result<Steps<R>, VolumeError> {
        let from = self.reply(effect, answered)?;
        Ok(Steps { from, peer: self.peer.clone(), effect, progress })
    }

    /// A list that may be asked for again.
    async fn list<B: crate::list::Batch>(
        &self,
        answered: Result<Response<Streaming<B>>, Status>,
    ) -> Result<B::List, VolumeError> {
        list(self.answer(answered)?, &self.peer, Effect::Nothing).await
    }

    /// A reply's words as those of the domain.
    fn lawful<T>(&self, parsed: Result<T, FieldError>) -> Result<T, VolumeError> {
        parsed.map_err(|error| self.peer.unlawful(&error))
    }
}

/// A call and, when there are any, the bytes that it comes with.
fn with_bytes<M: Pieces>(
    first: M,
    bytes: Option<Box<dyn Read + Send>>,
    turn: Turn,
) -> impl Stream<Item = M> + Send + 'static {
    let pieces = match bytes {
        Some(bytes) => {
            let (to, from) = mpsc::channel(PIECES_MAX);
            feed(bytes, turn, move |piece| to.blocking_send(M::of(piece)).is_ok());
            ReceiverStream::new(from).left_stream()
        }
        None => stream::empty().right_stream(),
    };
    stream::iter([first]).chain(pieces)
}

/// What tells of a call: what it may have done, and how far it is.
fn of(call: &Call) -> (Effect, Vec<Progress>) {
    (Effect::Of(call.operation), vec![call.progress.clone()])
}

/// A request, unless it is longer than a node takes.
fn sendable<T: Message>(request: T) -> Result<T, VolumeError> {
    let bytes = request.encoded_len();
    if bytes > MESSAGE_BYTES_MAX {
        let what = format!("a request has at most {MESSAGE_BYTES_MAX} bytes, found {bytes}");
        return Err(VolumeError::Refused { kind: ErrorKind::Invalid, what });
    }
    Ok(request)
}

/// What cannot be asked over the wire.
fn unsendable(error: FieldError) -> VolumeError {
    VolumeError::Refused { kind: ErrorKind::Invalid, what: error.to_string() }
}

#[async_trait]
impl Volumes for NodeClient {
    async fn create(
        &self,
        call: Call,
        new: NewVolume,
        source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        let archive = match source {
            Source::Empty => None,
            Source::Archive(archive) => Some(archive),
        };
        let create = sendable(pb::NewCreate {
            call: Some(wire_call(&call)),
            target: Some(new.into()),
            has_archive: archive.is_some(),
        })?;
        let part = Some(pb::create_request::Part::Create(create));
        let turn = if archive.is_some() { self.turn().await } else { None };
        let parts = with_bytes(pb::CreateRequest { part }, archive, turn);
        self.steps(of(&call), self.rpc().create(parts).await)?.captured().await
    }

    async fn fork(
        &self,
        call: Call,
        source: VolumeId,
        moment: Moment,
        targets: Vec<NewVolume>,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError> {
        use pb::fork_request::Part;
        let pb::Place { volume: source, entry } = wire_place(&source, &moment);
        let mut parts =
            vec![Part::Fork(pb::NewFork { call: Some(wire_call(&call)), source, entry })];
        for target in targets {
            parts.push(Part::Target(sendable(target.into())?));
        }
        parts.push(Part::End(pb::End {}));
        let parts = parts.into_iter().map(|part| pb::ForkRequest { part: Some(part) });
        self.steps(of(&call), self.rpc().fork(stream::iter(parts)).await)?.captured().await
    }

    async fn snapshot(
        &self,
        call: Call,
        volume: VolumeId,
        entry: NewEntry,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        let request = sendable(pb::SnapshotRequest {
            call: Some(wire_call(&call)),
            volume: volume.to_string(),
            entry: Some(entry.into()),
        })?;
        self.steps(of(&call), self.rpc().snapshot(request).await)?.captured().await
    }

    async fn restore(
        &self,
        call: Call,
        volume: VolumeId,
        restore: Restore,
    ) -> Result<Captured<Restored>, VolumeError> {
        let request = sendable(wire_restore(&call, &volume, restore))?;
        self.steps(of(&call), self.rpc().restore(request).await)?.captured().await
    }

    async fn edit_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
        edit: EntryEdit,
    ) -> Result<EntryView, VolumeError> {
        let request = sendable(pb::EditEntryRequest {
            call: Some(wire_call(&call)),
            volume: volume.to_string(),
            entry: entry.to_string(),
            edit: Some(edit.into()),
        })?;
        self.steps(of(&call), self.rpc().edit_entry(request).await)?.until(Mark::Saved).await
    }

    async fn describe(
        &self,
        call: Call,
        volume: VolumeId,
        document: ProjectDocument,
    ) -> Result<VolumeStatus, VolumeError> {
        let request = sendable(pb::DescribeRequest {
            call: Some(wire_call(&call)),
            volume: volume.to_string(),
            document_json: document.encode().into(),
        })?;
        self.steps(of(&call), self.rpc().describe(request).await)?.until(Mark::Saved).await
    }

    async fn specify(
        &self,
        call: Call,
        volume: VolumeId,
        change: SpecChange,
        document: Option<ProjectDocument>,
    ) -> Result<Captured<VolumeStatus>, VolumeError> {
        let document = document.map(|document| document.encode().into());
        let request = sendable(pb::SpecifyRequest {
            call: Some(wire_call(&call)),
            volume: volume.to_string(),
            change_json: wire_json("change_json", &change).map_err(unsendable)?,
            document_json: document.unwrap_or_default(),
        })?;
        self.steps(of(&call), self.rpc().specify(request).await)?.captured().await
    }

    async fn set_trashed(
        &self,
        call: Call,
        volume: VolumeId,
        trashed: bool,
    ) -> Result<VolumeStatus, VolumeError> {
        let request = sendable(pb::SetTrashedRequest {
            call: Some(wire_call(&call)),
            volume: volume.to_string(),
            is_trashed: trashed,
        })?;
        self.steps(of(&call), self.rpc().set_trashed(request).await)?.until(Mark::Saved).await
    }

    async fn delete(&self, call: Call, volume: VolumeId) -> Result<Captured<()>, VolumeError> {
        let wire = Some(wire_call(&call));
        let request = sendable(pb::DeleteRequest { call: wire, volume: volume.to_string() })?;
        self.steps(of(&call), self.rpc().delete(request).await)?.captured().await
    }

    async fn remove_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
    ) -> Result<(), VolumeError> {
        let request = sendable(pb::RemoveEntryRequest {
            call: Some(wire_call(&call)),
            volume: volume.to_string(),
            entry: entry.to_string(),
        })?;
        self.steps(of(&call), self.rpc().remove_entry(request).await)?.until(Mark::Saved).await
    }

    async fn snapshot_together(
        &self,
        calls: Vec<(Call, VolumeId)>,
        entry: NewEntry,
    ) -> Result<Captured<Vec<Snapshot>>, VolumeError> {
        let wire = calls.iter().map(|(call, volume)| pb::TogetherCall {
            call: Some(wire_call(call)),
            volume: volume.to_string(),
        });
        let entry = Some(entry.into());
        let request = sendable(pb::SnapshotTogetherRequest { calls: wire.collect(), entry })?;
        // any of the ids tells of all: all or none are made
        let effect = calls.first().map_or(Effect::Nothing, |(call, _)| Effect::Of(call.operation));
        let progress = calls.iter().map(|(call, _)| call.progress.clone()).collect();
        let answered = self.rpc().snapshot_together(request).await;
        self.steps((effect, progress), answered)?.captured().await
    }

    async fn store(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        let request = pb::StoreRequest { volume: volume.to_string() };
        let reply = self.answer(self.rpc().store(request).await)?;
        self.lawful(message("volume", reply.volume))
    }

    async fn make_service_directory(
        &self,
        volume: &VolumeId,
        service: &str,
    ) -> Result<PathBuf, VolumeError> {
        let (volume, service) = (volume.to_string(), service.to_owned());
        let request = sendable(pb::MakeServiceDirectoryRequest { volume, service })?;
        let reply = self.answer(self.rpc().make_service_directory(request).await)?;
        let path = self.lawful(optional_directory("path", &reply.path))?;
        self.lawful(path.ok_or_else(|| FieldError::missing("path")))
    }

    async fn capacity(&self) -> Result<Capacity, VolumeError> {
        let request = pb::GetCapacityRequest {};
        self.answer(self.rpc().get_capacity(request).await).map(Into::into)
    }

    async fn wait_saved(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        let request = pb::WaitSavedRequest { volume: volume.to_string() };
        self.answer(self.rpc().wait_saved(request).await).map(|pb::WaitSavedResponse {}| ())
    }

    async fn list(&self) -> Result<Vec<VolumeStatus>, VolumeError> {
        self.list(self.rpc().list(pb::ListRequest {}).await).await
    }

    async fn find(&self, wanted: &VolumeFilter) -> Result<Vec<VolumeStatus>, VolumeError> {
        let request = sendable(wire_volume_filter(wanted))?;
        self.list(self.rpc().find(request).await).await
    }

    async fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        let request = pb::GetStatusRequest { volume: volume.to_string() };
        let reply = self.answer(self.rpc().get_status(request).await)?;
        self.lawful(message("volume", reply.volume))
    }

    async fn entries(&self, volume: &VolumeId) -> Result<Vec<EntryView>, VolumeError> {
        let request = pb::ListEntriesRequest { volume: volume.to_string() };
        self.list(self.rpc().list_entries(request).await).await
    }

    async fn find_entries(&self, message: &str) -> Result<Vec<(VolumeId, EntryView)>, VolumeError> {
        let request = sendable(pb::FindEntriesRequest { message: message.to_owned() })?;
        self.list(self.rpc().find_entries(request).await).await
    }

    async fn diff(
        &self,
        before: (VolumeId, Moment),
        after: (VolumeId, Moment),
    ) -> Result<Vec<wire::Change>, VolumeError> {
        let place = |(volume, moment): (VolumeId, Moment)| Some(wire_place(&volume, &moment));
        let request = pb::DiffRequest { before: place(before), after: place(after) };
        self.list(self.rpc().diff(request).await).await
    }

    async fn file(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
    ) -> Result<FileView, VolumeError> {
        let place = Some(wire_place(volume, moment));
        let request = pb::GetFileRequest { place, path: wire_tree_path(path) };
        let reply = self.answer(self.rpc().get_file(request).await)?;
        self.lawful(message("file", reply.file))
    }

    async fn files(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Vec<FileView>, VolumeError> {
        let place = Some(wire_place(volume, moment));
        let request = pb::ListFilesRequest { place, path: wire_tree_path(path), recursive };
        self.list(self.rpc().list_files(request).await).await
    }

    async fn read(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(FileView, FileReader), VolumeError> {
        let place = Some(wire_place(volume, moment));
        let range = range.map(|Range { start, end }| pb::Range { start, end });
        let request = pb::ReadRequest { place, path: wire_tree_path(path), range };
        let mut parts = self.answer(self.rpc().read(request).await)?;
        let opened = loop {
            match parts.message().await {
                Ok(Some(pb::ReadResponse { part: None })) => {}
                Ok(Some(pb::ReadResponse { part: Some(part) })) => break part,
                Ok(None) => return Err(self.peer.lost(Effect::Nothing)),
                Err(status) => return Err(self.peer.error(Effect::Nothing, &status)),
            }
        };
        let pb::read_response::Part::Opened(pb::Opened { file, whole }) = opened else {
            return self.lawful(Err(FieldError::missing("opened")));
        };
        let view = self.lawful(message("opened.file", file))?;
        Ok((
            view,
            match whole {
                Some(bytes) => FileReader::Whole(Cursor::new(bytes)),
                None => {
                    FileReader::Stream(Box::new(PieceReader::of_node(parts, self.peer.clone())))
                }
            },
        ))
    }

    async fn export(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        to: Box<dyn Write + Send>,
    ) -> Result<Vec<String>, VolumeError> {
        let turn = self.turn().await;
        let place = Some(wire_place(volume, moment));
        let request = pb::ExportRequest { place, path: wire_tree_path(path) };
        let parts = self.answer(self.rpc().export(request).await)?;
        write(parts, self.peer.clone(), to, turn).await
    }

    async fn edit(&self, volume: &VolumeId, edit: FileEdit) -> Result<Edited, VolumeError> {
        let (edit, bytes) = wire_edit(volume, edit);
        let part = Some(pb::edit_request::Part::Edit(edit));
        let turn = if bytes.is_some() { self.turn().await } else { None };
        let parts = with_bytes(pb::EditRequest { part }, bytes, turn);
        let effect = Effect::Unknown;
        let reply = self.reply(effect, self.rpc().edit(parts).await)?;
        list(reply, &self.peer, effect).await
    }

    async fn verify(&self, volume: &VolumeId, level: VerifyLevel) -> Result<Verified, VolumeError> {
        let request = pb::VerifyRequest { volume: volume.to_string(), ..level.into() };
        self.list(self.rpc().verify(request).await).await
    }

    async fn verify_store(&self) -> Result<Option<wire::VerifyProblem>, VolumeError> {
        let reply = self.answer(self.rpc().verify_store(pb::VerifyStoreRequest {}).await)?;
        self.lawful(optional_json("problem_json", &reply.problem_json))
    }

    async fn recover(&self, take: bool, progress: Progress) -> Result<Recovered, VolumeError> {
        use pb::recover_request::Ask;
        let ask = |ask| pb::RecoverRequest { ask: Some(ask) };
        let (to, asked) = mpsc::channel(1);
        let asked = stream::iter([ask(Ask::Take(take))]).chain(ReceiverStream::new(asked));
        let effect = Effect::Unknown;
        let mut steps = self.steps((effect, vec![progress]), self.rpc().recover(asked).await)?;
        let FoundLost { volumes, lost, rebuilt: _ } = steps.until(Mark::Captured).await?;
        let rest = Box::pin(async move {
            // What became of a stream that nobody reads any more is told by its reply.
            let _ = to.send(ask(Ask::Look(true))).await;
            steps.until(Mark::Saved).await
        });
        Ok(Recovered { volumes, lost, rest })
    }

    async fn doctor(&self) -> Vec<wire::Check> {
        let checks = self.answer(self.rpc().doctor(pb::DoctorRequest {}).await);
        let checks =
            checks.and_then(|reply| self.lawful(each_json("checks_json", &reply.checks_json)));
        let unanswered = |error: VolumeError| {
            let (name, what) = ("node".to_owned(), error.to_string());
            vec![wire::Check { name, ok: false, what, hint: None }]
        };
        checks.unwrap_or_else(unanswered)
    }
}
