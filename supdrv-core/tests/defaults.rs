//! A system that offers nothing optional: what the seam's defaults answer, and a driver on top of them.

use core::alloc::Layout;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use zerocopy::FromZeros;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::{DevExtView, ImageView, ObjectView};
use supdrv_core::abi::status::*;
use supdrv_core::driver::Driver;
use supdrv_core::mock::MockOs;
use supdrv_core::os::*;

/// The mock, as far as a system has no choice.
#[derive(Clone)]
struct Bare(MockOs);

/// Implements required methods by those of the mock.
macro_rules! required {
    ($trait:ident; $(type $assoc:ident;)* $(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)* $(unsafe fn $uname:ident(&self $(, $uarg:ident: $uty:ty)*) $(-> $uret:ty)?;)*) => {
        impl $trait for Bare {
            $(type $assoc = <MockOs as $trait>::$assoc;)*
            $(fn $name(&self $(, $arg: $ty)*) $(-> $ret)? { self.0.$name($($arg),*) })*
            $(unsafe fn $uname(&self $(, $uarg: $uty)*) $(-> $uret)? {
                // SAFETY: the same conditions.
                unsafe { self.0.$uname($($uarg),*) }
            })*
        }
    };
}

required! { OsHeap;
    fn heap_alloc_zeroed(&self, layout: Layout) -> Option<NonNull<u8>>;
    unsafe fn heap_free(&self, ptr: NonNull<u8>, layout: Layout);
}

required! { OsLock;
    type SpinLock;
    type Mutex;
    fn spinlock_create(&self, class: LockClass) -> Result<Self::SpinLock>;
    fn spinlock_acquire(&self, lock: &Self::SpinLock);
    fn spinlock_acquire_irq(&self, lock: &Self::SpinLock) -> IrqState;
    fn spinlock_handle(&self, lock: &Self::SpinLock) -> usize;
    fn mutex_create(&self, class: LockClass) -> Result<Self::Mutex>;
    fn mutex_acquire(&self, mutex: &Self::Mutex);
    fn mutex_handle(&self, mutex: &Self::Mutex) -> usize;
    unsafe fn spinlock_release(&self, lock: &Self::SpinLock);
    unsafe fn spinlock_release_irq(&self, lock: &Self::SpinLock, state: IrqState);
    unsafe fn mutex_release(&self, mutex: &Self::Mutex);
}

required! { OsMemory;
    type MemObj;
    fn mem_alloc(&self, kind: AllocKind, size_bytes: usize, prot: MemProt) -> Result<Self::MemObj>;
    fn mem_lock_user(&self, address: usize, size_bytes: usize, access: MemProt, process: ProcessHandle) -> Result<Self::MemObj>;
    fn mem_map_kernel(&self, parent: &Self::MemObj, offset_bytes: usize, size_bytes: usize, prot: MemProt) -> Result<Self::MemObj>;
    fn mem_map_user(&self, parent: &Self::MemObj, prot: MemProt, process: ProcessHandle) -> Result<Self::MemObj>;
    fn mem_protect(&self, object: &Self::MemObj, offset_bytes: usize, size_bytes: usize, prot: MemProt) -> Result<()>;
    fn mem_free(&self, object: Self::MemObj) -> core::result::Result<(), (Self::MemObj, Status)>;
    fn mem_address(&self, object: &Self::MemObj) -> usize;
    fn mem_address_user(&self, object: &Self::MemObj) -> usize;
    fn mem_size(&self, object: &Self::MemObj) -> usize;
    fn mem_page_phys(&self, object: &Self::MemObj, index: usize) -> Option<u64>;
    fn mem_handle(&self, object: &Self::MemObj) -> usize;
}

required! { OsUserCopy;
    fn user_copy_from(&self, to: &mut [u8], from: usize) -> Result<()>;
    fn user_copy_to(&self, to: usize, from: &[u8]) -> Result<()>;
}

required! { OsTime;
    fn system_nano_ts(&self) -> u64;
    fn sleep_ms(&self, millis: u32);
}

required! { OsTimer;
    type Timer;
    fn timer_create(&self, spec: &TimerSpec) -> Result<Self::Timer>;
    fn timer_start(&self, timer: &Self::Timer, first_ns: u64) -> Result<()>;
    fn timer_stop(&self, timer: &Self::Timer) -> Result<()>;
    fn timer_handle(&self, timer: &Self::Timer) -> usize;
    fn timer_granularity_ns(&self) -> u32;
}

