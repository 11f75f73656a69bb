//! User-mode modules: objects in the memory of a process.
//!
//! The process's memory is read once, into a copy ([`VtgCopy`]); only enabled flags, counters and ids are written to it, through a kernel
//! mapping of the locked pages, and nothing is ever read back. A session has 32 slots; the slot and the number of the location make the id
//! that the process fires with.
//!
//! ```text
//!            reserve               publish              claim (gate closed)            idle
//!   Free ───────────► Registering ─────────► Registered ──────────────────► Going ────────────► Free
//!     ▲                    │ failure
//!     └────────────────────┘
//! ```

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use zerocopy::{FromZeros, IntoBytes};

use super::copy::{CopyKey, Source, VtgCopy};
use super::marks::{ID_OFFSET, Marks, Words};
use super::provider::{Owner, Parts};
use super::state::copy_node;
use super::vtg::{Bitness, Header, Host, Origin};
use super::{StateGuard, Tracer};
use crate::abi::status::{
    Result, VERR_INTERNAL_ERROR, VERR_INVALID_CONTEXT, VERR_INVALID_PARAMETER, VERR_LOCK_FAILED,
    VERR_NOT_FOUND, VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS, VERR_SUPDRV_TRACER_UMOD_NOT_ADJACENT,
    VERR_SUPDRV_TRACER_UMOD_STRTAB_TOO_BIG, VERR_SUPDRV_TRACER_UMOD_TOO_MANY_PROBES,
    VERR_SUPDRV_VTG_ALREADY_REGISTERED,
};
use crate::abi::tracer::{
    LocationState, MAX_SESSION_PROVIDERS, MAX_UMOD_GAP, MAX_UMOD_LOCK_BYTES, MAX_UMOD_PROVIDERS,
    MAX_UMOD_STRINGS_BYTES, MAX_UMODS, MIN_UMOD_STRINGS_BYTES, ProbeState, UMOD_EXE, UMOD_SHARED,
    UserContext,
};
use crate::abi::vtg::ObjectHeader;
use crate::heap::{Array, Box};
use crate::log::log;
use crate::memory::OwnedObject;
use crate::os::{MemProt, PAGE_SIZE, SupdrvOs};
use crate::session::Session;
use crate::sync::Gate;

/// Milliseconds between two looks at probes that still fire.
const DRAIN_WAIT_MS: u32 = 10;
/// Rounds of waiting between two messages about it.
const DRAIN_ROUNDS_PER_MESSAGE: u32 = 256;

/// A request to register a user-mode module.
#[derive(Clone, Copy, Debug)]
pub struct UmodRequest<'a> {
    /// Ring-3 address of the header.
    pub header_r3: usize,
    /// Address of the header for the code that it describes.
    pub header_address: u64,
    /// Ring-3 address of the names of functions.
    pub strings_r3: usize,
    /// Their size in bytes.
    pub strings_bytes: u32,
    /// Name of the module.
    pub name: &'a [u8],
    /// Kind of the module.
    pub flags: u32,
}

/// A place for a module in its session.
struct Slot<O: SupdrvOs> {
    /// Ring-3 address of the header, plus 1, of who has it; 0 if nobody. Under the tracer mutex.
    taken: AtomicUsize,
    /// Open while probes of the module may fire.
    gate: Gate<Umod<O>>,
}

/// What marks a slot as taken. Addresses of headers are multiples of 4, thus none of them marks it as free.
const fn taken_by(header_r3: usize) -> usize {
    header_r3 | 1
}

/// The modules of a session.
pub struct Slots<O: SupdrvOs>([Slot<O>; MAX_UMODS]);

impl<O: SupdrvOs> Slots<O> {
    /// Makes free slots in place.
    ///
    /// # Safety
    /// The place is valid for writes, and nobody else knows it yet.
    pub(super) unsafe fn init(place: *mut Self) {
        let first = place.cast::<Slot<O>>();
        for number in 0..MAX_UMODS {
            // SAFETY: one of the slots of the array (condition of the function).
            unsafe { first.add(number).write(Slot { taken: AtomicUsize::new(0), gate: Gate::default() }) };
        }
    }

