//! What is different between two trees.

use std::collections::HashSet;

use bytes::Bytes;
use cove_types::Digest;

use super::{Child, Item, Key, Node, Nodes, Parts, ReadError};

/// A key whose values differ in two trees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Difference {
    /// The key.
    pub key: Key,
    /// Its value in the first tree.
    pub before: Option<Bytes>,
    /// Its value in the second tree.
    pub after: Option<Bytes>,
}

/// The keys whose values differ in the trees `a` and `b`, in order, read as they are asked for.
///
/// A subtree that is in both is not read, on whatever level of each it is: the cost
/// follows the differences, not the trees.
pub fn diff<A: Nodes, B: Nodes>(nodes_a: A, a: &Digest, nodes_b: B, b: &Digest) -> Diff<A, B> {
    Diff { a: Walk::new(nodes_a, a), b: Walk::new(nodes_b, b) }
}

/// A walk over two trees, from [`diff`]. It ends after an error.
#[derive(Debug)]
pub struct Diff<A, B> {
    a: Walk<A>,
    b: Walk<B>,
}

/// What comes next in a walk.
enum Head<'a> {
    /// A whole node of this level, unread.
    Node(u8, &'a Child),
    /// An item.
    Item(&'a Item),
}

impl Head<'_> {
    fn key(&self) -> &Key {
        match self {
            Head::Node(_, child) => &child.key,
            Head::Item(item) => &item.key,
        }
    }

    /// Items below leaves below inner nodes.
    fn height(&self) -> u16 {
        match self {
            Head::Node(level, _) => u16::from(*level) + 1,
            Head::Item(_) => 0,
        }
    }
}

/// What the two heads ask for.
enum Step {
    End,
    Skip,
    Open { a: bool, b: bool },
    Take { a: bool, b: bool },
}

/// Decides by the heads alone.
///
/// The one with the smaller key is opened, so that the other stays whole for a node that
/// may come and be equal; at the same key, the higher one is.
fn step(a: Option<&Head<'_>>, b: Option<&Head<'_>>) -> Step {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (a, b) = match (a, b) {
        (None, None) => return Step::End,
        (Some(Head::Node(..)), None) => return Step::Open { a: true, b: false },
        (None, Some(Head::Node(..))) => return Step::Open { a: false, b: true },
        (Some(Head::Item(_)), None) => return Step::Take { a: true, b: false },
        (None, Some(Head::Item(_))) => return Step::Take { a: false, b: true },
        (Some(a), Some(b)) => (a, b),
    };
    if let (Head::Node(_, a), Head::Node(_, b)) = (a, b)
        && a.digest == b.digest
    {
        return Step::Skip;
    }
    let by_key = a.key().cmp(b.key());
    match by_key.then(b.height().cmp(&a.height())) {
        Less if a.height() == 0 => Step::Take { a: true, b: false },
        Less => Step::Open { a: true, b: false },
        Greater if b.height() == 0 => Step::Take { a: false, b: true },
        Greater => Step::Open { a: false, b: true },
        Equal if a.height() == 0 => Step::Take { a: true, b: true },
        Equal => Step::Open { a: true, b: true },
    }
}

impl<A: Nodes, B: Nodes> Diff<A, B> {
    fn try_next(&mut self) -> Result<Option<Difference>, ReadError> {
        if let (Some(a), Some(b)) = (self.a.unread, self.b.unread) {
            if a == b {
                (self.a.unread, self.b.unread) = (None, None);
                return Ok(None);
            }
            self.a.open_root()?;
            self.b.open_root()?;
            self.prefetch();
        }
        loop {
            match step(self.a.head().as_ref(), self.b.head().as_ref()) {
                Step::End => return Ok(None),
                Step::Skip => {
                    self.a.skip();
                    self.b.skip();
                }
                Step::Open { a, b } => {
                    if a {
                        self.a.open()?;
                    }
                    if b {
                        self.b.open()?;
                    }
                    if a && b {
                        self.prefetch();
                    }
                }
                Step::Take { a, b } => {
                    let before = if a { self.a.take() } else { None };
                    let after = if b { self.b.take() } else { None };
                    let (before, after) = match (before, after) {
                        (Some(before), Some(after)) if before.value == after.value => continue,
                        pair => pair,
                    };
                    let key = before.as_ref().or(after.as_ref()).map(|item| item.key.clone());
                    return Ok(key.map(|key| Difference {
                        key,
                        before: before.map(|item| item.value),
                        after: after.map(|item| item.value),
                    }));
                }
            }
        }
    }

