//! Everything under the tracer mutex.

use core::ops::{Bound, Range};

use super::TracerGlobals;
use super::copy::{CopyKey, Source, VtgCopy};
use super::marks::Words;
use super::ops::Ops;
use super::provider::{Owner, Parts, Provider, Standing};
use super::vtg::Header;
use crate::abi::published::DevExtView;
use crate::abi::status::{Result, VERR_SUPDRV_VTG_ALREADY_REGISTERED, VERR_SUPDRV_VTG_ONLY_ONCE_PER_SESSION};
use crate::heap::Box;
use crate::log::log;
use crate::object::SessionKey;
use crate::os::SupdrvOs;
use crate::tree::{Node, Tree};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

/// Who registered the tracer, and so may remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracerOwner {
    /// An image, by its handle.
    Image(usize),
    /// A sibling driver's session.
    Session(SessionKey),
    /// The system: it can't be removed.
    Native,
}

/// A registered tracer.
pub struct Registered<O: SupdrvOs> {
    /// What it does.
    pub ops: Box<Ops, O>,
    /// Who it belongs to.
    pub owner: TracerOwner,
}

/// A shared copy.
pub struct SharedCopy<O: SupdrvOs> {
    copy: Box<VtgCopy<O>, O>,
    users: u32,
}

/// A node for a copy, made before it is needed.
pub type CopyNode<O> = Node<CopyKey, SharedCopy<O>, O>;

/// A provider with its places in all indexes, made before it is needed.
struct Nodes<O: SupdrvOs> {
    provider: Node<u64, Provider<O>, O>,
    by_header: Node<(usize, u64), Owner, O>,
    by_owner: Node<(Owner, u64), (), O>,
}

impl<O: SupdrvOs> Nodes<O> {
    fn new(os: &O, number: u64, provider: Provider<O>) -> Result<Self> {
        let (header, owner) = (provider.header, provider.owner);
        Ok(Self {
            provider: Node::new(os, number, provider)?,
            by_header: Node::new(os, (header, number), owner)?,
            by_owner: Node::new(os, (owner, number), ())?,
        })
    }
}

/// What there is.
pub struct State<O: SupdrvOs> {
    os: O,
    view: Option<NonNull<DevExtView>>,
    /// What C knows without naming the driver.
    pub globals: Option<TracerGlobals>,
    /// The tracer.
    pub tracer: Option<Registered<O>>,
    /// The tracer is being removed.
    pub unloading: bool,
    /// Sessions that have the tracer open, and requests that it works on.
    opens: u32,
    /// In the order of registration.
    providers: Tree<u64, Provider<O>, O>,
    by_header: Tree<(usize, u64), Owner, O>,
    by_owner: Tree<(Owner, u64), (), O>,
    /// Providers whose object is gone, and which the tracer couldn't forget yet.
    zombies: Tree<u64, Provider<O>, O>,
    copies: Tree<CopyKey, SharedCopy<O>, O>,
    last: u64,
}

// SAFETY: the raw pointer is to the device extension, which outlives the driver and consists of atomics where it changes.
unsafe impl<O: SupdrvOs> Send for State<O> {}

/// The entry of a tree that comes after `last`.
fn after<K: Ord + Copy, V, O: SupdrvOs>(tree: &Tree<K, V, O>, last: Option<K>) -> Option<K> {
    let bound = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    tree.lower_bound(bound).map(|(key, _)| *key)
}

impl<O: SupdrvOs> State<O> {
    pub fn new(os: &O) -> Self {
        Self {
            os: os.clone(),
            view: None,
            globals: None,
            tracer: None,
            unloading: false,
            opens: 0,
            providers: Tree::new(),
            by_header: Tree::new(),
            by_owner: Tree::new(),
            zombies: Tree::new(),
            copies: Tree::new(),
            last: 0,
        }
    }

    /// Keeps what C code sees true from now on.
    ///
    /// # Safety
    /// The view outlives the state.
    pub unsafe fn set_view(&mut self, view: NonNull<DevExtView>) {
        self.view = Some(view);
    }

    fn view(&self) -> Option<&DevExtView> {
        // SAFETY: it outlives the state (condition of `set_view`).
        self.view.map(|view| unsafe { view.as_ref() })
    }