required! { OsEvent;
    type Event;
    fn event_create(&self, kind: EventKind) -> Result<Self::Event>;
    fn event_signal(&self, event: &Self::Event);
    fn event_reset(&self, event: &Self::Event);
    fn event_wait(&self, event: &Self::Event, timeout: Timeout, mode: WaitMode) -> Result<()>;
    fn event_resolution_ns(&self) -> u32;
}

required! { OsCpu;
    type MpRegistration;
    fn cpu_id(&self) -> u32;
    fn cpu_max_id(&self) -> u32;
    fn cpu_present_count(&self) -> usize;
    fn cpu_possible_set(&self) -> CpuSet;
    fn cpu_online_set(&self) -> CpuSet;
    unsafe fn mp_on_all(&self, worker: MpWorker, context: *mut c_void) -> Result<()>;
    unsafe fn mp_on_cpu(&self, cpu_id: u32, worker: MpWorker, context: *mut c_void) -> Result<()>;
    unsafe fn mp_register(&self, callback: MpEventCallback, context: *mut c_void) -> Result<Self::MpRegistration>;
}

required! { OsIdentity;
    type SessionExt;
    fn session_ext_create(&self, kind: SessionKind) -> Result<Self::SessionExt>;
    fn real_uid(&self) -> u32;
    fn real_gid(&self) -> u32;
    fn process_id(&self) -> u32;
    fn process_handle(&self) -> usize;
    fn thread_handle(&self) -> usize;
    fn preempt_disable(&self) -> PreemptState;
    unsafe fn preempt_restore(&self, state: PreemptState);
}

required! { OsLog;
    fn log_write(&self, text: &[u8]);
}

impl OsImage for Bare {
    type ExecMem = <MockOs as OsImage>::ExecMem;
    type Native = ();

    fn exec_alloc(&self, size_bytes: usize) -> Result<Self::ExecMem> {
        self.0.exec_alloc(size_bytes)
    }

    fn exec_base(&self, memory: &Self::ExecMem) -> NonNull<u8> {
        self.0.exec_base(memory)
    }

    fn exec_load(&self, memory: &Self::ExecMem, bits: &[u8]) -> Result<()> {
        self.0.exec_load(memory, bits)
    }
}

/// Instructions that a process may execute are the real ones.
impl OsArch for Bare {
    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        // SAFETY: the same conditions.
        unsafe { self.0.rdmsr(msr) }
    }

    fn cr0(&self) -> usize {
        self.0.cr0()
    }

    fn cr4(&self) -> usize {
        self.0.cr4()
    }

    fn irq_save(&self) -> usize {
        self.0.irq_save()
    }

    unsafe fn irq_restore(&self, flags: usize) {
        // SAFETY: the same conditions.
        unsafe { self.0.irq_restore(flags) }
    }
}

impl OsHwVirt for Bare {}

impl OsPolicy for Bare {
    const ENCODING: Encoding = Encoding::Linux;
}

impl OsModule for Bare {
    const ERRNO: Errno = Errno::CRuntime;

    fn wall_clock_ns(&self) -> i64 {
        self.0.wall_clock_ns()
    }

    fn preempt_is_enabled(&self) -> bool {
        self.0.preempt_is_enabled()
    }

    fn is_in_interrupt(&self) -> bool {
        self.0.is_in_interrupt()
    }

    fn panic_system(&self) {
        self.0.panic_system();
    }
}

fn with_driver(test: impl FnOnce(&Bare, &Driver<Bare>)) {
    let machine = MockOs::new();
    let os = Bare(machine.clone());
    let mut view = Box::new(DevExtView::new_zeroed());
    // SAFETY: zeroed, and it outlives the driver.
    let driver = unsafe { Driver::init(&os, NonNull::from(&mut *view), 0) }.expect("a driver");
    test(&os, &driver);
    assert!(Driver::delete(driver).is_ok(), "no session is left");
}

#[test]
fn a_driver_works_without_anything_optional() {
    with_driver(|os, driver| {
        assert_eq!(driver.function(b"SUPR0ObjRegister"), None, "there is no ring-0 API");
        let session = driver.create_session(SessionKind::User).expect("a session");
        let time = driver.gip().map(&session).expect("the time page");
        assert_ne!(time.user, 0);
        os.0.advance(1_000_000_000);
        assert_eq!(driver.counters().gip_users, 1);
        drop(session);
        assert_eq!(driver.counters(), Default::default());
    });
}