    /// Asks for those children of two nodes just opened that only one of them has.
    fn prefetch(&self) {
        let (of_a, of_b) = (self.a.children(), self.b.children());
        let only = |these: &[Child], those: &[Child]| -> Vec<Digest> {
            let those: HashSet<Digest> = those.iter().map(|child| child.digest).collect();
            these.iter().map(|child| child.digest).filter(|d| !those.contains(d)).collect()
        };
        let (only_a, only_b) = (only(of_a, of_b), only(of_b, of_a));
        if only_a.len() > 1 {
            self.a.nodes.prefetch(&only_a);
        }
        if only_b.len() > 1 {
            self.b.nodes.prefetch(&only_b);
        }
    }
}

impl<A: Nodes, B: Nodes> Iterator for Diff<A, B> {
    type Item = Result<Difference, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.try_next().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.a.end();
            self.b.end();
        }
        next
    }
}

/// A walk over a tree that can leave nodes unread.
#[derive(Debug)]
struct Walk<N> {
    nodes: N,
    /// The root before the first step.
    unread: Option<Digest>,
    /// The nodes being walked, topmost first; each with a part that is next.
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    level: u8,
    parts: Parts,
    next: usize,
}

impl Frame {
    fn len(&self) -> usize {
        match &self.parts {
            Parts::Items(items) => items.len(),
            Parts::Children(children) => children.len(),
        }
    }
}

impl<N: Nodes> Walk<N> {
    fn new(nodes: N, root: &Digest) -> Self {
        Self { nodes, unread: Some(*root), frames: Vec::new() }
    }

    fn end(&mut self) {
        self.unread = None;
        self.frames.clear();
    }

    fn open_root(&mut self) -> Result<(), ReadError> {
        if let Some(root) = self.unread.take() {
            let node = Node::read(&self.nodes, &root)?;
            self.enter(node);
        }
        Ok(())
    }

    fn enter(&mut self, node: Node) {
        if *node.parts() == Parts::Items(Vec::new()) {
            return;
        }
        self.frames.push(Frame { level: node.level(), parts: node.into_parts(), next: 0 });
    }

    fn head(&self) -> Option<Head<'_>> {
        let frame = self.frames.last()?;
        match &frame.parts {
            Parts::Items(items) => items.get(frame.next).map(Head::Item),
            Parts::Children(children) => {
                children.get(frame.next).map(|child| Head::Node(frame.level - 1, child))
            }
        }
    }

    /// The children of the node that was just opened.
    fn children(&self) -> &[Child] {
        match self.frames.last() {
            Some(Frame { parts: Parts::Children(children), .. }) => children,
            _ => &[],
        }
    }

    /// Leaves the head behind.
    fn skip(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.next += 1;
        }
        while self.frames.last().is_some_and(|frame| frame.next >= frame.len()) {
            self.frames.pop();
        }
    }

    /// Reads the node at the head; its first part is the head then.
    fn open(&mut self) -> Result<(), ReadError> {
        let Some(Head::Node(level, child)) = self.head() else { return Ok(()) };
        let node = Node::read_child(&self.nodes, child, level)?;
        self.skip();
        self.enter(node);
        Ok(())
    }

    /// The item at the head, left behind.
    fn take(&mut self) -> Option<Item> {
        let Some(Head::Item(item)) = self.head() else { return None };
        let item = item.clone();
        self.skip();
        Some(item)
    }
}