    /// Number of opens.
    pub const fn opens(&self) -> u32 {
        self.opens
    }

    /// Counts an open or a request.
    pub fn add_open(&mut self) {
        self.set_opens(self.opens.saturating_add(1));
    }

    /// Ends one.
    pub fn drop_open(&mut self) {
        self.set_opens(self.opens.saturating_sub(1));
    }

    fn set_opens(&mut self, opens: u32) {
        self.opens = opens;
        if let Some(view) = self.view() {
            view.tracer_opens.store(opens, Ordering::Relaxed);
        }
    }

    /// Whether the tracer is going.
    pub fn set_unloading(&mut self, unloading: bool) {
        self.unloading = unloading;
        if let Some(view) = self.view() {
            view.tracer_unloading.store(u8::from(unloading), Ordering::Relaxed);
        }
    }

    /// The tracer's callbacks.
    pub fn ops(&self) -> Option<Ops> {
        self.tracer.as_ref().map(|tracer| *tracer.ops)
    }

    /// Numbers of providers and zombies.
    pub const fn counts(&self) -> (usize, usize) {
        (self.providers.len(), self.zombies.len())
    }

    /// Number of copies of user-mode modules.
    pub const fn copy_count(&self) -> usize {
        self.copies.len()
    }

    /// Counts the providers of an owner, but not beyond `limit`.
    pub fn provider_count(&self, owner: Owner, limit: usize) -> usize {
        let mut last = (owner, 0);
        let mut count = 0;
        while count < limit {
            match after(&self.by_owner, Some(last)).filter(|(found, _)| *found == owner) {
                Some(next) => last = next,
                None => break,
            }
            count += 1;
        }
        count
    }

    /// Whether an object can be registered by an owner: an image has one object, nobody registers one twice.
    ///
    /// # Errors
    /// `VERR_SUPDRV_VTG_ALREADY_REGISTERED`, `VERR_SUPDRV_VTG_ONLY_ONCE_PER_SESSION`.
    pub fn check_unique(&self, header: usize, owner: Owner) -> Result<()> {
        let mut last = None;
        while let Some(next) =
            after(&self.by_header, last.or(Some((header, 0)))).filter(|(at, _)| *at == header)
        {
            let found = self.by_header.get(&next).copied();
            if matches!(owner, Owner::Image(_)) || found == Some(owner) {
                return Err(VERR_SUPDRV_VTG_ALREADY_REGISTERED);
            }
            last = Some(next);
        }
        if matches!(owner, Owner::Image(_)) && self.provider_count(owner, 1) != 0 {
            return Err(VERR_SUPDRV_VTG_ONLY_ONCE_PER_SESSION);
        }
        Ok(())
    }

