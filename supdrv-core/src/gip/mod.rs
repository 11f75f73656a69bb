//! The global info page: the time without system calls.
//!
//! One page (or a few) with an entry per CPU, written by a timer and read by everybody: mapped read-only into every process that
//! asks, and used by loaded images at its kernel address. While nobody uses it, the timer stands still and the page doesn't change.
//!
//! ```text
//!   created ──first user──► seeded, timer running ──last user──► timer stopped, page frozen ──first user──► …
//! ```
//!
//! In *synchronous* mode the TSCs of all CPUs run in step, and entry 0 is for all; a timer on any CPU updates it. In
//! *asynchronous* mode every CPU updates its own entry, and one of them, the *master*, also measures the update frequency.
//! The mode is decided before anybody can see the page ([`mode`]); the numbers are [`arith`]'s, the readers' side is [`reader`].
//!
//! The GIP mutex serialises users and the timer; the entries lock protects which CPU has which entry. Timer callbacks take
//! neither: they find their entry through the page, and its private clock by trying a lock word.

pub mod arith;
mod cpus;
pub mod mode;
pub mod protocol;
pub mod reader;

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use self::arith::{Clock, Sample, Tick, interval_ns, update_hz};
use crate::abi::gip::{GIP_MAGIC, GIP_VERSION, GipCpu, GipHeader, MODE_ASYNC, MODE_SYNC};
use crate::abi::published::DevExtView;
use crate::abi::status::{
    Result, VERR_GENERAL_FAILURE, VERR_INTERNAL_ERROR, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE,
    VERR_TOO_MANY_CPUS,
};
use crate::heap::{Array, Box};
use crate::os::{
    AllocKind, LockClass, MAX_CPUS, MemProt, NIL_CPU_ID, PAGE_SIZE, SupdrvOs, TimerSpec, TimerTarget,
};
use crate::session::Session;
use crate::sync::{IrqSpinLock, IrqsOff, Mutex};
use crate::tree::{Node, Tree};

/// What a session has of the page; protected by the GIP mutex, hence in it.
struct User<O: SupdrvOs> {
    map: Option<O::MemObj>,
}

/// The GIP's place in a session.
#[derive(Default)]
pub struct GipSession {
    /// Whether the session has an entry among the users: saves closing sessions the search.
    is_user: AtomicBool,
}

/// Where a client finds the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Read-only, in the calling process; 0 for kernel sessions.
    pub user: usize,
    /// In the kernel.
    pub kernel: usize,
    /// Physical; the pages are contiguous.
    pub phys: u64,
}

/// What exists from creation to destruction.
struct Page<O: SupdrvOs> {
    object: Option<O::MemObj>,
    timer: Option<O::Timer>,
    users: Tree<usize, User<O>, O>,
    granted_ns: Option<u32>,
    /// A process may still see the pages, though nobody knows its mapping any more: they are never freed.
    lost_a_mapping: bool,
    registration: Option<O::MpRegistration>,
}

/// What timer callbacks and CPU notifications use, without the mutex.
pub(crate) struct Shared<O: SupdrvOs> {
    os: O,
    view: AtomicPtr<DevExtView>,
    header: AtomicPtr<GipHeader>,
    /// Private state of every entry. Locked with interrupts off, and only ever tried by ticks.
    clocks: Array<spin::Mutex<Clock>, O>,
    master: AtomicU32,
    running: AtomicBool,
    assignment: IrqSpinLock<(), O>,
}

/// The page of a driver.
pub struct Gip<O: SupdrvOs> {
    shared: Box<Shared<O>, O>,
    page: Mutex<Page<O>, O>,
}