    /// Takes the lowest free slot. The tracer mutex is held.
    fn reserve(&self, header_r3: usize) -> Result<usize> {
        let taken = |slot: &Slot<O>| slot.taken.load(Ordering::Relaxed);
        if self.0.iter().any(|slot| taken(slot) == taken_by(header_r3)) {
            return Err(VERR_SUPDRV_VTG_ALREADY_REGISTERED);
        }
        let free = self.0.iter().position(|slot| taken(slot) == 0);
        let index = free.ok_or(VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS)?;
        self.mark(index, taken_by(header_r3));
        Ok(index)
    }

    /// Says who has a slot. The tracer mutex is held.
    fn mark(&self, index: usize, taken: usize) {
        if let Some(slot) = self.0.get(index) {
            slot.taken.store(taken, Ordering::Relaxed);
        }
    }

    /// Withdraws a registered module. The tracer mutex is held, so that nobody else gets the same one.
    fn claim(&self, header_r3: usize) -> Option<(usize, NonNull<Umod<O>>)> {
        let is_it = |slot: &Slot<O>| slot.taken.load(Ordering::Relaxed) == taken_by(header_r3);
        let index = self.0.iter().position(is_it)?;
        Some((index, self.0.get(index)?.gate.close()?))
    }
}

/// Locked pages of a process, and the driver's mapping of them.
struct LockedPages<O: SupdrvOs> {
    os: O,
    pages: OwnedObject<O>,
    map: OwnedObject<O>,
    address: usize,
}

impl<O: SupdrvOs> LockedPages<O> {
    /// Locks and maps the pages of `bytes` from `start`.
    fn new(session: &Session<O>, start: usize, bytes: usize) -> Result<Self> {
        let os = session.driver().os();
        let process = session.process()?;
        let first = start - start % PAGE_SIZE;
        let size = (start % PAGE_SIZE + bytes).next_multiple_of(PAGE_SIZE);
        let prot = MemProt::READ | MemProt::WRITE;
        let pages = os.mem_lock_user(first, size, prot, process)?;
        let mut locked =
            Self { os: os.clone(), pages: OwnedObject(None), map: OwnedObject(None), address: 0 };
        match os.mem_map_kernel(locked.pages.0.insert(pages), 0, size, prot) {
            Ok(map) => locked.address = os.mem_address(locked.map.0.insert(map)),
            Err(status) => return Err(status),
        }
        if locked.address == 0 { Err(VERR_INTERNAL_ERROR) } else { Ok(locked) }
    }
}

impl<O: SupdrvOs> Drop for LockedPages<O> {
    fn drop(&mut self) {
        if self.map.free(&self.os) {
            self.pages.free(&self.os);
        } else {
            // What is still mapped must not be unlocked.
            core::mem::forget(self.pages.0.take());
        }
    }
}

/// A registered user-mode module.
struct Umod<O: SupdrvOs> {
    bitness: Bitness,
    copy: NonNull<VtgCopy<O>>,
    copy_key: CopyKey,
    user_locations: Words,
    user_counters: Words,
    states: Array<LocationState, O>,
    probes: Array<ProbeState, O>,
    /// Numbers of its providers.
    providers: Range<u64>,
    /// Last: everything above may point into it.
    _memory: LockedPages<O>,
}

impl<O: SupdrvOs> Umod<O> {
    fn copy(&self) -> &VtgCopy<O> {
        // SAFETY: the module is a user of the copy until it is dropped.
        unsafe { self.copy.as_ref() }
    }

    /// Gives all locations their ids, or takes them away.
    fn set_ids(&self, id: impl Fn(u32) -> u32) {
        for index in 0..self.user_locations.len() {
            self.user_locations.set(index, ID_OFFSET, id(index as u32));
        }
    }

    /// What a tracer writes.
    fn marks(&self) -> Option<Marks> {
        let words = |base: *const u8, stride: usize, count: usize| {
            // SAFETY: arrays of atomics that live as long as the module, which deregisters its providers before it goes.
            NonNull::new(base.cast_mut()).map(|base| unsafe { Words::new(base, stride, count) })
        };
        Some(Marks::User {
            map: self.copy().map()?,
            locations: words(self.states.as_ptr().cast(), size_of::<LocationState>(), self.states.len())?,
            probes: words(self.probes.as_ptr().cast(), size_of::<ProbeState>(), self.probes.len())?,
            user_locations: self.user_locations,
            user_counters: self.user_counters,
        })
    }