    /// Registers the providers of an object, from the last to the first; all or none. Returns their numbers.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, or the tracer's.
    pub fn register<'a>(
        &mut self,
        count: usize,
        parts: impl Fn(usize) -> Option<Parts<'a>>,
    ) -> Result<Range<u64>> {
        let start = self.last + 1;
        for parts in (0..count).rev().filter_map(parts) {
            if let Err(status) = self.register_one(&parts) {
                self.deregister_range(start..self.last + 1);
                return Err(status);
            }
        }
        Ok(start..self.last + 1)
    }

    fn register_one(&mut self, parts: &Parts<'_>) -> Result<()> {
        let number = self.last + 1;
        let mut nodes = Nodes::new(&self.os, number, Provider::new(&self.os, parts)?)?;
        if let Some(ops) = self.ops().filter(|_| !self.unloading) {
            nodes.provider.value_mut().register(&ops)?;
        }
        self.last = number;
        let unique = self.providers.insert(nodes.provider).is_ok()
            && self.by_header.insert(nodes.by_header).is_ok()
            && self.by_owner.insert(nodes.by_owner).is_ok();
        debug_assert!(unique);
        Ok(())
    }

    /// Deregisters a provider; it becomes a zombie if the tracer can't forget it now.
    fn deregister(&mut self, number: u64) {
        let Some(mut node) = self.providers.remove(&number) else { return };
        let (header, owner) = (node.value().header, node.value().owner);
        self.by_header.remove(&(header, number));
        self.by_owner.remove(&(owner, number));
        if node.value_mut().forget(self.ops().as_ref()).is_ok() {
            node.value().clear_marks();
            return;
        }
        node.value_mut().detach();
        let unique = self.zombies.insert(node).is_ok();
        debug_assert!(unique);
    }

    /// Deregisters providers by their numbers.
    pub fn deregister_range(&mut self, numbers: Range<u64>) {
        numbers.for_each(|number| self.deregister(number));
    }

    /// Deregisters the providers of an owner.
    pub fn deregister_owner(&mut self, owner: Owner) {
        while let Some((_, number)) =
            after(&self.by_owner, Some((owner, 0))).filter(|(found, _)| *found == owner)
        {
            self.deregister(number);
        }
    }

    /// Deregisters all providers.
    pub fn deregister_all(&mut self) {
        while let Some(number) = after(&self.providers, None) {
            self.deregister(number);
        }
    }

    /// Asks the tracer to forget the zombies; returns how many it can't forget yet.
    pub fn process_zombies(&mut self) -> usize {
        let ops = self.ops();
        let mut last = None;
        while let Some(number) = after(&self.zombies, last) {
            let forgotten = self.zombies.get_mut(&number).is_some_and(|it| it.forget(ops.as_ref()).is_ok());
            if forgotten {
                self.zombies.remove(&number);
            }
            last = Some(number);
        }
        self.zombies.len()
    }

    /// Presents all providers to a new tracer; those that it refuses stay unknown to it.
    pub fn present_all(&mut self, ops: &Ops) {
        let mut last = None;
        while let Some(number) = after(&self.providers, last) {
            if self.providers.get_mut(&number).is_some_and(|it| it.register(ops).is_err()) {
                log(&self.os, &[b"supdrv: the tracer refused a provider"]);
            }
            last = Some(number);
        }
    }

    /// Asks the tracer to forget all providers, which stay for the next one; returns how many it can't forget yet.
    pub fn withdraw_all(&mut self) -> usize {
        let ops = self.ops();
        let (mut last, mut busy) = (None, 0);
        while let Some(number) = after(&self.providers, last) {
            if let Some(provider) = self.providers.get_mut(&number)
                && provider.standing != Standing::Unknown
            {
                if provider.forget(ops.as_ref()).is_ok() {
                    provider.clear_marks();
                } else {
                    busy += 1;
                }
            }
            last = Some(number);
        }
        busy
    }

    /// Takes a user of a copy in: of one that exists, or else of the given one.
    pub fn share(&mut self, mut node: CopyNode<O>) -> (NonNull<VtgCopy<O>>, CopyKey, Option<CopyNode<O>>) {
        let (uuid, hash, _) = *node.key();
        let from = (uuid, hash, 0);
        let candidate = after(&self.copies, Some(from)).filter(|key| (key.0, key.1) == (uuid, hash));
        if let Some(key) = candidate
            && let Some(shared) = self.copies.get_mut(&key)
            && shared.copy.is_same(&node.value().copy)
        {
            shared.users = shared.users.saturating_add(1);
            return (shared.copy.as_ptr(), key, Some(node));
        }
        node.value_mut().users = 1;
        let (copy, key) = (node.value().copy.as_ptr(), *node.key());
        let unique = self.copies.insert(node).is_ok();
        debug_assert!(unique);
        (copy, key, None)
    }

    /// Lets a user of a copy go; returns the copy if that was the last one.
    pub fn unshare(&mut self, key: &CopyKey) -> Option<CopyNode<O>> {
        let shared = self.copies.get_mut(key)?;
        shared.users = shared.users.saturating_sub(1);
        if shared.users == 0 { self.copies.remove(key) } else { None }
    }
}

/// A copy in a node, so that it may be shared.
///
/// # Errors
/// Those of [`VtgCopy::build`]; `VERR_NO_MEMORY`.
// Not inlined: what it has on the stack is gone before the tracer is called.
#[inline(never)]
pub fn copy_node<O: SupdrvOs>(
    os: &O,
    header: &Header,
    locations: &Words,
    source: &Source,
) -> Result<CopyNode<O>> {
    let copy = VtgCopy::build(os, header, locations, source)?;
    let key = copy.key();
    Node::new(os, key, SharedCopy { copy: Box::new(os, copy)?, users: 0 })
}
