//! Who wants to know about CPUs that come and go, and about suspend and resume: `RTMpNotification*`, `RTPowerNotification*`.
//!
//! A list calls its members in the order of registration, without any lock: a member may see the list change. Taking a member out waits until
//! nobody runs it any more, unless it takes itself out; then it stays as a *zombie* until the next change of the list, which may free memory.

use core::ffi::c_void;
use core::ops::Bound;

use super::runtime::{Ring0, rc};
use super::types::{MpNotification, PowerNotification};
use crate::abi::status::{Result, VERR_ALREADY_EXISTS, VERR_INVALID_POINTER, VERR_NOT_FOUND};
use crate::heap::Box;
use crate::os::{LockClass, MpEvent, NIL_HANDLE, SupdrvOs};
use crate::sync::{IrqSpinLock, Mutex};
use crate::tree::{Node, Tree};

/// A callback with its argument; both together are the identity of a registration.
#[derive(Clone, Copy)]
struct Member<C> {
    callback: C,
    user: *mut c_void,
}

struct Entry<C> {
    member: Member<C>,
    /// Calls that are going on.
    running: u32,
    /// Who made the last one.
    runner: usize,
}

type Id = (usize, usize);

struct State<C, O: SupdrvOs> {
    by_number: Tree<u64, Entry<C>, O>,
    by_id: Tree<Id, u64, O>,
    zombies: Tree<u64, (), O>,
    last: u64,
}

/// A list of callbacks of type `C`.
struct List<C, O: SupdrvOs> {
    os: O,
    state: IrqSpinLock<State<C, O>, O>,
}

type Removed<C, O> = (Option<Node<u64, Entry<C>, O>>, Option<Node<u64, (), O>>);

impl<C: Copy, O: SupdrvOs> List<C, O> {
    fn new(os: &O) -> Result<Self> {
        let state = State { by_number: Tree::new(), by_id: Tree::new(), zombies: Tree::new(), last: 0 };
        Ok(Self { os: os.clone(), state: IrqSpinLock::new(os, LockClass::ModuleIrqSpin, state)? })
    }

    /// Frees zombies that nobody runs any more. Class T.
    fn bury(&self) {
        let mut from = 0;
        loop {
            let mut state = self.state.lock();
            let Some((&number, ())) = state.zombies.lower_bound(Bound::Excluded(&from)) else { return };
            from = number;
            if state.by_number.get(&number).is_none_or(|entry| entry.running == 0) {
                let gone: Removed<C, O> = (state.by_number.remove(&number), state.zombies.remove(&number));
                drop(state);
                drop(gone);
            }
        }
    }

    fn add(&self, id: Id, member: Member<C>) -> Result<()> {
        self.bury();
        let entry = Entry { member, running: 0, runner: NIL_HANDLE };
        let mut by_number = Node::new(&self.os, 0, entry)?;
        let mut by_id = Node::new(&self.os, id, 0)?;
        let mut state = self.state.lock();
        if state.by_id.get(&id).is_some() {
            drop(state);
            return Err(VERR_ALREADY_EXISTS);
        }
        state.last = state.last.wrapping_add(1);
        let number = state.last;
        by_number.set_key(number);
        *by_id.value_mut() = number;
        let unique = state.by_number.insert(by_number).is_ok() && state.by_id.insert(by_id).is_ok();
        debug_assert!(unique);
        Ok(())
    }

    fn remove(&self, id: Id) -> Result<()> {
        self.bury();
        let mut zombie = Node::new(&self.os, 0, ())?;
        let mut state = self.state.lock();
        let node = state.by_id.remove(&id).ok_or(VERR_NOT_FOUND);
        let number = *node.as_ref().map_err(|status| *status)?.value();
        let me = self.os.thread_handle();
        loop {
            let entry = state.by_number.get(&number).map(|entry| (entry.running, entry.runner));
            match entry {
                Some((1.., runner)) if runner == me => {
                    zombie.set_key(number);
                    let unique = state.zombies.insert(zombie).is_ok();
                    debug_assert!(unique);
                    break;
                }
                Some((1.., _)) => {
                    drop(state);
                    self.os.sleep_ms(1);
                    state = self.state.lock();
                }
                _ => {
                    let gone = state.by_number.remove(&number);
                    drop(state);
                    drop((gone, zombie));
                    drop(node);
                    return Ok(());
                }
            }
        }
        drop(state);
        drop(node);
        Ok(())
    }