    /// The parts of a provider.
    fn provider<'a>(&'a self, index: usize, session: &Session<O>, module: &'a [u8]) -> Option<Parts<'a>> {
        let copy = self.copy();
        let provider = copy.object().providers().get(index)?;
        let name = provider.name_offset as usize;
        let location = copy.location(0)?;
        Some(Parts {
            name: copy.part(name..name + usize::from(provider.name_len)),
            process: Some(session.process_id()),
            module,
            header: copy.address(),
            desc: copy.address() + provider.offset as usize,
            index: index as u16,
            owner: Owner::Session(session.key()),
            shape: (self.bitness.location_bytes() as u8, self.bitness.bits(), true),
            places: [
                location as usize,
                self.user_locations.record(0)?.as_ptr() as usize,
                self.user_counters.record(0)?.as_ptr() as usize,
            ],
            states: [self.states.as_ptr() as usize, self.probes.as_ptr() as usize],
            marks: self.marks()?,
        })
    }
}

/// What is known of a module before its memory is locked.
struct Checked {
    header: Header,
    /// Ring-3 address of the enabled counters.
    counters_r3: usize,
    /// Bytes from there to the locations, and to their end.
    to_locations: u32,
    span: u32,
}

impl Checked {
    fn new(header: Header, header_r3: usize) -> Result<Self> {
        if header.provider_count() > MAX_UMOD_PROVIDERS {
            return Err(VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS);
        }
        let counters = header.counters();
        let locations = u32::try_from(header.locations_offset()).unwrap_or(0);
        let to_locations = locations.checked_sub(counters.offset).filter(|_| locations != 0);
        let to_locations = to_locations.ok_or(VERR_SUPDRV_TRACER_UMOD_NOT_ADJACENT)?;
        if to_locations.saturating_sub(counters.bytes) > MAX_UMOD_GAP {
            return Err(VERR_SUPDRV_TRACER_UMOD_NOT_ADJACENT);
        }
        let counters_r3 = header_r3.checked_add(counters.offset as usize).ok_or(VERR_LOCK_FAILED)?;
        let span = to_locations.saturating_add(header.locations_bytes());
        if (counters_r3 % PAGE_SIZE) as u32 + span.min(MAX_UMOD_LOCK_BYTES + 1) > MAX_UMOD_LOCK_BYTES {
            return Err(VERR_SUPDRV_TRACER_UMOD_TOO_MANY_PROBES);
        }
        counters_r3.checked_add(MAX_UMOD_LOCK_BYTES as usize).ok_or(VERR_LOCK_FAILED)?;
        Ok(Self { header, counters_r3, to_locations, span })
    }
}

impl<O: SupdrvOs> Tracer<O> {
    fn umod_register(&self, session: &Session<O>, request: &UmodRequest<'_>) -> Result<()> {
        let owner = Owner::Session(session.key());
        if !session.owner().kind.is_user() {
            return Err(VERR_INVALID_CONTEXT);
        }
        if request.flags != UMOD_EXE && request.flags != UMOD_SHARED {
            return Err(VERR_INVALID_PARAMETER);
        }
        let limit = MAX_SESSION_PROVIDERS as usize;
        if self.state.lock().provider_count(owner, limit) >= limit {
            return Err(VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS);
        }
        if !(MIN_UMOD_STRINGS_BYTES..=MAX_UMOD_STRINGS_BYTES).contains(&request.strings_bytes) {
            return Err(VERR_SUPDRV_TRACER_UMOD_STRTAB_TOO_BIG);
        }
        let checked = self.check_umod(session, request)?;
        let slot = {
            let _state = self.state.lock();
            session.tracer.slots.reserve(request.header_r3)?
        };
        let result = self.fill_slot(session, request, &checked, slot);
        if result.is_err() {
            let _state = self.state.lock();
            session.tracer.slots.mark(slot, 0);
        }
        result
    }

