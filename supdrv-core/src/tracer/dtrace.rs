//! A host's own DTrace as the tracer: every provider becomes a provider of the host's kernel.
//!
//! The bridge is a tracer like any other: [`registration`] makes its record, which a system offers as
//! [`OsPolicy::native_tracer`](crate::os::OsPolicy::native_tracer). The host's functions are a [`DtraceHost`]; its calls into the bridge are the functions of
//! [`ProviderOps`].
//!
//! # Locks
//!
//! The host holds locks of its own around its calls, and takes the same ones when it is called: none of the callbacks may take the tracer
//! mutex. One word in the tracer's part of a provider, the *gone* flag, keeps them away from objects that are about to go: it is set, under a
//! lock of the bridge's own that is never held across a call of the host, **before** the host is asked to unregister.
//!
//! # Limits
//!
//! Arguments beyond the fifth read as all ones ([`ProviderOps::arg_value`]).

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use zerocopy::FromBytes;

use crate::abi::published::SessionView;
use crate::abi::status::{Result, VERR_INTERNAL_ERROR_3, VERR_NOT_SUPPORTED, VERR_TRY_AGAIN, VINF_SUCCESS};
use crate::abi::tracer::{
    LocationState, ProbeState, ProviderCore, TRACER_MAGIC, TRACER_VERSION, TracerReg, UserContext,
    UserContext32, UserContext64,
};
use crate::abi::vtg::{
    ArgDesc, ArgFlags, ArgListHeader, Attribute, LOCATION_ENABLED, MAX_ARGS, NativeLocation, ObjectHeader,
    ProbeDesc, ProviderDesc,
};

/// Bytes of a name of the host, with its NUL.
const NAME_BYTES: usize = 128;
/// Bytes of a function's name that leave room for a suffix.
const FUNCTION_BYTES: usize = NAME_BYTES - 1 - 16;
/// Frames between a probed function and the host: the routine that fires.
const FRAMES: c_int = 1;
/// Attempts to find a name that isn't taken.
const MAX_DUPLICATES: u32 = 127;

/// Stability of something, as the host numbers it: name, data, class.
pub type HostAttribute = [u8; 3];

/// Describes an argument to the host.
#[derive(Debug)]
#[repr(C)]
pub struct ArgDescription {
    /// The probe.
    pub id: u32,
    /// Number of the argument; −1 if there is none.
    pub index: c_int,
    /// Not used.
    pub mapping: c_int,
    /// Name of its type.
    pub native: [u8; NAME_BYTES],
    /// Not used.
    pub translated: [u8; NAME_BYTES],
}

/// What the host calls, in its order. `null` entries are left out.
#[derive(Debug)]
#[repr(C)]
pub struct ProviderOps {
    /// Asks for probes; class T.
    pub provide: Option<unsafe extern "C" fn(*mut c_void, *const c_void)>,
    /// Not used.
    pub provide_module: usize,
    /// Enables a probe; class T.
    pub enable: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void) -> c_int>,
    /// Disables it; class T.
    pub disable: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void)>,
    /// Not used.
    pub suspend: usize,
    /// Not used.
    pub resume: usize,
    /// Describes an argument; class T.
    pub arg_description: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void, *mut ArgDescription)>,
    /// Value of an argument beyond the fifth; class I.
    pub arg_value: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void, c_int, c_int) -> u64>,
    /// Not used.
    pub user_mode: usize,
    /// A probe goes; class T.
    pub destroy: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void)>,
}