impl<O: SupdrvOs> Shared<O> {
    /// Header and entries, while the page exists.
    fn page(&self) -> Option<(&GipHeader, &[GipCpu])> {
        let header = NonNull::new(self.header.load(Ordering::Acquire))?;
        // SAFETY: the pointer is withdrawn, and everybody who may use it waited for, before the page is freed.
        let header = unsafe { header.as_ref() };
        let entries = core::ptr::from_ref(header).wrapping_add(1).cast::<GipCpu>();
        // SAFETY: the allocation has room for that many entries behind the header; zeroed entries are valid.
        let entries =
            unsafe { core::slice::from_raw_parts(entries, header.cpus.load(Ordering::Relaxed).into()) };
        Some((header, entries))
    }

    fn sample(&self) -> Sample {
        Sample { now_ns: self.os.system_nano_ts(), tsc: self.os.tsc() }
    }

    fn published(&self) -> Option<&DevExtView> {
        // SAFETY: the device extension outlives the page.
        unsafe { self.view.load(Ordering::Relaxed).as_ref() }
    }

    fn set_master(&self, cpu_id: u32) {
        self.master.store(cpu_id, Ordering::Relaxed);
        if let Some(view) = self.published() {
            view.gip_master.store(cpu_id, Ordering::Relaxed);
        }
    }

    /// The entry of the current CPU in asynchronous mode: found through the page, like readers do.
    fn own_entry<'a>(&self, header: &GipHeader, entries: &'a [GipCpu]) -> Option<(usize, &'a GipCpu)> {
        let index = header.cpu_from_apic_id.get(usize::from(self.apic_id()))?.load(Ordering::Relaxed);
        let entry = entries.get(usize::from(index))?;
        (entry.cpu_id.load(Ordering::Relaxed) == self.os.cpu_id()).then_some((index.into(), entry))
    }

    fn apic_id(&self) -> u8 {
        self.os.cpuid(1, 0).ebx.to_le_bytes()[3]
    }

    fn update(&self, index: usize, header: &GipHeader, entry: &GipCpu, tick: Tick) {
        let sample = self.sample();
        match self.clocks.get(index).map(spin::Mutex::try_lock) {
            Some(Some(mut clock)) => clock.update(header, entry, sample, tick),
            _ => Clock::count_collision(&entry.errors),
        }
    }

    fn tick(&self, number: u64) {
        let Some((header, entries)) = self.page() else { return };
        let _irqs_off = IrqsOff::new(&self.os);
        if header.mode.load(Ordering::Relaxed) == MODE_SYNC {
            if let Some(entry) = entries.first() {
                self.update(0, header, entry, Tick { number, measures: true });
            }
            return;
        }
        let measures = self.master.load(Ordering::Relaxed) == self.os.cpu_id();
        if number == 1 && !measures {
            self.cpu_ticks_before_online(header, entries);
        }
        if let Some((index, entry)) = self.own_entry(header, entries) {
            self.update(index, header, entry, Tick { number, measures });
        }
    }
}

/// The timer callback of both modes.
///
/// # Safety
/// `context` is the `Shared` of a GIP that destroys the timer before it goes away.
unsafe extern "C" fn on_tick<O: SupdrvOs>(_timer: *mut c_void, context: *mut c_void, number: u64) {
    // SAFETY: condition of the function.
    unsafe { &*context.cast::<Shared<O>>() }.tick(number);
}

/// Bytes of a page with that many entries, in whole pages.
#[must_use]
pub const fn page_bytes(cpus: usize) -> usize {
    (size_of::<GipHeader>() + cpus * size_of::<GipCpu>()).next_multiple_of(PAGE_SIZE)
}

/// Entries of the page of a system.
fn entry_count(os: &impl SupdrvOs) -> usize {
    os.cpu_array_size().clamp(1, MAX_CPUS)
}