#[test]
fn policy_hooks_have_no_opinion() {
    let machine = MockOs::new();
    let os = Bare(machine.clone());
    let session = os.session_ext_create(SessionKind::User).unwrap();
    let mut object = ObjectView::new_zeroed();
    os.obj_init_creator(&mut object, &session);
    assert!(os.obj_can_access(&object, &session, None).is_none());
    assert!(!os.forced_async_tsc_mode(&DevExtView::new_zeroed()));
    assert!(!os.refuses_uploaded_code());
    assert!(os.tracer_globals().is_none() && os.native_tracer().is_none() && os.ring0_exports().is_empty());
    assert_eq!(os.resume_suspended_keyboards(), Err(VERR_NOT_IMPLEMENTED));
    assert_eq!(os.enable_vtx(true), Err(VERR_NOT_SUPPORTED));
    assert!(!os.suspend_vtx_on_cpu());
    os.resume_vtx_on_cpu(false);
    os.gip_published(0);
    os.session_closing(0);
}

#[test]
fn images_are_copied_where_there_is_no_native_loader() {
    let machine = MockOs::new();
    let os = Bare(machine.clone());
    let image = ImageView::new_zeroed();
    assert_eq!(os.native_open(&image, b"/a/b.r0").err(), Some(VERR_NOT_SUPPORTED));
    assert_eq!(os.native_validate(&(), &image, 0x1000, &[]), Err(VERR_NOT_SUPPORTED));
    assert_eq!(os.native_load(&(), &image, &[], &mut NativeEntryPoints::default()), Err(VERR_NOT_SUPPORTED));
    os.image_opened(&image);
    let memory = os.exec_alloc(PAGE_SIZE).unwrap();
    assert_eq!(os.exec_allocation(&memory), os.exec_base(&memory).as_ptr() as usize);
}

#[test]
fn cpus_have_their_ids_as_indices_up_to_the_size_of_a_set() {
    let machine = MockOs::with_cpus(4);
    let os = Bare(machine.clone());
    let max = os.cpu_max_id();
    assert_eq!([0, 3, 255].map(|id| os.cpu_set_index(id)), [Some(0), Some(3), Some(255)]);
    assert_eq!([256, NIL_CPU_ID].map(|id| os.cpu_set_index(id)), [None, None]);
    assert_eq!(os.cpu_id_from_index(0), Some(0));
    assert_eq!(os.cpu_id_from_index(max as usize), Some(max));
    assert_eq!([max as usize + 1, usize::MAX].map(|index| os.cpu_id_from_index(index)), [None, None]);
    assert_eq!(os.cpu_array_size(), max as usize + 1);
    assert_eq!(os.tsc_trusted(), None);
    assert_eq!(os.timer_request_granularity(500_000), Err(VERR_NOT_SUPPORTED));
    os.timer_release_granularity(500_000);
}

#[test]
fn a_set_of_cpus_takes_and_gives_back_what_it_has_room_for() {
    let mut set = CpuSet::default();
    for index in [0, 63, 64, 255, 256, usize::MAX] {
        set.insert(index);
    }
    assert!(set.iter().eq([0, 63, 64, 255]) && set.count() == 4);
    set.remove(64);
    set.remove(256);
    assert!(!set.contains(64) && !set.contains(256) && set.count() == 3);
}

unsafe extern "C" fn never(_context: *mut c_void) {
    unreachable!("nothing was started");
}

unsafe extern "C" fn never_hooked(_event: PreemptEvent, _context: *mut c_void) {
    unreachable!("nothing was hooked");
}

