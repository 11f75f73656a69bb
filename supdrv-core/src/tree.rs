//! An ordered map whose nodes are allocated before they are needed.
//!
//! Lookups, insertions and removals cost O(log n) and neither allocate nor free, so that they can be done under a spinlock
//! with interrupts off: a [`Node`] is made in class T ([`Node::new`]), moved into the [`Tree`] under the lock, and given
//! back by removal, to be dropped after the lock is released.
//!
//! It is a treap: a search tree by key and a heap by a priority that is hashed from a counter, which makes its expected
//! depth logarithmic whatever order keys arrive in. Nothing recurses except dropping a tree that is not empty.

use core::ops::Bound;

use crate::abi::status::Result;
use crate::heap::Box;
use crate::os::OsHeap;

struct Inner<K, V, O: OsHeap> {
    key: K,
    value: V,
    priority: u64,
    left: Link<K, V, O>,
    right: Link<K, V, O>,
}

type Link<K, V, O> = Option<Box<Inner<K, V, O>, O>>;

/// A key and its value, allocated, ready to be inserted.
pub struct Node<K, V, O: OsHeap>(Box<Inner<K, V, O>, O>);

impl<K, V, O: OsHeap + Clone> Node<K, V, O> {
    /// Allocates a node. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub fn new(os: &O, key: K, value: V) -> Result<Self> {
        Box::new(os, Inner { key, value, priority: 0, left: None, right: None }).map(Self)
    }
}

impl<K, V, O: OsHeap> Node<K, V, O> {
    /// Changes the key of a node that isn't in a tree.
    pub fn set_key(&mut self, key: K) {
        self.0.key = key;
    }

    /// The key.
    pub fn key(&self) -> &K {
        &self.0.key
    }

    /// The value.
    pub fn value(&self) -> &V {
        &self.0.value
    }

    /// The value.
    pub fn value_mut(&mut self) -> &mut V {
        &mut self.0.value
    }
}

/// The map. Keys are unique: inserting a key that is there gives the node back.
pub struct Tree<K, V, O: OsHeap> {
    root: Link<K, V, O>,
    len: usize,
    salt: u64,
}