/// The host's functions; they are global in its kernel.
///
/// # Safety
/// They do what the functions of these names do in DTrace, and call the table's functions with the arguments that they were given.
pub unsafe trait DtraceHost: 'static {
    /// A lock of the bridge for this host.
    fn lock() -> &'static spin::Mutex<()>;

    /// `dtrace_register`, for the kernel's privilege and nobody's credentials. The id must be stored before `provide` can be called.
    ///
    /// # Errors
    /// The status of the host's errno.
    fn register(
        name: &CStr,
        attributes: &[HostAttribute; 5],
        ops: &'static ProviderOps,
        arg: *mut c_void,
        id: &AtomicUsize,
    ) -> Result<()>;

    /// `dtrace_invalidate`.
    fn invalidate(id: usize);

    /// `dtrace_unregister`; `false` if a probe is enabled.
    fn unregister(id: usize) -> bool;

    /// `dtrace_probe_create`.
    fn probe_create(
        provider: usize,
        module: &CStr,
        function: &CStr,
        name: &CStr,
        frames: c_int,
        arg: usize,
    ) -> u32;

    /// `dtrace_probe_lookup`; 0 if there is none.
    fn probe_lookup(provider: usize, module: &CStr, function: &CStr, name: &CStr) -> u32;

    /// `dtrace_probe`. Class I.
    fn probe(id: u32, args: [u64; 5]);
}

/// The bridge's part of a provider core.
#[repr(C)]
struct Data {
    id: AtomicUsize,
    probes: AtomicU32,
    gone: AtomicU8,
}

const _: () = assert!(size_of::<Data>() <= size_of::<crate::abi::tracer::TracerData>());

/// The record of the bridge to a host, for the system to keep.
#[must_use]
pub fn registration<H: DtraceHost>() -> TracerReg {
    TracerReg {
        magic: TRACER_MAGIC,
        version: TRACER_VERSION,
        fire_kernel: fire_kernel::<H> as *const () as usize,
        fire_user: fire_user::<H> as *const () as usize,
        open: open as *const () as usize,
        ioctl: ioctl as *const () as usize,
        close: close as *const () as usize,
        provider_register: provider_register::<H> as *const () as usize,
        provider_deregister: provider_deregister::<H> as *const () as usize,
        provider_deregister_zombie: provider_deregister_zombie::<H> as *const () as usize,
        end_magic: TRACER_MAGIC as usize,
    }
}

struct Table<H>(core::marker::PhantomData<H>);

impl<H: DtraceHost> Table<H> {
    const OPS: &'static ProviderOps = &ProviderOps {
        provide: Some(provide::<H>),
        provide_module: 0,
        enable: Some(enable::<H>),
        disable: Some(disable::<H>),
        suspend: 0,
        resume: 0,
        arg_description: Some(arg_description::<H>),
        arg_value: Some(arg_value),
        user_mode: 0,
        destroy: Some(destroy::<H>),
    };
}

/// A provider whose object is there.
struct Provider {
    core: ProviderCore,
    header: ObjectHeader,
    index: u16,
}

/// A location of a provider.
struct Location {
    record: NativeLocation,
    probe: ProbeDesc,
    probe_index: usize,
}

fn data<'a>(core: *mut c_void) -> &'a Data {
    // SAFETY: a provider's core, whose first part is the tracer's own; it was zero when the bridge got it.
    unsafe { &*core.cast::<Data>() }
}

impl Provider {
    /// # Safety
    /// The core of a registered provider that isn't gone, as long as the result is used.
    unsafe fn new(core: *mut c_void) -> Option<Self> {
        // SAFETY: the driver's fields don't change while the provider is registered (condition of the function).
        let core = unsafe { core.cast::<ProviderCore>().read_volatile() };
        let header = NonNull::new(core::ptr::with_exposed_provenance_mut::<ObjectHeader>(core.header))?;
        // SAFETY: a validated object's header (condition of the function).
        let header = unsafe { header.read_unaligned() };
        let offset = core.desc.wrapping_sub(core.header).wrapping_sub(header.providers_offset as usize);
        Some(Self { core, header, index: (offset / size_of::<ProviderDesc>()) as u16 })
    }

    fn record<T: FromBytes>(&self, offset: u32, index: usize) -> Option<T> {
        let at = self.core.header.checked_add(offset as usize)?.checked_add(index * size_of::<T>())?;
        let at = core::ptr::with_exposed_provenance::<T>(at);
        // SAFETY: callers stay inside areas of a validated object (condition of `new`).
        Some(unsafe { at.read_unaligned() })
    }

