//! Objects in S3 and what speaks like it.
//!
//! The library decides how requests are signed and written; what an answer *means*
//! is decided here, from its status and headers, which [`Wire`] hands over beside
//! the library's own reading of them. That reading is not enough: it gives 409 and
//! 412 one name, and a missing bucket the name of a missing object.

mod wire;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cove_env::Env;
use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};

use self::wire::{Answer, Slot, Wire};
use crate::counts::Counters;
use crate::location::parse_prefix;
use crate::{
    Key, Listed, Location, Object, OpenError, Put, ReadError, Requests, Rules, Store, Version,
    WriteError,
};

/// The most objects that S3 lists in one answer.
const PAGE_MAX: usize = 1_000;

/// The most that is read where a part was asked for and the store gives all or nothing.
const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// How often a read is asked again after an answer that says nothing, and how long
/// after the first time it may still be asked again.
const READ_ATTEMPTS: u32 = 4;
const READ_AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// What [`S3Config::silence_max`] is when nobody says otherwise.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The longest pause before a read is asked again the first time; each next is four
/// times as long, and each at least half of that.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Reads by `$attempt`, again after an answer that says nothing. A macro, because the
/// compiler does not see that a closure's future is `Send`.
macro_rules! patiently {
    ($store:expr, $attempt:expr) => {{
        let mut patience = Patience::new($store);
        loop {
            let result = $attempt.await;
            match patience.pause(&result) {
                None => break result,
                Some(pause) => tokio::time::sleep(pause).await,
            }
        }
    }};
}

/// Where an S3 store is and how it lets us in.
#[derive(Clone)]
pub struct S3Config {
    /// The bucket; it exists.
    pub bucket: String,
    /// What all keys begin with; may be empty, and slashes at its ends do not count.
    pub prefix: String,
    /// The region, such as `us-east-1`.
    pub region: String,
    /// `http://host:port` or `https://host` of a store that is not AWS.
    pub endpoint: Option<String>,
    /// The id of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
    /// The longest time in which no byte of a request goes out and none of its answer comes in;
    /// then the store does not answer.
    pub silence_max: Duration,
}

/// Shows no secret.
impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Objects in an S3 bucket.
#[derive(Debug)]
pub struct S3Store {
    s3: AmazonS3,
    wire: Wire,
    env: Env,
    first_pause: Duration,
    /// Empty, or ending with `/`.
    prefix: String,
    url: String,
    /// Whether the server was found to list in another order than that of keys.
    is_unordered: AtomicBool,
    counters: Counters,
}

impl S3Store {
    /// Opens the store that `config` names. Asks it nothing.
    ///
    /// # Errors
    ///
    /// The settings are not usable.
    pub fn open(config: S3Config, env: Env) -> Result<Self, OpenError> {
        Self::open_with(config, env, FIRST_PAUSE)
    }