impl<O: SupdrvOs> Gip<O> {
    pub(crate) fn new(os: &O) -> Result<Self> {
        let shared = Shared {
            os: os.clone(),
            view: AtomicPtr::default(),
            header: AtomicPtr::default(),
            clocks: Array::from_fn(os, entry_count(os), |_| spin::Mutex::new(Clock::NEW))?,
            master: AtomicU32::new(NIL_CPU_ID),
            running: AtomicBool::new(false),
            assignment: IrqSpinLock::new(os, LockClass::GipEntries, ())?,
        };
        let page = Page {
            object: None,
            timer: None,
            users: Tree::new(),
            granted_ns: None,
            lost_a_mapping: false,
            registration: None,
        };
        Ok(Self { shared: Box::new(os, shared)?, page: Mutex::new(os, LockClass::Gip, page)? })
    }

    /// Builds the page and its timer, and starts to follow CPU events. Class T.
    ///
    /// # Errors
    /// `VERR_TOO_MANY_CPUS`, or what the system fails with. Nothing is left behind.
    pub(crate) fn create(&self, view: &DevExtView) -> Result<()> {
        let os = &self.shared.os;
        let wanted = mode::determine(os, view);
        // With the TSCs in step, the CPUs beyond the table read its first entry like all others.
        if os.cpu_array_size() > MAX_CPUS && wanted == MODE_ASYNC {
            return Err(VERR_TOO_MANY_CPUS);
        }
        let cpus = entry_count(os);
        let interval = interval_ns(os.timer_granularity_ns());
        self.shared.view.store(core::ptr::from_ref(view).cast_mut(), Ordering::Relaxed);
        let mut page = self.page.lock();
        let result = self.build(&mut page, cpus, interval, wanted).and_then(|()| self.go(&mut page));
        match result {
            Ok(()) => self.publish(&page, view),
            Err(_) => {
                self.silence(&mut page);
                self.free(&mut page);
            }
        }
        result
    }

    fn build(&self, page: &mut Page<O>, cpus: usize, interval: u32, wanted: u32) -> Result<()> {
        let os = &self.shared.os;
        let prot = MemProt::READ | MemProt::WRITE;
        let object = os.mem_alloc(AllocKind::Contiguous, page_bytes(cpus), prot)?;
        let header = os.mem_address(&object) as *mut GipHeader;
        page.object = Some(object);
        let (timer, mode) = self.create_timer(interval, wanted)?;
        page.timer = Some(timer);
        let place = NonNull::new(header).ok_or(VERR_INTERNAL_ERROR)?;
        // SAFETY: fresh, zeroed, page-aligned memory of sufficient size, which is a valid header; nobody else knows it yet.
        self.fill(unsafe { place.as_ref() }, cpus, interval, mode);
        self.shared.header.store(header, Ordering::Release);
        let Some((_, entries)) = self.shared.page() else { return Err(VERR_INTERNAL_ERROR) };
        let now = self.shared.sample();
        for (entry, clock) in entries.iter().zip(self.shared.clocks.iter()) {
            cpus::clear_entry(entry);
            clock.lock().reset(entry, update_hz(interval), now);
        }
        Ok(())
    }

    fn create_timer(&self, interval: u32, wanted: u32) -> Result<(O::Timer, u32)> {
        let context = self.shared.as_ptr().as_ptr().cast();
        let create = |target| {
            let interval_ns = u64::from(interval);
            self.shared.os.timer_create(&TimerSpec { interval_ns, target, callback: on_tick::<O>, context })
        };
        if wanted == MODE_ASYNC {
            match create(TimerTarget::All) {
                Err(VERR_NOT_SUPPORTED) => {}
                other => return other.map(|timer| (timer, MODE_ASYNC)),
            }
        }
        create(TimerTarget::Any).map(|timer| (timer, MODE_SYNC))
    }

