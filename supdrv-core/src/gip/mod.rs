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
pub mod reader;

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use self::arith::{Clock, Sample, Tick, aligned_transaction_id, interval_ns, update_hz};
use crate::abi::gip::{
    GIP_MAGIC, GIP_VERSION, GipCpu, GipHeader, INITIAL_TRANSACTION_ID, MODE_ASYNC, MODE_SYNC,
};
use crate::abi::published::DevExtView;
use crate::abi::status::{
    Result, VERR_GENERAL_FAILURE, VERR_INTERNAL_ERROR, VERR_NOT_SUPPORTED, VERR_TIMER_ACTIVE,
    VERR_TOO_MANY_CPUS,
};
use crate::heap::Box;
use crate::os::{
    AllocKind, LockClass, MAX_CPUS, MemProt, NIL_CPU_ID, PAGE_SIZE, SupdrvOs, TimerSpec, TimerTarget,
};
use crate::session::Session;
use crate::sync::{IrqSpinLock, IrqsOff, Mutex};

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
    users: crate::tree::Tree<usize, User<O>, O>,
    granted_ns: Option<u32>,
    registration: Option<O::MpRegistration>,
}

/// What timer callbacks and CPU notifications use, without the mutex.
pub(crate) struct Shared<O: SupdrvOs> {
    os: O,
    view: AtomicPtr<DevExtView>,
    header: AtomicPtr<GipHeader>,
    /// Initial and private state of every entry.
    clocks: [spin::Mutex<Clock>; MAX_CPUS],
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

impl<O: SupdrvOs> Gip<O> {
    pub(crate) fn new(os: &O) -> Result<Self> {
        let shared = Shared {
            os: os.clone(),
            view: AtomicPtr::default(),
            header: AtomicPtr::default(),
            clocks: [const { spin::Mutex::new(Clock::NEW) }; MAX_CPUS],
            master: AtomicU32::new(NIL_CPU_ID),
            running: AtomicBool::new(false),
            assignment: IrqSpinLock::new(os, LockClass::GipEntries, ())?,
        };
        let page = Page {
            object: None,
            timer: None,
            users: crate::tree::Tree::new(),
            granted_ns: None,
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
        let possible = os.cpu_array_size();
        if possible > MAX_CPUS && wanted == MODE_ASYNC {
            return Err(VERR_TOO_MANY_CPUS);
        }
        let cpus = possible.clamp(1, MAX_CPUS);
        let interval = interval_ns(os.timer_granularity_ns());
        self.shared.view.store(core::ptr::from_ref(view).cast_mut(), Ordering::Relaxed);
        let mut page = self.page.lock();
        let result = self.build(&mut page, cpus, interval, wanted).and_then(|()| self.go(&mut page));
        match result {
            Ok(()) => self.publish(&page, view),
            Err(_) => self.tear_down(&mut page),
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
        for (entry, clock) in entries.iter().zip(&self.shared.clocks) {
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
        for field in [&view.gip, &view.gip_timer] {
            field.store(0, Ordering::Relaxed);
        }
        for half in &view.gip_phys {
            half.store(u32::MAX, Ordering::Relaxed);
        }
        view.gip_master.store(NIL_CPU_ID, Ordering::Relaxed);
        view.gip_users.store(0, Ordering::Relaxed);
        self.tear_down(&mut page);
    }

    /// Undoes what [`build`](Self::build) and [`go`](Self::go) did, as far as they came.
    fn tear_down(&self, page: &mut Page<O>) {
        let os = &self.shared.os;
        drop(page.registration.take());
        drop(page.timer.take());
        if let Some((header, entries)) = self.shared.page() {
            header.magic.store(0, Ordering::Relaxed);
            for entry in entries {
                entry.nano_ts.store(0, Ordering::Relaxed);
                entry.tsc.store(0, Ordering::Relaxed);
                entry.history_head.store(0, Ordering::Relaxed);
            }
        }
        self.shared.header.store(core::ptr::null_mut(), Ordering::Release);
        if let Some(granted) = page.granted_ns.take() {
            os.timer_release_granularity(granted);
        }
        if let Some(Err((object, _))) = page.object.take().map(|object| os.mem_free(object)) {
            core::mem::forget(object);
        }
    }

    /// Gives a session the page; more than once is the same as once. Class T, may block.
    ///
    /// # Errors
    /// `VERR_GENERAL_FAILURE` (there is no page), `VERR_NO_MEMORY`, what mapping or starting the timer fails with. Nothing has
    /// changed then.
    #[doc(alias = "SUPR0GipMap")]
    pub fn map(&self, session: &Session<O>) -> Result<Mapped> {
        let os = &self.shared.os;
        let mut node = crate::tree::Node::new(os, session.key(), User { map: None })?;
        let mut page = self.page.lock();
        let object = page.object.as_ref().ok_or(VERR_GENERAL_FAILURE)?;
        let (kernel, phys) = (os.mem_address(object), self.phys(&page));
        if let Some(user) = page.users.get(&session.key()) {
            let user = user.map.as_ref().map_or(0, |map| os.mem_address_user(map));
            return Ok(Mapped { user, kernel, phys });
        }
        let mut mapped = Mapped { user: 0, kernel, phys };
        if session.owner().kind.is_user() {
            let map = os.mem_map_user(object, MemProt::READ, session.process()?)?;
            mapped.user = os.mem_address_user(&map);
            node.value_mut().map = Some(map);
        }
        if page.users.is_empty()
            && let Err(status) = self.start(&mut page)
        {
            self.unmap_user(node.value_mut());
            return Err(status);
        }
        let new = page.users.insert(node).is_ok();
        debug_assert!(new);
        session.gip.is_user.store(true, Ordering::Relaxed);
        self.count_users(&page);
        Ok(mapped)
    }

    fn unmap_user(&self, user: &mut User<O>) {
        if let Some(Err((map, _))) = user.map.take().map(|map| self.shared.os.mem_free(map)) {
            // The process keeps a read-only view of a page that outlives it; only the mapping is lost.
            core::mem::forget(map);
            crate::log::log(&self.shared.os, &[b"supdrv: a mapping of the GIP could not be removed"]);
        }
    }

    fn count_users(&self, page: &Page<O>) {
        if let Some(view) = self.shared.published() {
            view.gip_users.store(page.users.len() as u32, Ordering::Relaxed);
        }
    }

    /// Takes the page from a session; fine if it has none. Class T, may block.
    ///
    /// # Errors
    /// None at present.
    #[doc(alias = "SUPR0GipUnmap")]
    pub fn unmap(&self, session: &Session<O>) -> Result<()> {
        let mut page = self.page.lock();
        let Some(mut node) = page.users.remove(&session.key()) else { return Ok(()) };
        session.gip.is_user.store(false, Ordering::Relaxed);
        self.unmap_user(node.value_mut());
        self.count_users(&page);
        if page.users.is_empty() {
            self.stop(&mut page);
        }
        drop(page);
        drop(node);
        Ok(())
    }

    pub(crate) fn session_closing(&self, session: &Session<O>) {
        if session.gip.is_user.load(Ordering::Relaxed) {
            let unmapped = self.unmap(session);
            debug_assert!(unmapped.is_ok());
        }
    }

    /// The first user is here.
    fn start(&self, page: &mut Page<O>) -> Result<()> {
        const WANTED_NS: [u32; 4] = [976_563, 1_000_000, 1_953_125, 2_000_000];
        let os = &self.shared.os;
        page.granted_ns = WANTED_NS.into_iter().find_map(|ns| os.timer_request_granularity(ns).ok());
        if let Some(view) = self.shared.published() {
            view.timer_granularity_grant.store(page.granted_ns.unwrap_or(0), Ordering::Relaxed);
        }
        self.reseed();
        self.shared.running.store(true, Ordering::Relaxed);
        let timer = page.timer.as_ref().ok_or(VERR_GENERAL_FAILURE)?;
        match os.timer_start(timer, 0) {
            // A shell that stopped the timer for a host suspend may have started it again already.
            Ok(()) | Err(VERR_TIMER_ACTIVE) => Ok(()),
            Err(status) => {
                self.shared.running.store(false, Ordering::Relaxed);
                self.release_granularity(page.granted_ns.take());
                Err(status)
            }
        }
    }

    /// Brings the frozen page up to date, so that readers see no jump at the first tick.
    fn reseed(&self) {
        let shared = &*self.shared;
        let Some((header, entries)) = shared.page() else { return };
        let started_before = entries
            .first()
            .is_some_and(|e| e.transaction_id.load(Ordering::Relaxed) != INITIAL_TRANSACTION_ID);
        if started_before {
            for entry in entries {
                let id = entry.transaction_id.load(Ordering::Relaxed);
                entry.transaction_id.store(aligned_transaction_id(id), Ordering::Release);
            }
            header.last_update_hz_nano_ts.store(0, Ordering::Relaxed);
        }
        let seed = cpus::Seed { shared, now_ns: shared.os.system_nano_ts() };
        if header.mode.load(Ordering::Relaxed) == MODE_SYNC {
            seed.seed_entry(0);
            return;
        }
        let context = (&raw const seed).cast_mut().cast();
        // SAFETY: `seed` lives until the call returns. A CPU that can't be reached keeps its old pair until its first tick.
        let _ = unsafe { shared.os.mp_on_all(cpus::seed_own::<O>, context) };
    }

    /// The last user is gone.
    fn stop(&self, page: &mut Page<O>) {
        if let Some(timer) = page.timer.as_ref() {
            // A shell may have stopped it already.
            let _ = self.shared.os.timer_stop(timer);
        }
        self.shared.running.store(false, Ordering::Relaxed);
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
