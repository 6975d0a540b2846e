//! Which request fails, and how.

use std::fmt;

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection is reset; nothing is forwarded.
    Refused,
    /// Nothing is forwarded and nothing answered, until the caller gives up.
    TimeOutBefore,
    /// It is forwarded and takes effect; the answer is swallowed until the caller gives up.
    TimeOutAfter,
    /// It is not forwarded, and answered with this status. 404 is `NoSuchKey`: a lie.
    Status(u16),
    /// Half of the body that is sent is forwarded; then both connections end.
    CutUpload,
    /// It is forwarded; half of the answer comes, then the connection ends.
    CutAnswer,
    /// One byte of the answer's body is another.
    FlippedByte,
    /// Another object of the same class is the answer.
    WrongObject,
    /// Everything arrives, in pieces with pauses.
    Slow,
}

impl Fault {
    /// Whether a request of this kind can fail so.
    #[must_use]
    pub fn is_for(self, verb: Verb) -> bool {
        match self {
            Self::CutUpload => verb == Verb::Put,
            Self::FlippedByte | Self::WrongObject => verb == Verb::Get,
            _ => true,
        }
    }
}

/// What is asked of an object or of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads an object or a part of it.
    Get,
    /// Writes one.
    Put,
    /// Deletes one.
    Delete,
    /// Lists objects.
    List,
    /// Anything else.
    Other,
}

impl Verb {
    pub(super) fn of(method: &str, target: &str) -> Self {
        match method {
            "GET" if target.contains("list-type=") => Self::List,
            // a question about the bucket
            "GET" if target.contains('?') => Self::Other,
            "GET" => Self::Get,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// What an object is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `…/volumes/<id>/head`.
    Head,
    /// `…/packs/<id>`.
    Pack,
    /// `…/indexes/<id>`.
    Index,
    /// `store`: who holds the store.
    Claim,
    /// Anything else: the bucket, what a probe writes.
    Other,
}

impl Class {
    pub(super) fn of(path: &str) -> Self {
        let mut parts = path.rsplit('/');
        match (parts.next(), parts.next()) {
            (Some("head"), _) => Self::Head,
            (_, Some("packs")) => Self::Pack,
            (_, Some("indexes")) => Self::Index,
            (Some("store"), _) => Self::Claim,
            _ => Self::Other,
        }
    }
}

/// Which requests fail, by their numbers from 0 on.
///
/// Requests of heads, packs and indexes are counted; others only when that is asked for: a probe or a
/// sign of life comes when it is time for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    faults: Vec<(usize, Fault)>,
    of_all: bool,
}

impl FaultPlan {
    /// None fails, and they are counted.
    #[must_use]
    pub fn well() -> Self {
        Self::default()
    }

    /// The request with this number fails.
    #[must_use]
    pub fn once(number: usize, fault: Fault) -> Self {
        Self { faults: vec![(number, fault)], of_all: false }
    }

    /// The requests from this number on fail, so many of them.
    #[must_use]
    pub fn outage(number: usize, requests: usize, fault: Fault) -> Self {
        let faults = (number..number + requests).map(|number| (number, fault)).collect();
        Self { faults, of_all: false }
    }

    /// The same, and the request after those fails so.
    #[must_use]
    pub fn then(mut self, fault: Fault) -> Self {
        let next = self.faults.last().map_or(0, |(number, _)| number + 1);
        self.faults.push((next, fault));
        self
    }

    /// The same, counting every request.
    #[must_use]
    pub fn of_all(self) -> Self {
        Self { of_all: true, ..self }
    }

    /// Whether some request fails so.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.iter().any(|(_, of)| *of == fault)
    }

    pub(super) fn counts(&self, class: Class) -> bool {
        self.of_all || matches!(class, Class::Head | Class::Pack | Class::Index)
    }

    pub(super) fn fault(&self, number: usize) -> Option<Fault> {
        self.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault)
    }
}

/// In a few words, the same for the same plan.
impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(|(number, fault)| format!("{number} {fault:?}"));
        f.write_str(&faults.collect::<Vec<_>>().join(", "))
    }
}

/// A request as it came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its number, if it was counted.
    pub number: Option<usize>,
    /// What it asked.
    pub verb: Verb,
    /// Of what.
    pub class: Class,
    /// Its path.
    pub path: String,
    /// How it failed, if it did.
    pub fault: Option<Fault>,
}

/// One line.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{number:>3} ")?,
            None => write!(f, "  - ")?,
        }
        write!(f, "{:?} {:?} {}", self.verb, self.class, self.path)?;
        match self.fault {
            Some(fault) => write!(f, ": {fault:?}"),
            None => Ok(()),
        }
    }
}
