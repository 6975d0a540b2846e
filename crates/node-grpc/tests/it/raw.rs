//! A node that answers each call with what it is told to, lawful or not.

use std::path::PathBuf;

use cove_node_grpc::NodeClient;
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;

/// How a raw node's answer ends.
#[derive(Clone)]
pub enum Ending {
    /// As whole answers do.
    Status(HeaderMap),
    /// At once, without a word.
    Bare,
    /// Never.
    Open,
}

impl Ending {
    pub fn ok() -> Self {
        Self::Status([("grpc-status", "0")].map(header).into_iter().collect())
    }
}

pub fn header(
    (name, value): (&'static str, &str),
) -> (hyper::header::HeaderName, hyper::header::HeaderValue) {
    (hyper::header::HeaderName::from_static(name), value.parse().unwrap())
}

/// A message as gRPC frames it.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    framed.extend(bytes);
    framed
}

pub struct RawNode {
    socket: PathBuf,
    _home: tempfile::TempDir,
}

impl RawNode {
    /// Answers each call with these frames.
    pub fn answers(frames: Vec<Vec<u8>>, ending: Ending) -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("raw.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (frames, ending) = (frames.clone(), ending.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let body = body(frames.clone(), ending.clone(), request);
                    async move { body }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { socket, _home: home }
    }

    pub fn client(&self) -> NodeClient {
        NodeClient::unix(&self.socket)
    }
}

type Body = StreamBody<futures::stream::BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

fn body(
    frames: Vec<Vec<u8>>,
    ending: Ending,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let data = futures::stream::iter(frames).map(|bytes| Ok(Frame::data(Bytes::from(bytes))));
    let body = match ending {
        Ending::Status(trailers) => {
            data.chain(futures::stream::iter([Ok(Frame::trailers(trailers))])).boxed()
        }
        Ending::Bare => data.boxed(),
        Ending::Open => data.chain(futures::stream::pending()).boxed(),
    };
    // what is asked is held as long as the answer is not over
    let body = body.map(move |frame| {
        let _request = &request;
        frame
    });
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(StreamBody::new(body.boxed())).unwrap())
}