    /// As [`open`](Self::open), for a test that cannot pause as long.
    fn open_with(config: S3Config, env: Env, first_pause: Duration) -> Result<Self, OpenError> {
        let S3Config { bucket, prefix, region, endpoint, .. } = config;
        let S3Config { access_key, secret_key, session_token, silence_max, .. } = config;
        let store = format!("s3://{bucket}");
        let settings = |source| OpenError::Settings { store: store.clone(), source };
        let prefix = parse_prefix(&prefix).map_err(|error| settings(error.into()))?;
        let url = if prefix.is_empty() { store.clone() } else { format!("s3://{bucket}/{prefix}") };
        let prefix = if prefix.is_empty() { prefix } else { format!("{prefix}/") };
        let is_http = endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let is_https = endpoint.as_ref().is_some_and(|url| url.starts_with("https://"));
        if endpoint.is_some() && !is_http && !is_https {
            return Err(settings("an endpoint begins with http:// or https://".into()));
        }

        let wire = Wire::new(silence_max, is_http).map_err(|error| settings(error.into()))?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket)
            .with_region(region)
            .with_access_key_id(access_key)
            .with_secret_access_key(secret_key)
            .with_allow_http(is_http)
            .with_disable_bulk_delete(true)
            .with_disable_tagging(true)
            // A repeated conditional write meets its own success and reports a refusal.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_http_connector(wire.clone());
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        } else if !bucket.contains('.') {
            builder = builder.with_virtual_hosted_style_request(true);
        }
        if let Some(token) = session_token {
            builder = builder.with_token(token);
        }
        let s3 = builder.build().map_err(|error| settings(error.into()))?;
        let (is_unordered, counters) = (AtomicBool::new(false), Counters::default());
        Ok(Self { s3, wire, env, first_pause, prefix, url, is_unordered, counters })
    }

    fn path(&self, key: &Key) -> Path {
        // A key and a prefix are checked and have nothing that a path would encode.
        Path::from(format!("{}{key}", self.prefix))
    }

    /// One GET: all that was asked for, whole, with what its headers say. When these
    /// announce more than `bytes_max`, the body is not read.
    async fn get_once(
        &self,
        key: &Key,
        range: Option<GetRange>,
        bytes_max: u64,
    ) -> Result<Part, ReadError> {
        self.counters.get();
        let slot = Slot::default();
        let is_part = range.is_some();
        let mut options = GetOptions { range, ..GetOptions::default() };
        options.extensions.insert(slot.clone());
        let result = self.s3.get_opts(&self.path(key), options).await;
        let answer = slot.take();
        let result = match (result, answer.status) {
            (Ok(result), _) => result,
            // A part was asked for: there is none of it, or all came, which some stores
            // do for an empty object and some proxies for any.
            (Err(_), Some(200 | 416)) if is_part => {
                let source = Box::new(OutOfRange);
                return Err(ReadError::Unknown { key: key.to_string(), source });
            }
            (Err(error), _) => return Err(read_error(key.as_str(), &answer, error)),
        };
        let unknown = |source| ReadError::Unknown { key: key.to_string(), source };

        let GetResult { payload, meta, range, .. } = result;
        let object_store::GetResultPayload::Stream(mut stream) = payload;
        let wanted = range.end - range.start;
        if wanted > bytes_max {
            let (key, size) = (key.to_string(), meta.size);
            return Err(ReadError::TooLong { key, size, bytes_max });
        }
        let room = usize::try_from(wanted).map_err(|error| unknown(error.into()))?;
        // A length that lies must not make us take more memory than what then comes.
        let mut bytes = BytesMut::with_capacity(room.min(32 << 20));
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| unknown(answer.cause(error)))?;
            if bytes.len() + chunk.len() > room {
                return Err(unknown(format!("more than the {wanted} bytes announced came").into()));
            }
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() != room {
            let text = format!("{} of the {wanted} bytes announced came", bytes.len());
            return Err(unknown(text.into()));
        }
        Ok(Part { bytes: bytes.freeze(), range, meta, answer })
    }

    /// A range of some bytes; `Err(Cut)` when the object ends before.
    async fn get_range_once(&self, key: &Key, range: &Range<u64>) -> Result<Bytes, ReadError> {
        let part = match self
            .get_once(key, Some(GetRange::Bounded(range.clone())), range.end - range.start)
            .await
        {
            Ok(part) => part,
            Err(error) => return Err(self.cut_or(key, range, error).await),
        };
        if part.range != *range {
            let (key, size) = (key.to_string(), part.meta.size);
            return Err(ReadError::Cut { key, size, end: range.end });
        }
        Ok(part.bytes)
    }

    /// Says `Cut` in place of a range's `Unknown` when the object is shorter, as one
    /// more question shows; the answer 416 alone does not say how long it is.
    async fn cut_or(&self, key: &Key, range: &Range<u64>, error: ReadError) -> ReadError {
        let ReadError::Unknown { source, .. } = &error else { return error };
        let is_out_of_range = source.downcast_ref::<OutOfRange>().is_some();
        if !is_out_of_range {
            return error;
        }
        match self.tail_once(key, 1).await {
            Ok((_, size)) if size < range.end => {
                ReadError::Cut { key: key.to_string(), size, end: range.end }
            }
            Ok(_) => error,
            Err(error) => error,
        }
    }

    async fn tail_once(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        match self.get_once(key, Some(GetRange::Suffix(bytes.max(1))), bytes.max(1)).await {
            Ok(part) => {
                let tail = if bytes == 0 { Bytes::new() } else { part.bytes };
                Ok((tail, part.meta.size))
            }
            // An empty object has no last byte: 416, or 200 where a part was asked for.
            Err(ReadError::Unknown { source, .. }) if source.is::<OutOfRange>() => {
                let Part { bytes: all, meta, .. } =
                    self.get_once(key, None, WHOLE_BYTES_MAX.max(bytes)).await?;
                let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(all.len());
                Ok((all.slice(all.len() - wanted..), meta.size))
            }
            Err(error) => Err(error),
        }
    }

    async fn put(&self, key: &Key, bytes: Bytes, mode: PutMode) -> Result<Put, WriteError> {
        self.counters.put();
        let slot = Slot::default();
        let mut options = PutOptions { mode, ..PutOptions::default() };
        options.extensions.insert(slot.clone());
        let result =
            self.s3.put_opts(&self.path(key), PutPayload::from_bytes(bytes), options).await;
        let answer = slot.take();
        let unknown = |source| WriteError::Unknown { key: key.to_string(), source };
        match (result, answer.status) {
            (Ok(put), _) => match put.e_tag {
                Some(etag) => Ok(Put::Done(Version(etag))),
                None => Err(unknown("the answer has no etag".into())),
            },
            (Err(_), Some(412)) => Ok(Put::Refused),
            // S3 answers so to an If-Match on an object that is not there.
            (Err(_), Some(404)) if answer.code() == Some("NoSuchKey") => Ok(Put::Refused),
            (Err(error), _) => Err(write_error(key, &answer, error)),
        }
    }

    /// One page; `from` is the token of the page before, or else `after` counts.
    async fn list_once(
        &self,
        prefix: &str,
        after: Option<&Key>,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.counters.list();
        let slot = Slot::default();
        let mut options = PaginatedListOptions {
            offset: after.map(|after| format!("{}{after}", self.prefix)),
            max_keys: Some(limit),
            page_token: from.map(str::to_owned),
            ..PaginatedListOptions::default()
        };
        options.extensions.insert(slot.clone());
        let whole = format!("{}{prefix}", self.prefix);
        let asked = if whole.is_empty() { None } else { Some(whole.as_str()) };
        let result = self.s3.list_paginated(asked, options).await;
        let answer = slot.take();
        let page = result.map_err(|error| match read_error(prefix, &answer, error) {
            // An empty list is an answer; a missing bucket is not one.
            ReadError::NotFound { key } => ReadError::Unknown {
                key,
                source: "the store says that there is nothing to list".into(),
            },
            error => error,
        })?;
        let mut listed = Vec::with_capacity(page.result.objects.len());
        for meta in page.result.objects {
            let Some(text) = meta.location.as_ref().strip_prefix(&self.prefix) else { continue };
            // What is not a key is not ours.
            let Ok(key) = Key::parse(text) else { continue };
            let age = answer.age_since(meta.last_modified.timestamp());
            listed.push(Listed { key, bytes: meta.size, age });
        }
        if answer.is_seaweed || !listed.is_sorted_by(|a, b| a.key < b.key) {
            self.is_unordered.store(true, Ordering::Relaxed);
        }
        Ok(Page { listed, next: page.page_token })
    }

    /// The pages of a list as the server orders them, until `limit` objects are there.
    async fn list_pages(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        let mut listed: Vec<Listed> = Vec::new();
        let mut from: Option<String> = None;
        while listed.len() < limit {
            let wanted = (limit - listed.len()).min(PAGE_MAX);
            let page = patiently!(self, self.list_once(prefix, after, from.as_deref(), wanted))?;
            listed.extend(page.listed);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        Ok(listed)
    }

    /// The answer to a signed `GET ?{question}` of the bucket.
    async fn ask_bucket(&self, question: &str) -> Result<(u16, String), String> {
        let options = SignedUrlOptions::default().with_query([(question, "")]);
        let url = self
            .s3
            .signed_url_opts(
                reqwest::Method::GET,
                &Path::default(),
                Duration::from_secs(60),
                &options,
            )
            .await
            .map_err(|error| error.to_string())?;
        self.wire.ask(url.as_str()).await
    }
}