    /// A string of the object; validated, thus terminated.
    fn string(&self, offset: u32) -> &CStr {
        let at = self.core.header + self.header.strings_offset as usize + offset as usize;
        // SAFETY: inside the string table of a validated object (condition of `new`).
        unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance::<c_char>(at)) }
    }

    fn name(&self, address: usize) -> &CStr {
        // SAFETY: a name in the core, or of a function of a validated object: terminated (condition of `new`).
        unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance::<c_char>(address)) }
    }

    fn location_count(&self) -> usize {
        self.header.locations_bytes as usize / size_of::<NativeLocation>()
    }

    /// A location, if it belongs to this provider.
    fn location(&self, index: usize) -> Option<Location> {
        if index >= self.location_count() {
            return None;
        }
        let at = self.core.locations + index * size_of::<NativeLocation>();
        let at = core::ptr::with_exposed_provenance::<NativeLocation>(at);
        // SAFETY: inside the locations of a validated object (condition of `new`).
        let record = unsafe { at.read_unaligned() };
        let first = self.core.header + self.header.probes_offset as usize;
        let probe_index = record.probe.wrapping_sub(first) / size_of::<ProbeDesc>();
        if probe_index >= self.header.probes_bytes as usize / size_of::<ProbeDesc>() {
            return None;
        }
        let probe: ProbeDesc = self.record(self.header.probes_offset, probe_index)?;
        (probe.provider == self.index).then_some(Location { record, probe, probe_index })
    }

    fn word(&self, address: usize) -> &AtomicU32 {
        // SAFETY: an aligned word of a location or counter of a validated object, which is written by atomics (condition of `new`).
        unsafe { AtomicU32::from_ptr(core::ptr::with_exposed_provenance_mut(address)) }
    }

    /// First word of the record whose flag the probed code looks at.
    fn flag(&self, index: usize) -> &AtomicU32 {
        self.word(self.core.locations_enable + index * usize::from(self.core.enable_location_bytes))
    }

    fn state(&self, index: usize) -> Option<&LocationState> {
        let states =
            NonNull::new(core::ptr::with_exposed_provenance_mut::<LocationState>(self.core.location_states))?;
        // SAFETY: user-mode modules have one per location (condition of `new`).
        Some(unsafe { states.add(index).as_ref() })
    }

    fn probe_state(&self, index: usize) -> Option<&ProbeState> {
        let states =
            NonNull::new(core::ptr::with_exposed_provenance_mut::<ProbeState>(self.core.probe_states))?;
        // SAFETY: user-mode modules have one per probe (condition of `new`).
        Some(unsafe { states.add(index).as_ref() })
    }

    /// Where the host's id of a location is kept.
    fn id(&self, index: usize) -> &AtomicU32 {
        match self.state(index) {
            Some(state) => &state.id,
            None => self.word(self.core.locations + index * size_of::<NativeLocation>() + 4),
        }
    }

    /// Enables or disables a location.
    fn set_enabled(&self, index: usize, enabled: bool) {
        let Some(location) = self.location(index) else { return };
        let counter = self.word(self.core.counters + 4 * location.probe_index);
        let mark = |flag: &AtomicU32| {
            let old = if enabled {
                flag.fetch_or(LOCATION_ENABLED, Ordering::AcqRel)
            } else {
                flag.fetch_and(!LOCATION_ENABLED, Ordering::AcqRel)
            };
            (old & LOCATION_ENABLED != 0) != enabled
        };
        let step = |count: &AtomicU32| {
            if enabled {
                count.fetch_add(1, Ordering::AcqRel);
            } else {
                count.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let (Some(state), Some(probe)) = (self.state(index), self.probe_state(location.probe_index)) else {
            if mark(self.flag(index)) {
                step(counter);
            }
            return;
        };
        if (state.enabled.swap(u8::from(enabled), Ordering::AcqRel) != 0) != enabled {
            step(&probe.enabled);
        }
        // The process gets hints, whatever it had made of the old ones.
        mark(self.flag(index));
        counter.store(probe.enabled.load(Ordering::Acquire), Ordering::Release);
    }

    /// An argument of a probe.
    fn argument(&self, probe: &ProbeDesc, index: usize) -> Option<ArgDesc> {
        let list = self.header.arg_lists_offset + probe.arg_list;
        let head: ArgListHeader = self.record(list, 0)?;
        if index >= usize::from(head.count.min(MAX_ARGS)) {
            return None;
        }
        self.record(list + size_of::<ArgListHeader>() as u32, index)
    }
}

/// Text of the host, terminated and cut where it must be.
struct Text {
    bytes: [u8; NAME_BYTES],
    len: usize,
}

impl Text {
    fn new(text: &[u8], max: usize) -> Self {
        let mut new = Self { bytes: [0; NAME_BYTES], len: 0 };
        text.iter().take(max).for_each(|byte| new.push(*byte));
        new
    }

    fn push(&mut self, byte: u8) {
        // The last byte stays the NUL.
        if self.len + 1 < NAME_BYTES
            && let Some(place) = self.bytes.get_mut(self.len)
        {
            *place = byte;
            self.len += 1;
        }
    }

    fn push_number(&mut self, number: u32) {
        self.push(b'-');
        let mut divisor = 1_000_000_000;
        while divisor > 1 && number < divisor {
            divisor /= 10;
        }
        while divisor > 0 {
            self.push(b'0' + (number / divisor % 10) as u8);
            divisor /= 10;
        }
    }

    fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// The name of a function in what the compiler said of it: `int Class::method(int)` is `Class::method`.
fn function_name(text: &[u8]) -> &[u8] {
    let Some(end) = text.iter().position(|byte| *byte == b'(') else { return text };
    let head = text.get(..end).unwrap_or(&[]);
    let last = head.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let head = head.get(..last).unwrap_or(&[]);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    let start = head.iter().rposition(|byte| !is_name(byte)).map_or(0, |before| before + 1);
    match head.get(start..) {
        None | Some([]) => b"unknown",
        Some(name) => name,
    }
}

fn attribute(attribute: Attribute) -> HostAttribute {
    [attribute.code, attribute.data, attribute.class].map(|value| value.wrapping_sub(1))
}

fn rc(result: Result<()>) -> i32 {
    crate::abi::Status::of(result).0
}

unsafe extern "C" fn open(
    _reg: *const TracerReg,
    _session: *mut SessionView,
    _cookie: u32,
    _arg: usize,
    data: *mut usize,
) -> i32 {
    // SAFETY: the driver's variable.
    unsafe { data.write(0) };
    VERR_NOT_SUPPORTED.0
}

unsafe extern "C" fn ioctl(
    _reg: *const TracerReg,
    _session: *mut SessionView,
    _data: usize,
    _command: usize,
    _arg: usize,
    _result: *mut i32,
) -> i32 {
    VERR_NOT_SUPPORTED.0
}

unsafe extern "C" fn close(_reg: *const TracerReg, _session: *mut SessionView, _data: usize) {}

unsafe extern "C" fn provider_register<H: DtraceHost>(
    _reg: *const TracerReg,
    core: *mut ProviderCore,
) -> i32 {
    let arg = core.cast::<c_void>();
    // SAFETY: the driver registers a provider whose object is there.
    let Some(provider) = (unsafe { Provider::new(arg) }) else { return VERR_INTERNAL_ERROR_3.0 };
    let data = data(arg);
    let desc: Option<ProviderDesc> = provider.record(provider.header.providers_offset, provider.index.into());
    let (Some(desc), 0) = (desc, data.id.load(Ordering::Acquire)) else { return VERR_INTERNAL_ERROR_3.0 };
    let attributes =
        [desc.attr_self, desc.attr_modules, desc.attr_functions, desc.attr_names, desc.attr_args];
    let result = H::register(
        provider.name(provider.core.name),
        &attributes.map(attribute),
        Table::<H>::OPS,
        arg,
        &data.id,
    );
    if result.is_err() {
        data.id.store(0, Ordering::Release);
    }
    rc(result)
}

fn forget<H: DtraceHost>(core: *mut ProviderCore, invalidate: bool) -> i32 {
    let data = data(core.cast());
    let id = data.id.load(Ordering::Acquire);
    if id == 0 {
        return VERR_INTERNAL_ERROR_3.0;
    }
    {
        // Whoever holds the lock still has the object; nobody gets at it afterwards.
        let _lock = H::lock().lock();
        data.gone.store(1, Ordering::Release);
    }
    if invalidate {
        H::invalidate(id);
    }
    if !H::unregister(id) {
        return VERR_TRY_AGAIN.0;
    }
    data.id.store(0, Ordering::Release);
    data.gone.store(0, Ordering::Release);
    VINF_SUCCESS.0
}

unsafe extern "C" fn provider_deregister<H: DtraceHost>(
    _reg: *const TracerReg,
    core: *mut ProviderCore,
) -> i32 {
    forget::<H>(core, true)
}

unsafe extern "C" fn provider_deregister_zombie<H: DtraceHost>(
    _reg: *const TracerReg,
    core: *mut ProviderCore,
) -> i32 {
    forget::<H>(core, false)
}

unsafe extern "C" fn provide<H: DtraceHost>(arg: *mut c_void, desc: *const c_void) {
    let data = data(arg);
    // The host serialises this with unregistering by its provider lock, which is asked for after the flag was set.
    if !desc.is_null() || data.gone.load(Ordering::Acquire) != 0 {
        return;
    }
    // SAFETY: registered, and not gone.
    let Some(provider) = (unsafe { Provider::new(arg) }) else { return };
    let id = data.id.load(Ordering::Acquire);
    let module = provider.name(provider.core.module_name);
    for index in 0..provider.location_count() {
        let Some(location) = provider.location(index) else { continue };
        if provider.id(index).load(Ordering::Acquire) != 0 {
            continue;
        }
        let name = provider.string(location.probe.name);
        let base = function_name(provider.name(location.record.function).to_bytes());
        let free = (0..=MAX_DUPLICATES).find_map(|attempt| {
            let mut text = Text::new(base, FUNCTION_BYTES);
            if attempt > 0 {
                text.push_number(location.record.line & !LOCATION_ENABLED);
            }
            if attempt > 1 {
                text.push_number(attempt);
            }
            (H::probe_lookup(id, module, text.as_c(), name) == 0).then_some(text)
        });
        let Some(function) = free else { continue };
        let probe = H::probe_create(id, module, function.as_c(), name, FRAMES, index);
        provider.id(index).store(probe, Ordering::Release);
        data.probes.fetch_add(1, Ordering::AcqRel);
    }
}

/// Does something with a provider that isn't gone, and can't go meanwhile.
fn with_object<H: DtraceHost>(arg: *mut c_void, what: impl FnOnce(&Provider)) {
    let _lock = H::lock().lock();
    if data(arg).gone.load(Ordering::Acquire) != 0 {
        return;
    }
    // SAFETY: registered, and not gone while the lock is held.
    if let Some(provider) = unsafe { Provider::new(arg) } {
        what(&provider);
    }
}

unsafe extern "C" fn enable<H: DtraceHost>(arg: *mut c_void, _id: u32, index: *mut c_void) -> c_int {
    with_object::<H>(arg, |provider| provider.set_enabled(index as usize, true));
    0
}

unsafe extern "C" fn disable<H: DtraceHost>(arg: *mut c_void, _id: u32, index: *mut c_void) {
    with_object::<H>(arg, |provider| provider.set_enabled(index as usize, false));
}

unsafe extern "C" fn arg_description<H: DtraceHost>(
    arg: *mut c_void,
    _id: u32,
    index: *mut c_void,
    description: *mut ArgDescription,
) {
    // SAFETY: the host's own.
    let description = unsafe { &mut *description };
    let number = usize::try_from(description.index).ok();
    let wanted = description.index;
    description.index = -1;
    with_object::<H>(arg, |provider| {
        let Some(location) = provider.location(index as usize) else { return };
        let argument = number.and_then(|number| provider.argument(&location.probe, number));
        let Some(argument) = argument else { return };
        let text = provider.string(argument.type_name).to_bytes_with_nul();
        if let Some(to) = description.native.get_mut(..text.len()) {
            for (to, from) in to.iter_mut().zip(text) {
                *to = *from;
            }
            description.index = wanted;
        }
    });
}

unsafe extern "C" fn arg_value(
    _arg: *mut c_void,
    _id: u32,
    _index: *mut c_void,
    _number: c_int,
    _frames: c_int,
) -> u64 {
    u64::MAX
}

unsafe extern "C" fn destroy<H: DtraceHost>(arg: *mut c_void, _id: u32, index: *mut c_void) {
    data(arg).probes.fetch_sub(1, Ordering::AcqRel);
    with_object::<H>(arg, |provider| {
        if provider.location(index as usize).is_some() {
            provider.id(index as usize).store(0, Ordering::Release);
        }
    });
}

unsafe extern "C" fn fire_kernel<H: DtraceHost>(
    location: *const NativeLocation,
    a0: usize,
    a1: usize,
    a2: usize,
    a3: usize,
    a4: usize,
) {
    // SAFETY: the probed code passes its location.
    let Some(location) = (unsafe { location.as_ref() }) else { return };
    // The id goes when the probe does, also under somebody who has already seen the flag.
    if location.id != 0 {
        H::probe(location.id, [a0, a1, a2, a3, a4].map(|arg| arg as u64));
    }
}

/// The first five arguments among the words of 32-bit code, large ones being two words each.
fn combined(words: &[u32; 20], is_large: impl Fn(usize) -> bool) -> [u64; 5] {
    let mut slots = words.iter().map(|word| u64::from(*word));
    let mut next = || slots.next().unwrap_or(u64::MAX);
    core::array::from_fn(|index| {
        let low = next();
        if is_large(index) { low | next() << 32 } else { low }
    })
}

unsafe extern "C" fn fire_user<H: DtraceHost>(
    _reg: *const TracerReg,
    _session: *mut SessionView,
    context: *const UserContext,
    header: *const ObjectHeader,
    location: *const NativeLocation,
) {
    // SAFETY: the driver's, valid during the call.
    let (context, location) = unsafe { (&*context, &*location) };
    if context.id == 0 {
        return;
    }
    let bytes = zerocopy::IntoBytes::as_bytes(context);
    let args = if context.bits == 32 {
        let Ok(words) = UserContext32::read_from_bytes(bytes) else { return };
        // SAFETY: the header of the driver's copy.
        let raw = unsafe { header.read_unaligned() };
        let core = ProviderCore { header: header.expose_provenance(), ..zerocopy::FromZeros::new_zeroed() };
        let provider = Provider { core, header: raw, index: 0 };
        let probe = location.probe.wrapping_sub(provider.core.header + raw.probes_offset as usize);
        let probe: Option<ProbeDesc> = provider.record(raw.probes_offset, probe / size_of::<ProbeDesc>());
        let is_large = |index| {
            let argument = probe.as_ref().and_then(|probe| provider.argument(probe, index));
            argument.is_some_and(|argument| {
                let flags = ArgFlags::from_bits_retain(argument.flags);
                flags.contains(ArgFlags::FIXED_SIZED) && argument.flags & ArgFlags::SIZE.bits() > 4
            })
        };
        combined(&words.args, is_large)
    } else {
        let Ok(words) = UserContext64::read_from_bytes(bytes) else { return };
        let [a0, a1, a2, a3, a4, ..] = words.args;
        [a0, a1, a2, a3, a4]
    };
    H::probe(context.id, args);
}
