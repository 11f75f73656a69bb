//! A tracer to play with, and objects in memory, for the tests of tracepoints.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::VecDeque;
use std::ffi::CStr;
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::published::{ImageView, SessionView};
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::{Result, VERR_TRY_AGAIN};
use supdrv_core::abi::tracer::{
    LocationState, ProbeState, ProviderCore, TRACER_MAGIC, TRACER_VERSION, TracerHelpers, TracerReg,
    TracerUmodFireProbeIn, UserContext,
};
use supdrv_core::abi::vtg::{LOCATION_ENABLED, NativeLocation, ObjectHeader};
use supdrv_core::mock::packet::zeroed;
use supdrv_core::mock::{Client, Host, MockOs, Request, UserMemory};
use supdrv_core::os::{NIL_HANDLE, OsIdentity};
use supdrv_core::session::Session;
use supdrv_core::tracer::Registrant;
use zerocopy::FromZeros;

use crate::vtg_samples::{Entry, Sample};

/// What happened in the tracer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Register(String),
    Deregister(String),
    Zombie(String),
    Open { cookie: u32, arg: usize },
    Ioctl { data: usize, command: usize, arg: usize },
    Close { data: usize },
    Fire { id: u32, bits: u8, line: u32 },
}

/// What a provider looked like when it was registered.
#[derive(Clone, Debug)]
pub struct Seen {
    pub address: usize,
    pub name: String,
    pub module: String,
    pub core: ProviderCore,
}

type OnOpen = Box<dyn FnMut(&mut usize) -> i32 + Send>;
type OnIoctl = Box<dyn FnMut(&mut i32) -> i32 + Send>;

#[derive(Default)]
pub struct Played {
    pub events: Vec<Event>,
    pub providers: Vec<Seen>,
    /// Answers of the next calls; success when there are none.
    pub register: VecDeque<i32>,
    pub deregister: VecDeque<i32>,
    pub zombie: VecDeque<i32>,
    pub on_open: Option<OnOpen>,
    pub on_ioctl: Option<OnIoctl>,
    pub on_close: Option<Box<dyn FnMut() + Send>>,
    pub on_fire: Option<Box<dyn FnMut() + Send>>,
}

/// A tracer whose record is its first member, as the callbacks get it.
#[repr(C)]
pub struct FakeTracer {
    pub reg: TracerReg,
    played: Mutex<Played>,
}

fn played<'a>(reg: *const TracerReg) -> MutexGuard<'a, Played> {
    // SAFETY: the record is the first member of a leaked FakeTracer.
    let tracer = unsafe { &*reg.cast::<FakeTracer>() };
    tracer.play()
}

unsafe fn text(address: usize) -> String {
    // SAFETY: names are terminated and live as long as their provider.
    unsafe { CStr::from_ptr(address as *const _) }.to_str().expect("a name").to_owned()
}

unsafe extern "C" fn fire_kernel(_location: usize) {}

unsafe extern "C" fn fire_user(
    reg: *const TracerReg,
    _session: *mut SessionView,
    context: *const UserContext,
    _header: *const ObjectHeader,
    location: *const NativeLocation,
) {
    // SAFETY: both are valid during the call.
    let (context, location) = unsafe { (&*context, &*location) };
    let mut tracer = played(reg);
    tracer.events.push(Event::Fire { id: context.id, bits: context.bits, line: location.line });
    let on_fire = tracer.on_fire.take();
    drop(tracer);
    if let Some(mut on_fire) = on_fire {
        on_fire();
        played(reg).on_fire = Some(on_fire);
    }
}

unsafe extern "C" fn open(
    reg: *const TracerReg,
    _session: *mut SessionView,
    cookie: u32,
    arg: usize,
    data: *mut usize,
) -> i32 {
    let mut tracer = played(reg);
    tracer.events.push(Event::Open { cookie, arg });
    let on_open = tracer.on_open.take();
    drop(tracer);
    // SAFETY: the driver's variable.
    let data = unsafe { &mut *data };
    let Some(mut on_open) = on_open else {
        *data = 0xdead;
        return 0;
    };
    let status = on_open(data);
    played(reg).on_open = Some(on_open);
    status
}

unsafe extern "C" fn ioctl(
    reg: *const TracerReg,
    _session: *mut SessionView,
    data: usize,
    command: usize,
    arg: usize,
    result: *mut i32,
) -> i32 {
    let mut tracer = played(reg);
    tracer.events.push(Event::Ioctl { data, command, arg });
    let on_ioctl = tracer.on_ioctl.take();
    drop(tracer);
    let Some(mut on_ioctl) = on_ioctl else { return 0 };
    // SAFETY: the driver's variable.
    let status = on_ioctl(unsafe { &mut *result });
    played(reg).on_ioctl = Some(on_ioctl);
    status
}

