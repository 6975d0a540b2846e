//! The calls: words of the wire in, words of the domain out.

mod reading;
mod recovering;
mod telling;

use std::sync::Arc;

use cove_content::volumes::{
    Call, FORKS_MAX, FileEdit, NewEntry, NewVolume, Source, TOGETHER_MAX, VolumeError, Volumes,
};
use cove_unix_grpc::{Ending, is_true, refused};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use self::telling::Steps;
use crate::failure::{internal, status};
use crate::field::{
    FieldError, document, json, message, optional_document, required, wire_directory, wire_json,
};
use crate::list::{Batch, told};
use crate::pb;
use crate::pb::create_request::Part as CreatePart;
use crate::pb::edit_request::Part as EditPart;
use crate::pb::fork_request::Part as ForkPart;
use crate::pb::node_server::Node;
use crate::pieces::{PieceReader, STREAMS_MAX, Turn};
use crate::request::{
    NewEdit, NewFork, at_most, call_on, check_length, entry_edit, entry_of, new_edit, path_at,
    place, restore, verify_level, volume_filter,
};

/// Messages of a stream.
type Replies<R> = BoxStream<'static, Result<R, Status>>;

/// What a call is answered.
type Answer<R> = Result<Response<R>, Status>;

/// The volumes as the wire calls them.
pub(crate) struct Service {
    volumes: Arc<dyn Volumes>,
    ending: Ending,
    /// The turns of streams of bytes.
    turns: Arc<Semaphore>,
}