    /// Reads the header of a module, and only that.
    // Not inlined: what it has on the stack is gone before anything else begins.
    #[inline(never)]
    fn check_umod(&self, session: &Session<O>, request: &UmodRequest<'_>) -> Result<Checked> {
        let origin: Origin<fn(u64) -> bool> = Origin::User;
        Header::check_place(request.header_r3 as u64, &origin)?;
        session.process()?;
        let mut raw = ObjectHeader::new_zeroed();
        self.os.user_copy_from(raw.as_mut_bytes(), request.header_r3)?;
        let host = Host { bitness: Bitness::NATIVE, keeps_link_addresses: false };
        Checked::new(Header::parse(&raw, request.header_address, &origin, host)?, request.header_r3)
    }

    /// Everything that can fail once there is a slot. What was done is undone by dropping it.
    fn fill_slot(
        &self,
        session: &Session<O>,
        request: &UmodRequest<'_>,
        checked: &Checked,
        slot: usize,
    ) -> Result<()> {
        let header = &checked.header;
        let (locations, probes) = (header.location_count() as usize, header.probe_count() as usize);
        let states = Array::new_zeroed(&self.os, locations)?;
        let probe_states = Array::new_zeroed(&self.os, probes)?;
        let memory = LockedPages::new(session, checked.counters_r3, checked.span as usize)?;
        let counters = memory.address + checked.counters_r3 % PAGE_SIZE;
        let at = |address: usize| {
            NonNull::new(core::ptr::with_exposed_provenance_mut(address)).ok_or(VERR_INTERNAL_ERROR)
        };
        let record = header.bitness().location_bytes() as usize;
        // SAFETY: counters and locations are inside the span that was mapped, at multiples of 4; they live as long as the module.
        let (user_counters, user_locations) = unsafe {
            (
                Words::new(at(counters)?, size_of::<u32>(), probes),
                Words::new(at(counters + checked.to_locations as usize)?, record, locations),
            )
        };
        let source = Source {
            header_r3: request.header_r3,
            strings_r3: request.strings_r3,
            strings_bytes: request.strings_bytes,
            flags: request.flags,
        };
        let copy = copy_node(&self.os, header, &user_locations, &source)?;
        let umod = Umod {
            bitness: header.bitness(),
            copy: NonNull::dangling(),
            copy_key: *copy.key(),
            user_locations,
            user_counters,
            states,
            probes: probe_states,
            providers: 0..0,
            _memory: memory,
        };
        let mut umod = Box::new(&self.os, umod)?;
        let mut state = self.state.lock();
        let (shared, key, spare) = state.share(copy);
        (umod.copy, umod.copy_key) = (shared, key);
        umod.set_ids(|index| (slot as u32) << 24 | index);
        let count = header.provider_count();
        match state.register(count, |index| umod.provider(index, session, request.name)) {
            Ok(numbers) => umod.providers = numbers,
            Err(status) => {
                umod.set_ids(|_| 0);
                let unused = state.unshare(&key);
                drop(state);
                drop((unused, spare));
                return Err(status);
            }
        }
        if let Some(slot) = session.tracer.slots.0.get(slot) {
            slot.gate.open(umod.into_raw());
        }
        drop(state);
        drop(spare);
        Ok(())
    }

    fn umod_deregister(&self, session: &Session<O>, header_r3: usize) -> Result<()> {
        let state = self.state.lock();
        let (slot, umod) = session.tracer.slots.claim(header_r3).ok_or(VERR_NOT_FOUND)?;
        drop(state);
        self.drain(session, slot);
        // SAFETY: it came from `into_raw`, and was claimed, so that nobody else has it; nobody is inside any more.
        let umod = unsafe { Box::from_raw(&self.os, umod) };
        umod.set_ids(|_| 0);
        self.drop_umod(self.state.lock(), session, slot, umod);
        Ok(())
    }

    /// Waits until no probe of a withdrawn module is firing.
    fn drain(&self, session: &Session<O>, slot: usize) {
        let Some(slot) = session.tracer.slots.0.get(slot) else { return };
        for round in 0_u32.. {
            if slot.gate.is_idle() {
                return;
            }
            if round % DRAIN_ROUNDS_PER_MESSAGE == DRAIN_ROUNDS_PER_MESSAGE - 1 {
                log(&self.os, &[b"supdrv: probes of a user-mode module keep firing"]);
            }
            self.os.sleep_ms(DRAIN_WAIT_MS);
        }
    }