unsafe extern "C" fn close(reg: *const TracerReg, _session: *mut SessionView, data: usize) {
    let mut tracer = played(reg);
    tracer.events.push(Event::Close { data });
    let on_close = tracer.on_close.take();
    drop(tracer);
    if let Some(mut on_close) = on_close {
        on_close();
    }
}

unsafe extern "C" fn register(reg: *const TracerReg, core: *mut ProviderCore) -> i32 {
    // SAFETY: valid until the provider was forgotten.
    let seen = unsafe { core.read() };
    // SAFETY: as above.
    let (name, module) = unsafe { (text(seen.name), text(seen.module_name)) };
    let mut tracer = played(reg);
    tracer.events.push(Event::Register(name.clone()));
    let status = tracer.register.pop_front().unwrap_or(0);
    if status >= 0 {
        tracer.providers.push(Seen { address: core as usize, name, module, core: seen });
    }
    status
}

fn forget(tracer: &mut Played, core: *mut ProviderCore, status: i32) {
    if status >= 0 {
        tracer.providers.retain(|seen| seen.address != core as usize);
    }
}

unsafe extern "C" fn deregister(reg: *const TracerReg, core: *mut ProviderCore) -> i32 {
    let mut tracer = played(reg);
    // SAFETY: the name lives as long as the provider.
    tracer.events.push(Event::Deregister(unsafe { text((*core).name) }));
    let status = tracer.deregister.pop_front().unwrap_or(0);
    forget(&mut tracer, core, status);
    status
}

unsafe extern "C" fn zombie(reg: *const TracerReg, core: *mut ProviderCore) -> i32 {
    let mut tracer = played(reg);
    // SAFETY: the name lives as long as the provider.
    tracer.events.push(Event::Zombie(unsafe { text((*core).name) }));
    let status = tracer.zombie.pop_front().unwrap_or(0);
    forget(&mut tracer, core, status);
    status
}

impl FakeTracer {
    /// A tracer that says yes to everything. Leaked: the record of a real one lives in a module.
    pub fn new() -> &'static Self {
        let reg = TracerReg {
            magic: TRACER_MAGIC,
            version: TRACER_VERSION,
            fire_kernel: fire_kernel as *const () as usize,
            fire_user: fire_user as *const () as usize,
            open: open as *const () as usize,
            ioctl: ioctl as *const () as usize,
            close: close as *const () as usize,
            provider_register: register as *const () as usize,
            provider_deregister: deregister as *const () as usize,
            provider_deregister_zombie: zombie as *const () as usize,
            end_magic: TRACER_MAGIC as usize,
        };
        Box::leak(Box::new(Self { reg, played: Mutex::default() }))
    }

    pub fn play(&self) -> MutexGuard<'_, Played> {
        self.played.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened since the last look.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.play().events)
    }

    /// Names of the providers that it knows, in the order that it learnt of them.
    pub fn names(&self) -> Vec<String> {
        self.play().providers.iter().map(|seen| seen.name.clone()).collect()
    }

    pub fn seen(&self, index: usize) -> Seen {
        self.play().providers[index].clone()
    }

    /// The next deregistration of a provider finds it busy, and so do that many more attempts.
    pub fn be_busy(&self, more: usize) {
        let mut tracer = self.play();
        tracer.deregister.push_back(VERR_TRY_AGAIN.0);
        tracer.zombie.extend(std::iter::repeat_n(VERR_TRY_AGAIN.0, more));
    }

    pub fn address(&self) -> usize {
        (&raw const *self) as usize
    }

    /// Registers it for a sibling driver.
    pub fn register(&self, driver: &Client<'_>) -> Result<std::ptr::NonNull<TracerHelpers>> {
        register_record(driver, self.address())
    }

    /// Removes it.
    pub fn remove(&self, driver: &Client<'_>) -> Result<()> {
        driver.host().driver().tracer().deregister_tracer(Registrant::Driver(driver.session()))
    }
}

/// Registers a tracer by the address of its record.
pub fn register_record(driver: &Client<'_>, reg: usize) -> Result<std::ptr::NonNull<TracerHelpers>> {
    let host = driver.host();
    let registrant = Registrant::Driver(driver.session());
    // SAFETY: the address is implausible, or a record's.
    unsafe { host.driver().tracer().register_tracer(host.view(), registrant, reg) }
}