/// How often and until when one read is asked again.
struct Patience {
    env: Env,
    started: Duration,
    first_pause: Duration,
    attempts: u32,
}

impl Patience {
    fn new(store: &S3Store) -> Self {
        let (env, first_pause) = (store.env.clone(), store.first_pause);
        Self { started: env.since_boot(), env, first_pause, attempts: 0 }
    }

    /// How long to wait before the read that had `result` is asked again; `None` when
    /// the result is definite, the attempts are used up or the deadline is over.
    fn pause<T>(&mut self, result: &Result<T, ReadError>) -> Option<Duration> {
        let Err(ReadError::Unknown { key, source }) = result else { return None };
        self.attempts += 1;
        let waited = self.env.since_boot().saturating_sub(self.started);
        if self.attempts >= READ_ATTEMPTS || waited > READ_AGAIN_WITHIN {
            return None;
        }
        let half = self.first_pause * 4_u32.pow(self.attempts - 1) / 2;
        let [chance] = self.env.random::<1>();
        let pause = half + half.mul_f64(f64::from(chance) / 255.0);
        tracing::debug!(object = key, error = %source, ?pause, "a read is asked again");
        Some(pause)
    }
}

/// What one LIST brought.
struct Page {
    listed: Vec<Listed>,
    /// The token of the next page; `None` when this is the last.
    next: Option<String>,
}