impl Service {
    pub(crate) fn new(volumes: Arc<dyn Volumes>, ending: Ending) -> Self {
        Self { volumes, ending, turns: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }

    fn volumes(&self) -> Arc<dyn Volumes> {
        Arc::clone(&self.volumes)
    }

    /// Waits for a turn.
    async fn turn(&self) -> Turn {
        // It fails only for one that is closed, and nobody closes this one.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Ends when the node is to stop.
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        is_true(self.ending.stopping.clone())
    }

    /// Runs a call that changes nothing once it has gone away, as long as its caller waits for it and the node does not stop.
    async fn look<T>(
        &self,
        rpc: &'static str,
        call: impl Future<Output = Result<T, VolumeError>> + Send,
    ) -> Result<T, Status> {
        let call = call.instrument(tracing::info_span!("node", rpc));
        let ended = tokio::select! {
            ended = call => ended,
            () = self.stopped() => Err(VolumeError::Stopping),
        };
        ended.map_err(|error| status(rpc, &error))
    }

    /// Runs a call that may change something, to its end whatever becomes of its caller.
    async fn run<T, C>(
        &self,
        rpc: &'static str,
        call: impl FnOnce(Arc<dyn Volumes>) -> C,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        C: Future<Output = Result<T, VolumeError>> + Send + 'static,
    {
        let (run, call) = (self.ending.running.one_more(), call(self.volumes()));
        let task = async move {
            let _run = run;
            call.await
        };
        match tokio::spawn(task.instrument(tracing::info_span!("node", rpc))).await {
            Ok(ended) => ended.map_err(|error| status(rpc, &error)),
            Err(panicked) => Err(internal(rpc, &panicked.to_string())),
        }
    }
}

fn refuse(error: FieldError) -> Status {
    refused(&error)
}

/// What a node answered, as the wire has it. What the wire cannot tell is internal.
fn tell<T, W: TryFrom<T, Error = FieldError>>(rpc: &'static str, answer: T) -> Result<W, Status> {
    W::try_from(answer).map_err(|error| internal(rpc, &error.to_string()))
}

/// A list as the wire has it.
fn listed<B: Batch>(rpc: &'static str, list: B::List) -> Answer<Replies<B>> {
    Ok(Response::new(told(rpc, list).boxed()))
}

fn steps<R>(steps: Steps<R>) -> Answer<Steps<R>> {
    Ok(Response::new(steps))
}

/// The first message of a stream.
async fn first<M>(messages: &mut Streaming<M>, field: &str) -> Result<M, Status> {
    let first = messages.message().await?;
    first.ok_or_else(|| refuse(FieldError::missing(field)))
}

#[async_trait::async_trait]
impl Node for Service {
    type CreateStream = Steps<pb::CreateResponse>;

    async fn create(
        &self,
        request: Request<Streaming<pb::CreateRequest>>,
    ) -> Answer<Self::CreateStream> {
        let mut parts = request.into_inner();
        let Some(CreatePart::Create(create)) = first(&mut parts, "create").await?.part else {
            return Err(refuse(FieldError::missing("create")));
        };
        let call: Call = message("call", create.call).map_err(refuse)?;
        let new: NewVolume = message("target", create.target).map_err(refuse)?;
        let source = if create.has_archive {
            let turn = self.turn().await;
            Source::Archive(Box::new(PieceReader::of_caller(parts, self.stopped(), turn)))
        } else {
            Source::Empty
        };
        let (volumes, progress) = (self.volumes(), vec![call.progress.clone()]);
        let call = async move { volumes.create(call, new, source).await };
        steps(self.captured("Create", progress, call))
    }

    type ForkStream = Steps<pb::ForkResponse>;

    async fn fork(&self, request: Request<Streaming<pb::ForkRequest>>) -> Answer<Self::ForkStream> {
        let mut parts = request.into_inner();
        let Some(ForkPart::Fork(fork)) = first(&mut parts, "fork").await?.part else {
            return Err(refuse(FieldError::missing("fork")));
        };
        let NewFork { call, source, moment } = fork.try_into().map_err(refuse)?;
        let mut targets = Vec::new();
        loop {
            match first(&mut parts, "end").await?.part {
                Some(ForkPart::Target(target)) => {
                    at_most("target", FORKS_MAX as usize, targets.len() + 1).map_err(refuse)?;
                    let target = NewVolume::try_from(target);
                    targets.push(target.map_err(|error| refuse(error.within("target")))?);
                }
                Some(ForkPart::End(pb::End {})) => break,
                Some(ForkPart::Fork(_)) => {
                    return Err(refuse(FieldError::unlawful("fork", "it is the first message")));
                }
                // a part of a call that only a newer version knows is not left out
                None => return Err(refuse(FieldError::missing("target"))),
            }
        }
        let (volumes, progress) = (self.volumes(), vec![call.progress.clone()]);
        let call = async move { volumes.fork(call, source, moment, targets).await };
        steps(self.captured("Fork", progress, call))
    }

    type SnapshotStream = Steps<pb::SnapshotResponse>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Answer<Self::SnapshotStream> {
        let request = request.into_inner();
        let (call, volume) = call_on(request.call, &request.volume).map_err(refuse)?;
        let entry: NewEntry = message("entry", request.entry).map_err(refuse)?;
        let (volumes, progress) = (self.volumes(), vec![call.progress.clone()]);
        let call = async move { volumes.snapshot(call, volume, entry).await };
        steps(self.captured("Snapshot", progress, call))
    }

    type RestoreStream = Steps<pb::RestoreResponse>;

    async fn restore(&self, request: Request<pb::RestoreRequest>) -> Answer<Self::RestoreStream> {
        let mut request = request.into_inner();
        let (call, volume) = call_on(request.call.take(), &request.volume).map_err(refuse)?;
        let restore = restore(request).map_err(refuse)?;
        let (volumes, progress) = (self.volumes(), vec![call.progress.clone()]);
        let call = async move { volumes.restore(call, volume, restore).await };
        steps(self.captured("Restore", progress, call))
    }

    type EditEntryStream = Steps<pb::EditEntryResponse>;

    async fn edit_entry(
        &self,
        request: Request<pb::EditEntryRequest>,
    ) -> Answer<Self::EditEntryStream> {
        let request = request.into_inner();
        let (call, volume) = call_on(request.call, &request.volume).map_err(refuse)?;
        let entry = entry_of(&request.entry).map_err(refuse)?;
        let edit = entry_edit(request.edit).map_err(refuse)?;
        let (volumes, progress) = (self.volumes(), call.progress.clone());
        let call = async move { volumes.edit_entry(call, volume, entry, edit).await };
        steps(self.saved("EditEntry", progress, call))
    }

    type DescribeStream = Steps<pb::DescribeResponse>;

    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Answer<Self::DescribeStream> {
        let request = request.into_inner();
        let (call, volume) = call_on(request.call, &request.volume).map_err(refuse)?;
        check_length("document_json", &request.document_json).map_err(refuse)?;
        let document = document(&request.document_json).map_err(refuse)?;
        let (volumes, progress) = (self.volumes(), call.progress.clone());
        let call = async move { volumes.describe(call, volume, document).await };
        steps(self.saved("Describe", progress, call))
    }

    type SpecifyStream = Steps<pb::SpecifyResponse>;

    async fn specify(&self, request: Request<pb::SpecifyRequest>) -> Answer<Self::SpecifyStream> {
        let request = request.into_inner();
        let (call, volume) = call_on(request.call, &request.volume).map_err(refuse)?;
        check_length("change_json", &request.change_json).map_err(refuse)?;
        check_length("document_json", &request.document_json).map_err(refuse)?;
        let change = json("change_json", &request.change_json).map_err(refuse)?;
        let document = optional_document(&request.document_json).map_err(refuse)?;
        let (volumes, progress) = (self.volumes(), vec![call.progress.clone()]);
        let call = async move { volumes.specify(call, volume, change, document).await };
        steps(self.captured("Specify", progress, call))
    }

    type SetTrashedStream = Steps<pb::SetTrashedResponse>;

    async fn set_trashed(
        &self,
        request: Request<pb::SetTrashedRequest>,
    ) -> Answer<Self::SetTrashedStream> {
        let request = request.into_inner();
        let (call, volume) = call_on(request.call, &request.volume).map_err(refuse)?;
        let (volumes, progress) = (self.volumes(), call.progress.clone());
        let call = async move { volumes.set_trashed(call, volume, request.is_trashed).await };
        steps(self.saved("SetTrashed", progress, call))
    }

    type DeleteStream = Steps<pb::DeleteResponse>;

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Answer<Self::DeleteStream> {
        let request = request.into_inner();
        let (call, volume) = call_on(request.call, &request.volume).map_err(refuse)?;
        let (volumes, progress) = (self.volumes(), vec![call.progress.clone()]);
        let call = async move { volumes.delete(call, volume).await };
        steps(self.captured("Delete", progress, call))
    }

    type RemoveEntryStream = Steps<pb::RemoveEntryResponse>;

    async fn remove_entry(
        &self,
        request: Request<pb::RemoveEntryRequest>,
    ) -> Answer<Self::RemoveEntryStream> {
        let request = request.into_inner();
        let (call, volume) = call_on(request.call, &request.volume).map_err(refuse)?;
        let entry = entry_of(&request.entry).map_err(refuse)?;
        let (volumes, progress) = (self.volumes(), call.progress.clone());
        let call = async move { volumes.remove_entry(call, volume, entry).await };
        steps(self.saved("RemoveEntry", progress, call))
    }

    type SnapshotTogetherStream = Steps<pb::SnapshotTogetherResponse>;

    async fn snapshot_together(
        &self,
        request: Request<pb::SnapshotTogetherRequest>,
    ) -> Answer<Self::SnapshotTogetherStream> {
        let request = request.into_inner();
        at_most("calls", TOGETHER_MAX, request.calls.len()).map_err(refuse)?;
        let calls = request.calls.into_iter();
        let calls = calls.map(|pb::TogetherCall { call, volume }| call_on(call, &volume));
        let calls: Vec<_> =
            calls.collect::<Result<_, _>>().map_err(|error| refuse(error.within("calls")))?;
        let entry: NewEntry = message("entry", request.entry).map_err(refuse)?;
        let progress = calls.iter().map(|(call, _)| call.progress.clone()).collect();
        let volumes = self.volumes();
        let call = async move { volumes.snapshot_together(calls, entry).await };
        steps(self.captured("SnapshotTogether", progress, call))
    }

    async fn store(&self, request: Request<pb::StoreRequest>) -> Answer<pb::StoreResponse> {
        let volume = required("volume", &request.into_inner().volume).map_err(refuse)?;
        // what it captures goes on without it: whoever goes away only waits no longer
        let status = self.look("Store", self.volumes.store(&volume)).await?;
        Ok(Response::new(pb::StoreResponse { volume: Some(tell("Store", status)?) }))
    }

    async fn make_service_directory(
        &self,
        request: Request<pb::MakeServiceDirectoryRequest>,
    ) -> Answer<pb::MakeServiceDirectoryResponse> {
        let pb::MakeServiceDirectoryRequest { volume, service } = request.into_inner();
        let volume = required("volume", &volume).map_err(refuse)?;
        let call = |volumes: Arc<dyn Volumes>| async move {
            volumes.make_service_directory(&volume, &service).await
        };
        let path = wire_directory(self.run("MakeServiceDirectory", call).await?);
        Ok(Response::new(pb::MakeServiceDirectoryResponse { path }))
    }

    async fn get_capacity(
        &self,
        _: Request<pb::GetCapacityRequest>,
    ) -> Answer<pb::GetCapacityResponse> {
        let capacity = self.look("GetCapacity", self.volumes.capacity()).await?;
        Ok(Response::new(capacity.into()))
    }

    async fn wait_saved(
        &self,
        request: Request<pb::WaitSavedRequest>,
    ) -> Answer<pb::WaitSavedResponse> {
        let volume = required("volume", &request.into_inner().volume).map_err(refuse)?;
        self.look("WaitSaved", self.volumes.wait_saved(&volume)).await?;
        Ok(Response::new(pb::WaitSavedResponse {}))
    }

    type ListStream = Replies<pb::ListResponse>;

    async fn list(&self, _: Request<pb::ListRequest>) -> Answer<Self::ListStream> {
        listed("List", self.look("List", self.volumes.list()).await?)
    }

    type FindStream = Replies<pb::FindResponse>;

    async fn find(&self, request: Request<pb::FindRequest>) -> Answer<Self::FindStream> {
        let wanted = volume_filter(request.into_inner()).map_err(refuse)?;
        listed("Find", self.look("Find", self.volumes.find(&wanted)).await?)
    }

    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> Answer<pb::GetStatusResponse> {
        let volume = required("volume", &request.into_inner().volume).map_err(refuse)?;
        let status = self.look("GetStatus", self.volumes.status(&volume)).await?;
        Ok(Response::new(pb::GetStatusResponse { volume: Some(tell("GetStatus", status)?) }))
    }

    type ListEntriesStream = Replies<pb::ListEntriesResponse>;

    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Answer<Self::ListEntriesStream> {
        let volume = required("volume", &request.into_inner().volume).map_err(refuse)?;
        listed("ListEntries", self.look("ListEntries", self.volumes.entries(&volume)).await?)
    }

    type FindEntriesStream = Replies<pb::FindEntriesResponse>;

    async fn find_entries(
        &self,
        request: Request<pb::FindEntriesRequest>,
    ) -> Answer<Self::FindEntriesStream> {
        let message: String = required("message", &request.into_inner().message).map_err(refuse)?;
        let found = self.look("FindEntries", self.volumes.find_entries(&message)).await?;
        listed("FindEntries", found)
    }

    type DiffStream = Replies<pb::DiffResponse>;

    async fn diff(&self, request: Request<pb::DiffRequest>) -> Answer<Self::DiffStream> {
        let pb::DiffRequest { before, after } = request.into_inner();
        let before = place("before", before).map_err(refuse)?;
        let after = place("after", after).map_err(refuse)?;
        listed("Diff", self.look("Diff", self.volumes.diff(before, after)).await?)
    }

    async fn get_file(&self, request: Request<pb::GetFileRequest>) -> Answer<pb::GetFileResponse> {
        let pb::GetFileRequest { place, path } = request.into_inner();
        let (volume, moment, path) = path_at(place, &path).map_err(refuse)?;
        let file = self.look("GetFile", self.volumes.file(&volume, &moment, &path)).await?;
        Ok(Response::new(pb::GetFileResponse { file: Some(tell("GetFile", file)?) }))
    }

    type ListFilesStream = Replies<pb::ListFilesResponse>;

    async fn list_files(
        &self,
        request: Request<pb::ListFilesRequest>,
    ) -> Answer<Self::ListFilesStream> {
        let pb::ListFilesRequest { place, path, recursive } = request.into_inner();
        let (volume, moment, path) = path_at(place, &path).map_err(refuse)?;
        let files = self.volumes.files(&volume, &moment, &path, recursive);
        listed("ListFiles", self.look("ListFiles", files).await?)
    }

    type ReadStream = Replies<pb::ReadResponse>;

    async fn read(&self, request: Request<pb::ReadRequest>) -> Answer<Self::ReadStream> {
        self.read_bytes(request.into_inner()).await.map(Response::new)
    }

    type ExportStream = Replies<pb::ExportResponse>;

    async fn export(&self, request: Request<pb::ExportRequest>) -> Answer<Self::ExportStream> {
        let pb::ExportRequest { place, path } = request.into_inner();
        let (volume, moment, path) = path_at(place, &path).map_err(refuse)?;
        Ok(Response::new(self.write_archive(volume, moment, path).await))
    }

    type EditStream = Replies<pb::EditResponse>;

    async fn edit(&self, request: Request<Streaming<pb::EditRequest>>) -> Answer<Self::EditStream> {
        let mut parts = request.into_inner();
        let Some(EditPart::Edit(edit)) = first(&mut parts, "edit").await?.part else {
            return Err(refuse(FieldError::missing("edit")));
        };
        let (volume, edit) = new_edit(edit).map_err(refuse)?;
        let turn = match edit {
            NewEdit::Whole(_) => None,
            NewEdit::Put(_) | NewEdit::Extract(_) => self.turn().await,
        };
        let content = PieceReader::of_caller(parts, self.stopped(), turn);
        let edit = match edit {
            NewEdit::Whole(edit) => edit,
            NewEdit::Put(path) => FileEdit::Put(path, Box::new(content)),
            NewEdit::Extract(path) => FileEdit::Extract(path, Box::new(content)),
        };
        let call = |volumes: Arc<dyn Volumes>| async move { volumes.edit(&volume, edit).await };
        listed("Edit", self.run("Edit", call).await?)
    }

    type VerifyStream = Replies<pb::VerifyResponse>;

    async fn verify(&self, request: Request<pb::VerifyRequest>) -> Answer<Self::VerifyStream> {
        let request = request.into_inner();
        let volume = required("volume", &request.volume).map_err(refuse)?;
        let level = verify_level(&request).map_err(refuse)?;
        listed("Verify", self.look("Verify", self.volumes.verify(&volume, level)).await?)
    }

    async fn verify_store(
        &self,
        _: Request<pb::VerifyStoreRequest>,
    ) -> Answer<pb::VerifyStoreResponse> {
        let problem = self.look("VerifyStore", self.volumes.verify_store()).await?;
        let json = problem.map(|problem| wire_json("problem_json", &problem)).transpose();
        let json = json.map_err(|error| internal("VerifyStore", &error.to_string()))?;
        Ok(Response::new(pb::VerifyStoreResponse { problem_json: json.unwrap_or_default() }))
    }

    type RecoverStream = Steps<pb::RecoverResponse>;

    async fn recover(
        &self,
        request: Request<Streaming<pb::RecoverRequest>>,
    ) -> Answer<Self::RecoverStream> {
        let mut asked = request.into_inner();
        let Some(pb::recover_request::Ask::Take(take)) = first(&mut asked, "take").await?.ask
        else {
            return Err(refuse(FieldError::missing("take")));
        };
        steps(self.recover_store(take, asked))
    }

    async fn doctor(&self, _: Request<pb::DoctorRequest>) -> Answer<pb::DoctorResponse> {
        let checks = self.look("Doctor", async { Ok(self.volumes.doctor().await) }).await?;
        let json = checks.iter().map(|check| wire_json("checks_json", check));
        let json = json.collect::<Result<_, _>>();
        let checks_json = json.map_err(|error| internal("Doctor", &error.to_string()))?;
        Ok(Response::new(pb::DoctorResponse { checks_json }))
    }
}