/// Does what a tracer does to enable a location: its id, its flag, its probe's counter; in the process only hints.
pub fn enable(core: usize, location: usize, id: u32) {
    let core = core as *const ProviderCore;
    // SAFETY: a registered provider's core; all places in it are valid while it is registered.
    unsafe {
        let core = core.read();
        let desc = (core.locations as *const NativeLocation).add(location).read();
        let header = &*(core.header as *const ObjectHeader);
        let probe = (desc.probe - core.header - header.probes_offset as usize) / 16;
        let record = (core.locations_enable + location * usize::from(core.enable_location_bytes)) as *mut u32;
        let counter = (core.counters as *mut u32).add(probe);
        if core.is_umod == 0 {
            record.write_volatile(record.read_volatile() | LOCATION_ENABLED);
            record.add(1).write_volatile(id);
            counter.write_volatile(counter.read_volatile() + 1);
        } else {
            let state = &*(core.location_states as *const LocationState).add(location);
            let count = &*(core.probe_states as *const ProbeState).add(probe);
            state.id.store(id, Ordering::SeqCst);
            count.enabled.fetch_add(1, Ordering::SeqCst);
            record.write_volatile(record.read_volatile() | LOCATION_ENABLED);
            counter.write_volatile(count.enabled.load(Ordering::SeqCst));
            state.enabled.store(1, Ordering::SeqCst);
        }
    }
}

/// Memory of the kernel, page-aligned, and within the reach of 32-bit addresses: some samples have no others. It outlives its drop,
/// as the objects of drivers outlive their registration.
pub struct KernelMemory {
    at: *mut u8,
    size: usize,
}

impl KernelMemory {
    pub fn new(bytes: &[u8]) -> Self {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let size = bytes.len().max(1);
        // SAFETY: makes a fresh mapping.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size, prot, flags | libc::MAP_32BIT, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "the host has memory below 4 GiB");
        let at = at.cast::<u8>();
        // SAFETY: as large as the bytes.
        unsafe { at.copy_from(bytes.as_ptr(), bytes.len()) };
        Self { at, size }
    }

    /// Unmaps it: whoever looks at it now crashes.
    pub fn unmap(self) {
        // SAFETY: mapped by `new`.
        unsafe { libc::munmap(self.at.cast(), self.size) };
    }

    pub fn address(&self) -> usize {
        self.at as usize
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn word(&self, offset: usize) -> u32 {
        assert!(offset + 4 <= self.size());
        // SAFETY: inside.
        unsafe { self.at.add(offset).cast::<u32>().read_unaligned() }
    }
}

/// A sample in kernel memory, relocated.
pub struct KernelObject {
    pub memory: KernelMemory,
    pub header: usize,
    pub name: String,
}

impl KernelObject {
    pub fn place(sample: &Sample) -> Self {
        assert_ne!(sample.entry, Entry::UserModule);
        let memory = KernelMemory::new(&sample.memory);
        let mut moved = sample.clone();
        moved.relocate((memory.address() as u64).wrapping_sub(sample.base));
        // SAFETY: as large as the sample.
        unsafe { memory.at.copy_from(moved.memory.as_ptr(), moved.memory.len()) };
        let header = memory.address() + sample.header_offset;
        Self { memory, header, name: sample.module_name.clone() }
    }

    /// A word of the object.
    pub fn word(&self, offset: usize) -> u32 {
        self.memory.word(self.header - self.memory.address() + offset)
    }

    /// Registers it for a sibling driver.
    pub fn register_driver(&self, driver: &Client<'_>) -> Result<()> {
        let tracer = driver.host().driver().tracer();
        // SAFETY: the object is there, and outlives its registration in these tests.
        unsafe { tracer.register_driver(driver.session(), self.header, self.name.as_bytes()) }
    }
}

/// An image as the loader's window shows it, without the loader.
pub struct FakeImage {
    pub view: Box<ImageView>,
}

impl FakeImage {
    pub fn of(object: &KernelObject) -> Self {
        let mut view = Box::new(ImageView::new_zeroed());
        view.base.store(object.memory.address(), Ordering::Relaxed);
        view.image_bytes = object.memory.size() as u32;
        view.name[..object.name.len()].copy_from_slice(object.name.as_bytes());
        Self { view }
    }

    pub fn handle(&self) -> usize {
        (&raw const *self.view) as usize
    }

    /// Does something as the ModuleInit of the image would.
    pub fn in_init<T>(&self, host: &Host, what: impl FnOnce() -> T) -> T {
        host.view().init_image.store(self.handle(), Ordering::Relaxed);
        host.view().init_thread.store(host.os().thread_handle(), Ordering::Relaxed);
        let result = what();
        host.view().init_image.store(0, Ordering::Relaxed);
        host.view().init_thread.store(NIL_HANDLE, Ordering::Relaxed);
        result
    }

