//! A command, as a request of the API and as a call of the program.

use std::path::PathBuf;
use std::sync::Arc;

use cove_types::escape_bytes;
use serde_json::{Value, json};

use super::tree::Tree;

/// A directory or file of this machine that is brought in, and what is in it.
#[derive(Debug, Clone)]
pub struct Local {
    pub path: PathBuf,
    pub tree: Arc<Tree>,
}

impl Local {
    /// Its last name.
    pub fn called(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// What changes something.
#[derive(Debug, Clone)]
pub enum Command {
    New { slug: String, from: Option<Local> },
    Put { slug: String, path: String, bytes: Arc<[u8]> },
    MakeDirectory { slug: String, path: String },
    Remove { slug: String, path: String, recursive: bool },
    Move { slug: String, from: String, to: String },
    CopyIn { slug: String, from: Local, to: String },
    Snapshot { slug: String, message: Option<String>, label: Option<String> },
    Restore { slug: String, at: String, paths: Vec<String> },
    Fork { slug: String, at: Option<String>, name: Option<String>, count: Option<u32> },
    Rename { slug: String, to: String },
    RemoveProject { slug: String },
    UndeleteProject { slug: String },
    RemoveEntry { slug: String, at: String },
    UndeleteEntry { slug: String, at: String },
    Pin { slug: String, at: String, pinned: bool },
    Label { slug: String, at: String, label: Option<String> },
}

/// A request of the API.
#[derive(Debug)]
pub struct Request {
    pub method: &'static str,
    pub target: String,
    /// Media type and bytes.
    pub body: Option<(&'static str, Vec<u8>)>,
}

impl Request {
    /// One that only reads.
    pub fn get(target: String) -> Self {
        Self { method: "GET", target, body: None }
    }

    fn delete(target: String) -> Self {
        Self { method: "DELETE", target, body: None }
    }

    fn of(method: &'static str, target: String, body: &Value) -> Self {
        let body = Some(("application/json", body.to_string().into_bytes()));
        Self { method, target, body }
    }

    /// With a body of JSON.
    pub fn post(target: String, body: &Value) -> Self {
        Self::of("POST", target, body)
    }
}

/// A call of the program: its arguments and its standard input.
#[derive(Debug)]
pub struct Call {
    pub arguments: Vec<String>,
    pub input: Vec<u8>,
}

/// A text as a part of a URL.
pub fn percent(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A path as people and the API write it.
pub fn written(path: &str) -> String {
    escape_bytes(path.as_bytes())
}

/// A path in a query.
pub fn in_query(path: &str) -> String {
    percent(&written(path))
}

/// An object without the members that are null.
fn without_nulls(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    object
}

impl Command {
    /// Whether only the program can do it.
    pub fn is_programs(&self) -> bool {
        matches!(self, Self::New { from: Some(_), .. } | Self::CopyIn { .. })
    }

    /// Whether the program has a refusal of its own for it.
    pub fn is_apis(&self) -> bool {
        matches!(self, Self::Put { path, .. } if path.is_empty())
    }

    /// Whether what it makes is captured first and saved later.
    pub fn is_captured(&self) -> bool {
        matches!(
            self,
            Self::New { .. } | Self::Snapshot { .. } | Self::Restore { .. } | Self::Fork { .. }
        )
    }

    /// The request; `until` is what is waited for of what is captured first.
    pub fn request(&self, until: &str) -> Request {
        let project = |slug: &str| format!("/v1/projects/{}", percent(slug));
        let long = format!("?wait_ms=60000&until={until}");
        match self {
            Self::New { slug, .. } => {
                Request::post(format!("/v1/projects{long}"), &json!({ "slug": slug }))
            }
            Self::Put { slug, path, bytes } => Request {
                method: "PUT",
                target: format!("{}/files/content?path={}", project(slug), in_query(path)),
                body: Some(("application/octet-stream", bytes.to_vec())),
            },
            Self::MakeDirectory { slug, path } => {
                let body = json!({ "path": written(path) });
                Request::post(format!("{}/files/directory", project(slug)), &body)
            }
            Self::Remove { slug, path, recursive } => {
                let (project, path) = (project(slug), in_query(path));
                Request::delete(format!("{project}/files?path={path}&recursive={recursive}"))
            }
            Self::Move { slug, from, to } => {
                let body = json!({ "from": written(from), "to": written(to) });
                Request::post(format!("{}/files/move", project(slug)), &body)
            }
            Self::CopyIn { slug, .. } => {
                unreachable!("a copy into {slug} is made by the program")
            }
            Self::Snapshot { slug, message, label } => {
                let body = without_nulls(json!({ "message": message, "label": label }));
                Request::post(format!("{}/entries{long}", project(slug)), &body)
            }
            Self::Restore { slug, at, paths } => {
                let paths: Vec<String> = paths.iter().map(|path| written(path)).collect();
                let body = json!({ "entry": at, "paths": paths });
                Request::post(format!("{}/restore{long}", project(slug)), &body)
            }
            Self::Fork { slug, at, name, count } => {
                let body = without_nulls(json!({ "at": at, "as": name, "count": count }));
                Request::post(format!("{}/fork{long}", project(slug)), &body)
            }
            Self::Rename { slug, to } => {
                Request::of("PATCH", project(slug), &json!({ "slug": to }))
            }
            Self::RemoveProject { slug } => Request::delete(project(slug)),
            Self::UndeleteProject { slug } => {
                Request::post(format!("{}/undelete", project(slug)), &json!({}))
            }
            Self::RemoveEntry { slug, at } => {
                Request::delete(format!("{}/entries/{}", project(slug), percent(at)))
            }
            Self::UndeleteEntry { slug, at } => {
                Request::post(format!("{}/undelete", project(slug)), &json!({ "entry": at }))
            }
            Self::Pin { slug, at, pinned } => {
                let target = format!("{}/entries/{}", project(slug), percent(at));
                Request::of("PATCH", target, &json!({ "pinned": pinned }))
            }
            Self::Label { slug, at, label } => {
                let target = format!("{}/entries/{}", project(slug), percent(at));
                Request::of("PATCH", target, &json!({ "label": label }))
            }
        }
    }

    /// The call of the program; `no_wait` does not wait until what is captured is saved.
    pub fn call(&self, no_wait: bool) -> Call {
        let mut input = Vec::new();
        let place = |slug: &str, path: &str| format!("{slug}:/{}", written(path));
        let entry = |slug: &str, at: &str| format!("{slug}@{at}");
        let mut arguments: Vec<String> = Vec::new();
        let mut paths_behind = Vec::new();
        let mut say = |all: &[&str]| arguments.extend(all.iter().map(|one| (*one).to_owned()));
        match self {
            Self::New { slug, from } => {
                say(&["new", slug]);
                if let Some(from) = from {
                    say(&["--from", &from.path.to_string_lossy()]);
                }
            }
            Self::Put { slug, path, bytes } => {
                say(&["files", "put", &place(slug, path)]);
                input = bytes.to_vec();
            }
            Self::MakeDirectory { slug, path } => say(&["files", "mkdir", &place(slug, path)]),
            Self::Remove { slug, path, recursive } => {
                say(&["files", "rm", &place(slug, path)]);
                if *recursive {
                    say(&["-r"]);
                }
            }
            Self::Move { slug, from, to } => {
                say(&["files", "mv", &place(slug, from), &place(slug, to)]);
            }
            Self::CopyIn { slug, from, to } => {
                say(&["cp", &from.path.to_string_lossy(), &place(slug, to)]);
            }
            Self::Snapshot { slug, message, label } => {
                say(&["snapshot", slug]);
                if let Some(message) = message {
                    say(&["-m", message]);
                }
                if let Some(label) = label {
                    say(&["--label", label]);
                }
            }
            Self::Restore { slug, at, paths } => {
                say(&["restore", slug, at]);
                paths_behind.extend(paths.iter().map(|path| written(path)));
            }
            Self::Fork { slug, at, name, count } => {
                let source = at.as_ref().map_or_else(|| slug.clone(), |at| entry(slug, at));
                say(&["fork", &source]);
                if let Some(name) = name {
                    say(&["--as", name]);
                }
                if let Some(count) = count {
                    say(&["--count", &count.to_string()]);
                }
            }
            Self::Rename { slug, to } => say(&["rename", slug, to]),
            Self::RemoveProject { slug } => say(&["rm", slug]),
            Self::UndeleteProject { slug } => say(&["undelete", slug]),
            Self::RemoveEntry { slug, at } => say(&["rm", &entry(slug, at)]),
            Self::UndeleteEntry { slug, at } => say(&["undelete", &entry(slug, at)]),
            Self::Pin { slug, at, pinned } => {
                say(&[if *pinned { "pin" } else { "unpin" }, &entry(slug, at)]);
            }
            Self::Label { slug, at, label } => match label {
                Some(label) => say(&["label", &entry(slug, at), label]),
                None => say(&["label", &entry(slug, at), "--remove"]),
            },
        }
        if no_wait && self.is_captured() {
            say(&["--no-wait"]);
        }
        say(&["--json"]);
        if !paths_behind.is_empty() {
            arguments.push("--".to_owned());
            arguments.append(&mut paths_behind);
        }
        Call { arguments, input }
    }

    /// It in a line, with long content left out.
    pub fn line(&self) -> String {
        match self {
            Self::Put { slug, path, bytes } => {
                format!("Put {slug}:/{} {} bytes", written(path), bytes.len())
            }
            Self::New { slug, from: Some(from) } => {
                let paths: Vec<&String> = from.tree.0.keys().collect();
                format!("New {slug} from {paths:?}")
            }
            Self::CopyIn { slug, from, to } => {
                let paths: Vec<&String> = from.tree.0.keys().collect();
                format!("CopyIn {} of {paths:?} to {slug}:/{}", from.called(), written(to))
            }
            other => format!("{other:?}"),
        }
    }
}