    fn fill(&self, header: &GipHeader, cpus: usize, interval: u32, mode: u32) {
        let os = &self.shared.os;
        header.magic.store(GIP_MAGIC, Ordering::Relaxed);
        header.version.store(GIP_VERSION, Ordering::Relaxed);
        header.mode.store(mode, Ordering::Relaxed);
        header.cpus.store(cpus as u16, Ordering::Relaxed);
        header.pages.store((page_bytes(cpus) / PAGE_SIZE) as u16, Ordering::Relaxed);
        header.update_hz.store(update_hz(interval), Ordering::Relaxed);
        header.update_interval_ns.store(interval, Ordering::Relaxed);
        for (to, from) in header.possible_set.iter().zip(os.cpu_possible_set().0) {
            to.store(from, Ordering::Relaxed);
        }
        header.possible_count.store(os.cpu_present_count().min(u16::MAX.into()) as u16, Ordering::Relaxed);
        header.max_cpu_id.store(os.cpu_max_id(), Ordering::Relaxed);
        for entry in &header.cpu_from_set_index {
            entry.store(u16::MAX, Ordering::Relaxed);
        }
    }

    /// Follows CPU events, and tells the page about the CPUs that are on-line already.
    fn go(&self, page: &mut Page<O>) -> Result<()> {
        let os = &self.shared.os;
        let context = self.shared.as_ptr().as_ptr().cast();
        let first = os.cpu_online_set().iter().next().and_then(|index| os.cpu_id_from_index(index));
        self.shared.set_master(first.unwrap_or(NIL_CPU_ID));
        // SAFETY: the registration is dropped before the shared state is.
        page.registration = Some(unsafe { os.mp_register(cpus::on_event::<O>, context) }?);
        // SAFETY: the shared state lives until the call returns.
        unsafe { os.mp_on_all(cpus::on_cpu_at_creation::<O>, context) }
    }

    fn publish(&self, page: &Page<O>, view: &DevExtView) {
        let os = &self.shared.os;
        let phys = self.phys(page);
        view.gip_phys[0].store(phys as u32, Ordering::Relaxed);
        view.gip_phys[1].store((phys >> 32) as u32, Ordering::Relaxed);
        view.gip_mutex.store(self.page.handle(), Ordering::Relaxed);
        view.gip_spinlock.store(self.shared.assignment.handle(), Ordering::Relaxed);
        let timer = page.timer.as_ref().map_or(0, |timer| os.timer_handle(timer));
        view.gip_timer.store(timer, Ordering::Relaxed);
        view.gip_users.store(0, Ordering::Relaxed);
        view.gip.store(self.shared.header.load(Ordering::Relaxed) as usize, Ordering::Release);
    }

    /// Physical address of the page; all ones without one.
    fn phys(&self, page: &Page<O>) -> u64 {
        let object = page.object.as_ref();
        object.and_then(|object| self.shared.os.mem_page_phys(object, 0)).unwrap_or(u64::MAX)
    }

    /// Takes the page away. Class T; no session exists.
    pub(crate) fn destroy(&self, view: &DevExtView) {
        let mut page = self.page.lock();
        self.silence(&mut page);
        for field in [&view.gip, &view.gip_timer] {
            field.store(0, Ordering::Relaxed);
        }
        for half in &view.gip_phys {
            half.store(u32::MAX, Ordering::Relaxed);
        }
        view.gip_master.store(NIL_CPU_ID, Ordering::Relaxed);
        view.gip_users.store(0, Ordering::Relaxed);
        self.free(&mut page);
    }

    /// Ends everything that writes the page, and tells its readers that it is dead.
    fn silence(&self, page: &mut Page<O>) {
        drop(page.registration.take());
        drop(page.timer.take());
        let Some((header, entries)) = self.shared.page() else { return };
        header.magic.store(0, Ordering::Relaxed);
        for entry in entries {
            entry.nano_ts.store(0, Ordering::Relaxed);
            entry.tsc.store(0, Ordering::Relaxed);
            entry.history_head.store(0, Ordering::Relaxed);
        }
    }

    /// Frees the page after [`silence`](Self::silence).
    fn free(&self, page: &mut Page<O>) {
        let os = &self.shared.os;
        self.shared.header.store(core::ptr::null_mut(), Ordering::Release);
        match page.object.take() {
            Some(object) if page.lost_a_mapping => core::mem::forget(object),
            Some(object) => {
                if let Err((object, _)) = os.mem_free(object) {
                    core::mem::forget(object);
                }
            }
            None => {}
        }
        self.shared.running.store(false, Ordering::Relaxed);
        self.release_granularity(page.granted_ns.take());
    }