#[test]
fn modules_are_told_what_the_system_cannot_do() {
    let machine = MockOs::new();
    let os = Bare(machine.clone());
    assert_eq!(os.heap_alloc_any_context(Layout::new::<u64>()), Err(VERR_NOT_SUPPORTED));
    assert_eq!(os.mem_alloc_phys(PAGE_SIZE, u64::MAX, PAGE_SIZE).err(), Some(VERR_NOT_SUPPORTED));
    assert_eq!(os.mem_alloc_phys_nc(PAGE_SIZE, 1 << 32).err(), Some(VERR_NOT_SUPPORTED), "a limit");
    let pages = os.mem_alloc_phys_nc(2 * PAGE_SIZE, u64::MAX).expect("pages from anywhere");
    assert_eq!((os.mem_size(&pages), os.mem_address(&pages)), (2 * PAGE_SIZE, 0));
    assert!(os.mem_free(pages).is_ok());
    assert_eq!(os.mem_enter_phys(0xe000_0000, PAGE_SIZE, CachePolicy::Mmio).err(), Some(VERR_NOT_SUPPORTED));
    assert_eq!(os.kernel_copy_from(&mut [0; 4], 0x1000), Err(VERR_NOT_SUPPORTED));
    assert_eq!(os.kernel_copy_to(0x1000, &[0; 4]), Err(VERR_NOT_SUPPORTED));
    assert_eq!(os.mp_poke(1), Err(VERR_NOT_SUPPORTED));
    assert!(!os.timer_grants_granularity() && !os.timer_is_high_resolution());
    assert!(!os.preempt_is_pending() && !os.preempt_is_pending_trusty() && os.preempt_is_possible());
    // SAFETY: neither is ever called.
    let (thread, hook) = unsafe {
        (
            os.thread_spawn(never, null_mut(), ThreadPriority::Default, c"none"),
            os.preempt_hook_create(never_hooked, null_mut()),
        )
    };
    assert_eq!((thread, hook), (Err(VERR_NOT_IMPLEMENTED), Err(VERR_NOT_SUPPORTED)));
    for on_no_hook in [Bare::preempt_hook_enable, Bare::preempt_hook_disable, Bare::preempt_hook_destroy] {
        on_no_hook(&os, PreemptHook(0));
    }
    let before = os.system_nano_ts();
    assert_eq!(os.sleep_interruptible_ms(3), Ok(()));
    assert!(os.system_nano_ts() - before >= 3_000_000, "an uninterruptible sleep serves");
}

#[test]
fn memory_for_any_context_goes_back_where_all_memory_goes() {
    let machine = MockOs::new();
    let os = Bare(machine.clone());
    let layout = Layout::new::<[u64; 4]>();
    let block = os.heap_alloc_zeroed(layout).unwrap();
    // SAFETY: a block of this heap, which the default hands on.
    unsafe { os.heap_free_any_context(block, layout) };
    assert_eq!(machine.live_all(), MockOs::new().live_all());
}

#[test]
fn halves_of_the_address_space_belong_to_processes_and_to_the_kernel() {
    let machine = MockOs::new();
    let os = Bare(machine.clone());
    let kernel = 1_usize.rotate_right(1);
    assert!(os.kernel_and_user_differ());
    for (address, is_kernel) in [(0, false), (kernel - 1, false), (kernel, true), (usize::MAX, true)] {
        assert_eq!((os.is_user_address(address), os.is_kernel_address(address)), (!is_kernel, is_kernel));
    }
}

#[test]
fn instructions_are_executed_where_nothing_stands_in_for_them() {
    let machine = MockOs::new();
    let os = Bare(machine.clone());
    let leaf = os.cpuid(0, 0);
    assert_ne!((leaf.eax, leaf.ebx), (0, 0), "a vendor");
    let first = os.tsc();
    assert!((0..1_000_000).any(|_| os.tsc() > first), "it counts");
    let selectors = os.segment_selectors();
    assert_eq!(selectors.cs & 3, 3, "code of a process");
    assert_ne!(selectors.ss, 0);
}

#[test]
fn an_address_is_plausible_if_the_processor_could_have_something_there() {
    let machine = MockOs::new();
    let os = Bare(machine.clone());
    machine.edit_cpus(|cpu| cpu.cr4 &= !(1 << 12));
    assert_eq!(os.virtual_address_bits(), 48);
    for (address, expected) in [
        (0, false),
        (0xfff, false),
        (0x1000, true),
        (0x7fff_ffff_ffff, true),
        (0x8000_0000_0000, false),
        (0xffff_8000_0000_0000, true),
        (0xffff_7fff_ffff_ffff, false),
        (0xffff_ffff_ffff_efff, true),
        (0xffff_ffff_ffff_f000, false),
        (usize::MAX, false),
    ] {
        assert_eq!(os.is_plausible_address(address), expected, "{address:#x}");
    }
    machine.edit_cpus(|cpu| cpu.cr4 |= 1 << 12);
    assert_eq!(os.virtual_address_bits(), 57);
    assert!(os.is_plausible_address(0x8000_0000_0000) && os.is_plausible_address(0xff00_0000_0000_0000));
    assert!(!os.is_plausible_address(0x0100_0000_0000_0000));
}
