//! How a wire is written, and what breaks it.

use std::collections::BTreeMap;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

/// One line for each element, in the order of the file: `<what> <name>[ = <number>]: <how it is>`. What stands before
/// the colon names it on the wire, what stands behind has to stay.
#[must_use]
pub fn lines(file: &FileDescriptorProto) -> Vec<String> {
    let mut lines = Vec::new();
    for service in &file.service {
        for rpc in &service.method {
            let stream = |is_stream| if is_stream { "stream " } else { "" };
            lines.push(format!(
                "rpc {}.{}.{}: {}{} -> {}{}",
                file.package(),
                service.name(),
                rpc.name(),
                stream(rpc.client_streaming()),
                rpc.input_type(),
                stream(rpc.server_streaming()),
                rpc.output_type(),
            ));
        }
    }
    for message in &file.message_type {
        message_lines(file.package(), message, &mut lines);
    }
    for of_file in &file.enum_type {
        enum_lines(file.package(), of_file, &mut lines);
    }
    lines
}

fn message_lines(outer: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{outer}.{}", message.name());
    lines.push(format!("message {name}:"));
    for field in &message.field {
        let label = match field.label() {
            Label::Repeated => "repeated ",
            _ if field.proto3_optional() => "optional ",
            _ => "",
        };
        let of_type = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().to_owned(),
            plain => plain.as_str_name().to_lowercase().replace("type_", ""),
        };
        let oneof = match field.oneof_index {
            Some(at) if !field.proto3_optional() => {
                format!(
                    " in {}",
                    message.oneof_decl[usize::try_from(at).unwrap_or_default()].name()
                )
            }
            _ => String::new(),
        };
        let number = field.number();
        lines.push(format!("field {name} = {number}: {label}{of_type} {}{oneof}", field.name()));
    }
    for nested in &message.nested_type {
        message_lines(&name, nested, lines);
    }
    for nested in &message.enum_type {
        enum_lines(&name, nested, lines);
    }
}

fn enum_lines(outer: &str, of: &EnumDescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{outer}.{}", of.name());
    lines.push(format!("enum {name}:"));
    for value in &of.value {
        lines.push(format!("value {name} = {}: {}", value.number(), value.name()));
    }
}

/// What of `before` is gone, or is otherwise now. Additions break nobody.
#[must_use]
pub fn breaks<'a>(
    before: impl IntoIterator<Item = &'a str>,
    now: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let split = |line: &'a str| line.split_once(':').unwrap_or((line, ""));
    let now: BTreeMap<_, _> = now.into_iter().map(split).collect();
    let mut breaks = Vec::new();
    for (element, was) in before.into_iter().map(split) {
        match now.get(element) {
            None => breaks.push(format!("{element} is gone")),
            Some(is) if *is != was => {
                breaks.push(format!("{element} was \"{}\" and is \"{}\"", was.trim(), is.trim()));
            }
            Some(_) => {}
        }
    }
    breaks
}

/// What is wrong with a file, by the rules that buf calls `STANDARD` and by ours that everything has a comment.
#[must_use]
pub fn complaints(package: &str, file: &FileDescriptorProto) -> Vec<String> {
    let mut lint = Lint { file, complaints: Vec::new() };
    if file.package() != package || file.syntax() != "proto3" {
        lint.complain(&format!("the package is {package} in proto3"));
    }
    for (at, service) in (0..).zip(&file.service) {
        lint.comment(&[6, at], service.name());
        for (method, rpc) in (0..).zip(&service.method) {
            let name = rpc.name();
            lint.comment(&[6, at, 2, method], name);
            for (found, kind) in [(rpc.input_type(), "Request"), (rpc.output_type(), "Response")] {
                if found != format!(".{}.{name}{kind}", file.package()) {
                    lint.complain(&format!("{name} has {found}, not {name}{kind}"));
                }
            }
        }
    }
    for (at, message) in (0..).zip(&file.message_type) {
        lint.message(&[4, at], message);
    }
    for (at, of) in (0..).zip(&file.enum_type) {
        lint.values(&[5, at], of);
    }
    lint.complaints
}

/// What a call can end with.
const CODES: [&str; 12] = [
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "DATA_LOSS",
    "INTERNAL",
];