    /// Gives a session the page, and its process a read-only mapping of it; more than once is the same as once. Class T, may
    /// block. Kernel sessions get no mapping.
    ///
    /// # Errors
    /// `VERR_GENERAL_FAILURE` (there is no page), `VERR_NO_MEMORY`, `VERR_ACCESS_DENIED` (another process than the session's),
    /// what mapping or starting the timer fails with. Nothing has changed then.
    #[doc(alias = "SUPR0GipMap")]
    pub fn map(&self, session: &Session<O>) -> Result<Mapped> {
        let process = if session.owner().kind.is_user() { Some(session.process()?) } else { None };
        self.join(session, process)
    }

    /// Gives a session the page without a mapping in its process: updates run for it. Class T, may block.
    ///
    /// # Errors
    /// As for [`map`](Self::map).
    pub fn hold(&self, session: &Session<O>) -> Result<Mapped> {
        self.join(session, None)
    }

    fn join(&self, session: &Session<O>, process: Option<usize>) -> Result<Mapped> {
        let os = &self.shared.os;
        let key = session.key();
        let mut node = Node::new(os, key, User { map: None })?;
        let mut page = self.page.lock();
        let page = &mut *page;
        let object = page.object.as_ref().ok_or(VERR_GENERAL_FAILURE)?;
        let (kernel, phys) = (os.mem_address(object), self.phys(page));
        let known = page.users.get_mut(&key);
        let is_new = known.is_none();
        let user = known.unwrap_or_else(|| node.value_mut());
        if let (Some(process), None) = (process, &user.map) {
            user.map = Some(os.mem_map_user(object, MemProt::READ, process)?);
        }
        let mapped =
            Mapped { user: user.map.as_ref().map_or(0, |map| os.mem_address_user(map)), kernel, phys };
        if !is_new {
            return Ok(mapped);
        }
        if page.users.is_empty()
            && let Err(status) = self.start(page)
        {
            page.lost_a_mapping |= self.give_up_mapping(node.value_mut());
            return Err(status);
        }
        let new = page.users.insert(node).is_ok();
        debug_assert!(new);
        session.gip.is_user.store(true, Ordering::Relaxed);
        self.count_users(page);
        Ok(mapped)
    }

    fn unmap_user(&self, user: &mut User<O>) -> Result<()> {
        let Some(map) = user.map.take() else { return Ok(()) };
        self.shared.os.mem_free(map).map_err(|(map, status)| {
            user.map = Some(map);
            status
        })
    }

    /// Removes a mapping, or forgets it if the system can't.
    ///
    /// Returns whether it was forgotten.
    fn give_up_mapping(&self, user: &mut User<O>) -> bool {
        let lost = self.unmap_user(user).is_err();
        if lost {
            core::mem::forget(user.map.take());
            crate::log::log(&self.shared.os, &[b"supdrv: a mapping of the GIP could not be removed"]);
        }
        lost
    }

    fn count_users(&self, page: &Page<O>) {
        if let Some(view) = self.shared.published() {
            view.gip_users.store(page.users.len() as u32, Ordering::Relaxed);
        }
    }

    /// Takes the page from a session; fine if it has none. Class T, may block.
    ///
    /// # Errors
    /// What removing the mapping fails with; the session keeps the page then.
    #[doc(alias = "SUPR0GipUnmap")]
    pub fn unmap(&self, session: &Session<O>) -> Result<()> {
        let mut page = self.page.lock();
        let Some(user) = page.users.get_mut(&session.key()) else { return Ok(()) };
        self.unmap_user(user)?;
        let node = self.leave(&mut page, session);
        drop(page);
        drop(node);
        Ok(())
    }