/// What one GET brought.
struct Part {
    bytes: Bytes,
    /// Where the bytes are in the object.
    range: Range<u64>,
    meta: ObjectMeta,
    answer: Answer,
}

/// A part was asked for and none came by itself.
#[derive(Debug, thiserror::Error)]
#[error("the object has none of the bytes asked for")]
struct OutOfRange;

/// What a failed read means.
fn read_error(what: &str, answer: &Answer, error: object_store::Error) -> ReadError {
    let key = what.to_owned();
    match answer.status {
        Some(404) if answer.code() == Some("NoSuchKey") => ReadError::NotFound { key },
        Some(401 | 403) => ReadError::Denied { key, source: answer.cause(error) },
        _ => ReadError::Unknown { key, source: answer.cause(error) },
    }
}

/// What a failed write means, if it was not refused.
fn write_error(key: &Key, answer: &Answer, error: object_store::Error) -> WriteError {
    let key = key.to_string();
    match answer.status {
        Some(401 | 403) => WriteError::Denied { key, source: answer.cause(error) },
        Some(507) => WriteError::Exhausted { key, source: answer.cause(error) },
        _ => WriteError::Unknown { key, source: answer.cause(error) },
    }
}

#[async_trait]
impl Store for S3Store {
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        let Part { bytes, meta, answer, .. } =
            patiently!(self, self.get_once(key, None, bytes_max))?;
        let Some(etag) = meta.e_tag else {
            let source = "the answer has no etag".into();
            return Err(ReadError::Unknown { key: key.to_string(), source });
        };
        let age = answer.age_since(meta.last_modified.timestamp());
        Ok(Object { bytes, version: Version(etag), age })
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        patiently!(self, self.get_range_once(key, &range))
    }

    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        patiently!(self, self.tail_once(key, bytes))
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        self.put(key, bytes, PutMode::Create).await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        let version = UpdateVersion { e_tag: Some(version.0.clone()), version: None };
        self.put(key, bytes, PutMode::Update(version)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        if !self.is_unordered.load(Ordering::Relaxed) {
            let listed = self.list_pages(prefix, after, limit).await?;
            if !self.is_unordered.load(Ordering::Relaxed) {
                return Ok(listed);
            }
        }
        // Some servers (SeaweedFS) have all of `a/` before `a-b`, in their pages and in
        // what they take to come after a key. There, only the whole list has an order.
        let mut listed = self.list_pages(prefix, None, usize::MAX).await?;
        listed.retain(|listed| after.is_none_or(|after| listed.key > *after));
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        listed.dedup_by(|a, b| a.key == b.key);
        listed.truncate(limit);
        Ok(listed)
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        self.counters.delete();
        // The library hands no slot through a delete; its error has the status.
        let path = futures::stream::iter([Ok(self.path(key))]).boxed();
        let result = self.s3.delete_stream(path).next().await;
        let key = key.to_string();
        match result {
            Some(Ok(_)) => Ok(()),
            Some(Err(error @ object_store::Error::PermissionDenied { .. }))
            | Some(Err(error @ object_store::Error::Unauthenticated { .. })) => {
                Err(WriteError::Denied { key, source: Box::new(error) })
            }
            Some(Err(error)) => Err(WriteError::Unknown { key, source: Box::new(error) }),
            None => Err(WriteError::Unknown { key, source: "nothing was answered".into() }),
        }
    }

    fn location(&self) -> Location {
        Location::Url(self.url.clone())
    }

    fn requests(&self) -> Requests {
        self.counters.read()
    }

    async fn rules(&self) -> Rules {
        let lifecycle = self.ask_bucket("lifecycle").await;
        let versioning = self.ask_bucket("versioning").await;
        let lock = self.ask_bucket("object-lock").await;
        rules::read(&self.prefix, lifecycle, versioning, lock)
    }
}

mod rules;

#[cfg(test)]
mod tests;