/// What is wrong with what the calls say of their codes. The last paragraph of each is
/// `Codes: <CODE>, <when>; <CODE>, <when>.`, and what carries an operation id, in a request that `has_id`, says when it
/// is ABORTED.
#[must_use]
pub fn unsaid_codes(
    file: &FileDescriptorProto,
    has_id: impl Fn(&DescriptorProto) -> bool,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (service, at) in file.service.iter().zip(0..) {
        for (rpc, method) in service.method.iter().zip(0..) {
            let (name, path) = (rpc.name(), [6, at, 2, method]);
            let mut locations = file.source_code_info.iter().flat_map(|source| &source.location);
            let comment = locations.find(|location| location.path == path);
            let comment = comment.map(|location| location.leading_comments()).unwrap_or_default();
            let comment = comment.lines().map(str::trim).collect::<Vec<_>>().join("\n");
            let codes = comment.rsplit("\n\n").next().and_then(|last| last.strip_prefix("Codes: "));
            let Some(codes) = codes.and_then(|codes| codes.trim_end().strip_suffix('.')) else {
                complaints.push(format!("{name} does not say its codes"));
                continue;
            };
            let codes = codes.replace('\n', " ");
            let said: Vec<(&str, &str)> =
                codes.split("; ").map(|one| one.split_once(", ").unwrap_or((one, ""))).collect();
            for (code, when) in &said {
                if !CODES.contains(code) || when.is_empty() {
                    complaints.push(format!("{name} does not say when it is {code}"));
                }
            }
            let is_request = |message: &&DescriptorProto| {
                rpc.input_type().ends_with(&format!(".{}", message.name()))
            };
            let request = file.message_type.iter().find(is_request);
            if request.is_some_and(&has_id) && said.iter().all(|(code, _)| *code != "ABORTED") {
                complaints.push(format!("{name} does not say when it is ABORTED"));
            }
        }
    }
    complaints
}

struct Lint<'a> {
    file: &'a FileDescriptorProto,
    complaints: Vec<String>,
}

impl Lint<'_> {
    fn complain(&mut self, what: &str) {
        self.complaints.push(what.to_owned());
    }

    /// The element at `path`, by the numbers of the fields of the descriptors, has a comment before it.
    fn comment(&mut self, path: &[i32], name: &str) {
        let mut locations = self.file.source_code_info.iter().flat_map(|source| &source.location);
        let found = locations.find(|location| location.path == path);
        if found.is_none_or(|location| location.leading_comments().trim().is_empty()) {
            self.complain(&format!("{name} has no comment"));
        }
    }

    fn message(&mut self, path: &[i32], message: &DescriptorProto) {
        let at = |field: i32, at: i32| [path, &[field, at]].concat();
        self.comment(path, message.name());
        for (index, field) in (0..).zip(&message.field) {
            let name = format!("{}.{}", message.name(), field.name());
            self.comment(&at(2, index), &name);
            if !is_snake(field.name()) {
                self.complain(&format!("{name} is not in snake_case"));
            }
        }
        for (index, oneof) in (0..).zip(&message.oneof_decl) {
            // `optional` is a oneof of its own on the wire
            let is_optional = message
                .field
                .iter()
                .any(|field| field.oneof_index == Some(index) && field.proto3_optional());
            if !is_optional {
                self.comment(&at(8, index), &format!("{}.{}", message.name(), oneof.name()));
            }
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            let is_map = nested.options.as_ref().is_some_and(|options| options.map_entry());
            if !is_map {
                self.message(&at(3, index), nested);
            }
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.values(&at(4, index), nested);
        }
    }

    fn values(&mut self, path: &[i32], of: &EnumDescriptorProto) {
        self.comment(path, of.name());
        let prefix = screaming(of.name());
        for (index, value) in (0..).zip(&of.value) {
            self.comment(&[path, &[2, index]].concat(), value.name());
            if !value.name().starts_with(&format!("{prefix}_")) {
                self.complain(&format!("{} does not begin with {prefix}_", value.name()));
            }
            if (value.number() == 0) != (value.name() == format!("{prefix}_UNSPECIFIED")) {
                self.complain(&format!("{} = {}", value.name(), value.number()));
            }
        }
    }
}

fn is_snake(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.contains("__")
        && !name.ends_with('_')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// `FooBar` as `FOO_BAR`.
fn screaming(name: &str) -> String {
    let mut screaming = String::new();
    for (at, c) in name.char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            screaming.push('_');
        }
        screaming.push(c.to_ascii_uppercase());
    }
    screaming
}