    /// Deregisters the providers of a module, frees its slot and then the module.
    fn drop_umod(
        &self,
        mut state: StateGuard<'_, O>,
        session: &Session<O>,
        slot: usize,
        umod: Box<Umod<O>, O>,
    ) {
        state.deregister_range(umod.providers.clone());
        let unused = state.unshare(&umod.copy_key);
        session.tracer.slots.mark(slot, 0);
        drop(state);
        drop(umod);
        drop(unused);
    }

    /// Frees the modules of a dying session, whose probes can't fire any more.
    pub(super) fn drop_umods(&self, session: &Session<O>) {
        for (index, slot) in session.tracer.slots.0.iter().enumerate() {
            let state = self.state.lock();
            if let Some(umod) = slot.gate.close() {
                // SAFETY: it came from `into_raw`, and closing the gate gave it to us alone.
                let umod = unsafe { Box::from_raw(&self.os, umod) };
                self.drop_umod(state, session, index, umod);
            }
        }
    }

    /// A probe of a user-mode module fires. Class I.
    fn umod_fire(&self, session: &Session<O>, context: &mut UserContext) {
        let (slot, index) = ((context.id >> 24) as usize, (context.id & 0x00ff_ffff) as usize);
        let Some(slot) = session.tracer.slots.0.get(slot) else { return };
        let Some(module) = slot.gate.enter() else { return };
        // SAFETY: whoever closes the gate waits until this pass is gone before it frees the module.
        let umod = unsafe { &*module.target() };
        let Some(state) = umod.states.get(index) else { return };
        if context.bits != umod.bitness.bits() || state.enabled.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(location) = umod.copy().location(index) else { return };
        let Some(tracer) = self.gate.enter() else { return };
        context.id = state.id.load(Ordering::Relaxed);
        // SAFETY: whoever removes the tracer closes the gate and waits until this pass is gone; session, copy and location live as long
        // as the module, whose pass is held.
        unsafe {
            (*tracer.target()).fire_user(session.view().as_ptr(), context, umod.copy().header(), location)
        };
    }
}

/// User-mode modules.
impl<O: SupdrvOs> Session<O> {
    /// Registers a user-mode module of the calling process. Class T.
    ///
    /// # Errors
    /// `VERR_INVALID_CONTEXT` (a sibling driver), `VERR_INVALID_PARAMETER` (flags), `VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS`,
    /// `VERR_SUPDRV_TRACER_UMOD_STRTAB_TOO_BIG`, `VERR_ACCESS_DENIED` (user memory, or another process), what is wrong with the
    /// object, `VERR_SUPDRV_TRACER_UMOD_NOT_ADJACENT`, `_UMOD_TOO_MANY_PROBES`, `_UMOD_STRTAB_OFF_BAD`,
    /// `VERR_SUPDRV_VTG_ALREADY_REGISTERED`, `VERR_NO_MEMORY`, what locking and mapping fail with, or the tracer's.
    #[doc(alias = "SUP_IOCTL_TRACER_UMOD_REG")]
    pub fn tracer_umod_register(&self, request: &UmodRequest<'_>) -> Result<()> {
        self.driver().tracer().umod_register(self, request)
    }

    /// Deregisters the module whose header is at a ring-3 address. When this returns, none of its probes is firing. Class T, may wait.
    ///
    /// # Errors
    /// `VERR_NOT_FOUND`: there is none, or somebody else is deregistering it.
    #[doc(alias = "SUP_IOCTL_TRACER_UMOD_DEREG")]
    pub fn tracer_umod_deregister(&self, header_r3: usize) -> Result<()> {
        self.driver().tracer().umod_deregister(self, header_r3)
    }

    /// Fires a probe of a user-mode module: the tracer is called if there is one, and it enabled the probe. All of `context` is a claim of
    /// the process; the id in it becomes the tracer's. Class I.
    #[doc(alias = "SUP_IOCTL_TRACER_UMOD_FIRE_PROBE")]
    #[doc(alias = "SUPR0TracerUmodProbeFire")]
    pub fn tracer_umod_fire(&self, context: &mut UserContext) {
        self.driver().tracer().umod_fire(self, context);
    }
}