    pub fn register(&self, host: &Host, header: usize) -> Result<()> {
        host.driver().tracer_register_module(self.handle(), header)
    }
}

/// A user-mode module in the memory of the current process.
pub struct UserModule {
    pub memory: UserMemory,
    pub strings: UserMemory,
    pub request: r::TracerUmodRegIn,
    pub header_offset: usize,
}

impl UserModule {
    /// Places a sample. Addresses of 32-bit modules stay as they are: those of raw-mode code are in another address space too.
    pub fn place(os: &MockOs, sample: &Sample) -> Self {
        assert_eq!(sample.entry, Entry::UserModule);
        let mut memory = os.user_bytes(&sample.memory);
        let strings = os.user_bytes(&sample.user.strings);
        let delta = (memory.address() as u64).wrapping_sub(sample.base);
        let mut header_address = sample.user.header_address;
        if !sample.name.starts_with("u32") {
            let mut moved = sample.clone();
            moved.relocate(delta);
            memory[..moved.memory.len()].copy_from_slice(&moved.memory);
            header_address = header_address.wrapping_add(delta);
        }
        let in_memory = sample.user.header_r3.wrapping_sub(sample.base) < sample.memory.len() as u64;
        let header_r3 =
            if in_memory { sample.user.header_r3.wrapping_add(delta) } else { sample.user.header_r3 };
        let mut name = [0; 64];
        name[..sample.user.name.len()].copy_from_slice(sample.user.name.as_bytes());
        let request = r::TracerUmodRegIn {
            header_address,
            header_r3: header_r3 as usize,
            strings_r3: strings.address(),
            strings_bytes: sample.user.strings_bytes,
            flags: sample.user.flags,
            name,
            ..zeroed()
        };
        Self { memory, strings, request, header_offset: sample.header_offset }
    }

    pub fn header_r3(&self) -> usize {
        self.request.header_r3
    }

    pub fn register(&self, client: &Client<'_>) -> Result<Status> {
        client.send(&Request::new(Function::TracerUmodReg).input(&self.request)).status()
    }

    pub fn deregister(&self, client: &Client<'_>) -> Result<Status> {
        umod_deregister(client, self.header_r3())
    }

    /// A word of the process's memory, from the header.
    pub fn word(&self, offset: usize) -> u32 {
        let at = self.header_offset + offset;
        u32::from_le_bytes(self.memory[at..at + 4].try_into().expect("four bytes"))
    }

    /// Ids of locations that begin at an offset from the header.
    pub fn ids(&self, locations: usize, record: usize, count: usize) -> Vec<u32> {
        (0..count).map(|index| self.word(locations + index * record + 4)).collect()
    }
}

pub fn umod_deregister(client: &Client<'_>, header_r3: usize) -> Result<Status> {
    let input = r::TracerUmodDeregIn { header_r3, ..zeroed() };
    client.send(&Request::new(Function::TracerUmodDereg).input(&input)).status()
}

pub fn tracer_open(client: &Client<'_>, cookie: u32, arg: usize) -> Result<Status> {
    let input = r::TracerOpenIn { cookie, arg, ..zeroed() };
    client.send(&Request::new(Function::TracerOpen).input(&input)).status()
}

pub fn tracer_close(client: &Client<'_>) -> Result<Status> {
    client.send(&Request::new(Function::TracerClose)).status()
}

/// The status of the request, and the value that travels back in any case.
pub fn tracer_ioctl(client: &Client<'_>, command: usize, arg: usize) -> (Result<Status>, i32) {
    let input = r::TracerIoctlIn { command, arg, ..zeroed() };
    let reply = client.send(&Request::new(Function::TracerIoctl).input(&input).output::<r::TracerIoctlOut>());
    (reply.status(), reply.output::<r::TracerIoctlOut>().return_value)
}

/// A claim of a process that a probe fires.
pub fn context(id: u32, bits: u8) -> UserContext {
    UserContext { id, bits, ..UserContext::new_zeroed() }
}

/// Fires through the request; it always succeeds.
pub fn fire(client: &Client<'_>, id: u32, bits: u8) {
    let input = TracerUmodFireProbeIn { context: context(id, bits), ..TracerUmodFireProbeIn::new_zeroed() };
    let reply = client.send(&fire_request(&input));
    assert_eq!(reply.status(), Ok(Status(0)));
}

fn fire_request(input: &TracerUmodFireProbeIn) -> Request {
    Request::new(Function::TracerUmodFireProbe).input(input)
}

/// Fires as ring-0 does, with interrupts off.
pub fn fire_r0(session: &Session<MockOs>, os: &MockOs, id: u32, bits: u8) {
    let mut context = context(id, bits);
    os.with_irqs_off(|| session.tracer_umod_fire(&mut context));
}

const _: () = assert!(offset_of!(FakeTracer, reg) == 0);