impl<K, V, O: OsHeap> Default for Tree<K, V, O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, O: OsHeap> Tree<K, V, O> {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self { root: None, len: 0, salt: 0 }
    }

    /// Number of nodes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<K: Ord, V, O: OsHeap> Tree<K, V, O> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let mut at = self.root.as_ref();
        while let Some(node) = at {
            at = match key.cmp(&node.key) {
                core::cmp::Ordering::Less => node.left.as_ref(),
                core::cmp::Ordering::Greater => node.right.as_ref(),
                core::cmp::Ordering::Equal => return Some(&node.value),
            };
        }
        None
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let mut at = self.root.as_mut();
        while let Some(node) = at {
            let inner = &mut **node;
            at = match key.cmp(&inner.key) {
                core::cmp::Ordering::Less => inner.left.as_mut(),
                core::cmp::Ordering::Greater => inner.right.as_mut(),
                core::cmp::Ordering::Equal => return Some(&mut inner.value),
            };
        }
        None
    }

    /// The first entry at or after a bound.
    pub fn lower_bound(&self, bound: Bound<&K>) -> Option<(&K, &V)> {
        let mut best = None;
        let mut at = self.root.as_ref();
        while let Some(node) = at {
            let inside = match bound {
                Bound::Included(key) => node.key >= *key,
                Bound::Excluded(key) => node.key > *key,
                Bound::Unbounded => true,
            };
            at = if inside {
                best = Some((&node.key, &node.value));
                node.left.as_ref()
            } else {
                node.right.as_ref()
            };
        }
        best
    }

    /// The first entry at or before a bound.
    pub fn upper_bound(&self, bound: Bound<&K>) -> Option<(&K, &V)> {
        let mut best = None;
        let mut at = self.root.as_ref();
        while let Some(node) = at {
            let inside = match bound {
                Bound::Included(key) => node.key <= *key,
                Bound::Excluded(key) => node.key < *key,
                Bound::Unbounded => true,
            };
            at = if inside {
                best = Some((&node.key, &node.value));
                node.right.as_ref()
            } else {
                node.left.as_ref()
            };
        }
        best
    }

    /// The entries in ascending order of keys. Each step costs O(log n).
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut last: Option<&K> = None;
        core::iter::from_fn(move || {
            let entry = self.lower_bound(last.map_or(Bound::Unbounded, Bound::Excluded))?;
            last = Some(entry.0);
            Some(entry)
        })
    }

    /// Inserts a node.
    ///
    /// # Errors
    /// Gives the node back if its key is already there.
    pub fn insert(&mut self, node: Node<K, V, O>) -> core::result::Result<(), Node<K, V, O>> {
        if self.get(node.key()).is_some() {
            return Err(node);
        }
        let mut node = node.0;
        self.salt = self.salt.wrapping_add(1);
        node.priority = mix(self.salt);
        let mut at = &mut self.root;
        while at.as_ref().is_some_and(|inner| inner.priority >= node.priority) {
            let Some(inner) = at else { break };
            let inner = &mut **inner;
            at = if node.key < inner.key { &mut inner.left } else { &mut inner.right };
        }
        (node.left, node.right) = split(at.take(), &node.key);
        *at = Some(node);
        self.len += 1;
        Ok(())
    }

    /// Removes a key and gives its node back.
    pub fn remove(&mut self, key: &K) -> Option<Node<K, V, O>> {
        let mut at = &mut self.root;
        while at.as_ref().is_some_and(|inner| inner.key != *key) {
            let Some(inner) = at else { break };
            let inner = &mut **inner;
            at = if *key < inner.key { &mut inner.left } else { &mut inner.right };
        }
        let mut node = at.take()?;
        *at = merge(node.left.take(), node.right.take());
        self.len -= 1;
        Some(Node(node))
    }

    /// Removes the entry with the smallest key.
    pub fn pop_first(&mut self) -> Option<Node<K, V, O>> {
        let mut at = &mut self.root;
        while at.as_ref().is_some_and(|inner| inner.left.is_some()) {
            let Some(inner) = at else { break };
            at = &mut inner.left;
        }
        let mut node = at.take()?;
        *at = node.right.take();
        self.len -= 1;
        Some(Node(node))
    }

    /// Removes the entry with the largest key.
    pub fn pop_last(&mut self) -> Option<Node<K, V, O>> {
        let mut at = &mut self.root;
        while at.as_ref().is_some_and(|inner| inner.right.is_some()) {
            let Some(inner) = at else { break };
            at = &mut inner.right;
        }
        let mut node = at.take()?;
        *at = node.left.take();
        self.len -= 1;
        Some(Node(node))
    }
}

/// Splits into the keys below `key` and the others.
fn split<K: Ord, V, O: OsHeap>(tree: Link<K, V, O>, key: &K) -> (Link<K, V, O>, Link<K, V, O>) {
    let (mut below, mut above) = (None, None);
    let (mut below_end, mut above_end) = (&mut below, &mut above);
    let mut rest = tree;
    while let Some(mut node) = rest {
        if node.key < *key {
            rest = node.right.take();
            below_end = &mut below_end.insert(node).right;
        } else {
            rest = node.left.take();
            above_end = &mut above_end.insert(node).left;
        }
    }
    (below, above)
}

/// Joins two trees; all keys of `left` are below those of `right`.
fn merge<K, V, O: OsHeap>(left: Link<K, V, O>, right: Link<K, V, O>) -> Link<K, V, O> {
    let mut joined = None;
    let mut end = &mut joined;
    let (mut left, mut right) = (left, right);
    loop {
        match (left, right) {
            (None, None) => break,
            (Some(node), None) | (None, Some(node)) => {
                *end = Some(node);
                break;
            }
            (Some(mut l), Some(mut r)) => {
                if l.priority >= r.priority {
                    (left, right) = (l.right.take(), Some(r));
                    end = &mut end.insert(l).right;
                } else {
                    (left, right) = (Some(l), r.left.take());
                    end = &mut end.insert(r).left;
                }
            }
        }
    }
    joined
}

/// SplitMix64's finaliser: neighbouring counters get unrelated priorities.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