    /// Calls all members, one after the other, with no lock held.
    fn call(&self, mut call: impl FnMut(&Member<C>)) {
        let mut from = 0;
        loop {
            let me = self.os.thread_handle();
            let mut state = self.state.lock();
            let next = state.by_number.lower_bound(Bound::Excluded(&from)).map(|(number, _)| *number);
            let Some(number) = next else { return };
            from = number;
            // Zombies aren't called any more.
            if state.zombies.get(&number).is_some() {
                continue;
            }
            let Some(entry) = state.by_number.get_mut(&number) else { continue };
            entry.running += 1;
            entry.runner = me;
            let member = entry.member;
            drop(state);
            call(&member);
            if let Some(entry) = self.state.lock().by_number.get_mut(&number) {
                entry.running -= 1;
            }
        }
    }
}

// SAFETY: members are functions and arguments whose owners promised that they may be called from anywhere.
unsafe impl<C: Send> Send for Member<C> {}

/// Both lists.
pub(super) struct Notifiers<O: SupdrvOs> {
    /// First: dropping it ends the calls.
    source: Mutex<Option<O::MpRegistration>, O>,
    mp: Box<List<MpNotification, O>, O>,
    power: List<PowerNotification, O>,
}

unsafe extern "C" fn cpu_event<O: SupdrvOs>(event: MpEvent, cpu_id: u32, list: *mut c_void) {
    // SAFETY: the context is the list of CPU callbacks, which outlives the registration.
    let list = unsafe { &*list.cast::<List<MpNotification, O>>() };
    // SAFETY: members may be called so.
    list.call(|member| unsafe { (member.callback)(event as u32, cpu_id, member.user) });
}

impl<O: SupdrvOs> Notifiers<O> {
    pub(super) fn new(os: &O) -> Result<Self> {
        Ok(Self {
            source: Mutex::new(os, LockClass::ModuleMutex, None)?,
            mp: Box::new(os, List::new(os)?)?,
            power: List::new(os)?,
        })
    }

    /// Asks the system for events, once.
    fn connect(&self, os: &O) -> Result<()> {
        let mut source = self.source.lock();
        if source.is_none() {
            let list = self.mp.as_ptr().as_ptr().cast();
            // SAFETY: the list stays where it is until after the registration is dropped.
            *source = Some(unsafe { os.mp_register(cpu_event::<O>, list)? });
        }
        Ok(())
    }
}

/// Tells modules that the machine suspends (1) or resumed (2); returns when all callbacks ran. For the system's shell. Class T.
pub fn power_event<R: Ring0>(event: u32) {
    if let Some(shared) = R::state().existing() {
        // SAFETY: members may be called so.
        shared.notifiers.power.call(|member| unsafe { (member.callback)(event, member.user) });
    }
}

/// Adds a callback for CPUs that come and go; it is called in class I. Class T. 0, `VERR_INVALID_POINTER`, `VERR_ALREADY_EXISTS`,
/// `VERR_NO_MEMORY`.
pub unsafe fn mp_notification_register<R: Ring0>(callback: Option<MpNotification>, user: *mut c_void) -> i32 {
    let Some(callback) = callback else { return VERR_INVALID_POINTER.0 };
    let os = &R::os();
    rc(R::state().shared(os).and_then(|shared| {
        shared.notifiers.connect(os)?;
        shared.notifiers.mp.add((callback as usize, user as usize), Member { callback, user })
    }))
}

/// Removes it; it doesn't run any more then, unless it calls this itself. Class T. 0, `VERR_INVALID_POINTER`, `VERR_NOT_FOUND`,
/// `VERR_NO_MEMORY`.
pub unsafe fn mp_notification_deregister<R: Ring0>(
    callback: Option<MpNotification>,
    user: *mut c_void,
) -> i32 {
    let Some(callback) = callback else { return VERR_INVALID_POINTER.0 };
    let shared = R::state().existing().ok_or(VERR_NOT_FOUND);
    rc(shared.and_then(|shared| shared.notifiers.mp.remove((callback as usize, user as usize))))
}

/// Adds a callback for suspend and resume. Class T. As [`mp_notification_register`].
pub unsafe fn power_notification_register<R: Ring0>(
    callback: Option<PowerNotification>,
    user: *mut c_void,
) -> i32 {
    let Some(callback) = callback else { return VERR_INVALID_POINTER.0 };
    rc(R::state().shared(&R::os()).and_then(|shared| {
        shared.notifiers.power.add((callback as usize, user as usize), Member { callback, user })
    }))
}

/// Removes it. Class T. As [`mp_notification_deregister`].
pub unsafe fn power_notification_deregister<R: Ring0>(
    callback: Option<PowerNotification>,
    user: *mut c_void,
) -> i32 {
    let Some(callback) = callback else { return VERR_INVALID_POINTER.0 };
    let shared = R::state().existing().ok_or(VERR_NOT_FOUND);
    rc(shared.and_then(|shared| shared.notifiers.power.remove((callback as usize, user as usize))))
}