    pub(crate) fn session_closing(&self, session: &Session<O>) {
        if !session.gip.is_user.load(Ordering::Relaxed) {
            return;
        }
        let mut page = self.page.lock();
        if let Some(user) = page.users.get_mut(&session.key()) {
            let lost = self.give_up_mapping(user);
            page.lost_a_mapping |= lost;
        }
        let node = self.leave(&mut page, session);
        drop(page);
        drop(node);
    }

    /// Strikes a session off the users.
    fn leave(&self, page: &mut Page<O>, session: &Session<O>) -> Option<Node<usize, User<O>, O>> {
        let node = page.users.remove(&session.key());
        session.gip.is_user.store(false, Ordering::Relaxed);
        self.count_users(page);
        if node.is_some() && page.users.is_empty() {
            self.stop(page);
        }
        node
    }

    /// The first user is here.
    fn start(&self, page: &mut Page<O>) -> Result<()> {
        const WANTED_NS: [u32; 4] = [976_563, 1_000_000, 1_953_125, 2_000_000];
        let os = &self.shared.os;
        page.granted_ns = WANTED_NS.into_iter().find_map(|ns| os.timer_request_granularity(ns).ok());
        if let Some(view) = self.shared.published() {
            view.timer_granularity_grant.store(page.granted_ns.unwrap_or(0), Ordering::Relaxed);
        }
        // From here on a CPU that comes on-line leaves a synchronous page's clock alone: see `assign`.
        self.shared.running.store(true, Ordering::SeqCst);
        self.restart();
        let timer = page.timer.as_ref().ok_or(VERR_GENERAL_FAILURE)?;
        match os.timer_start(timer, 0) {
            // A shell that stopped the timer for a host suspend may have started it again already.
            Ok(()) | Err(VERR_TIMER_ACTIVE) => Ok(()),
            Err(status) => {
                self.shared.running.store(false, Ordering::SeqCst);
                self.release_granularity(page.granted_ns.take());
                Err(status)
            }
        }
    }

    /// Brings the frozen page up to date, so that readers see no jump at the first tick.
    fn restart(&self) {
        let shared = &*self.shared;
        let Some((header, entries)) = shared.page() else { return };
        header.last_update_hz_nano_ts.store(0, Ordering::Relaxed);
        let restart = cpus::Restart::new(shared);
        if header.mode.load(Ordering::Relaxed) == MODE_SYNC {
            restart.entry(0);
        } else {
            let context = (&raw const restart).cast_mut().cast();
            // SAFETY: `restart` lives until the call returns. Entries that it doesn't reach keep their time until their first tick.
            let _ = unsafe { shared.os.mp_on_all(cpus::restart_own::<O>, context) };
        }
        restart.realign_others(entries);
    }

    /// The last user is gone.
    fn stop(&self, page: &mut Page<O>) {
        if let Some(timer) = page.timer.as_ref() {
            // A shell may have stopped it already.
            let _ = self.shared.os.timer_stop(timer);
        }
        self.shared.running.store(false, Ordering::SeqCst);
        self.release_granularity(page.granted_ns.take());
    }

    fn release_granularity(&self, granted_ns: Option<u32>) {
        if let Some(granted) = granted_ns {
            self.shared.os.timer_release_granularity(granted);
        }
        if let Some(view) = self.shared.published() {
            view.timer_granularity_grant.store(0, Ordering::Relaxed);
        }
    }

    /// After a host suspend: the TSC may have started over. Class T.
    pub fn resumed(&self) {
        let mut page = self.page.lock();
        if !page.users.is_empty() {
            self.stop(&mut page);
            let restarted = self.start(&mut page);
            if restarted.is_err() {
                crate::log::log(&self.shared.os, &[b"supdrv: the GIP timer could not be restarted"]);
            }
        }
    }

    /// Kernel address of the page; 0 without one. Class I.
    #[doc(alias = "SUPGetGIP")]
    pub fn address(&self) -> usize {
        self.shared.header.load(Ordering::Relaxed) as usize
    }
}
