//! `SUPR0Tracer*`: what modules and sibling drivers call, and the jump of kernel probes.

use std::arch::{asm, naked_asm};
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use supdrv_core::abi::published::SessionView;
use supdrv_core::abi::status::*;
use supdrv_core::abi::tracer::{TracerHelpers, UserContext};
use supdrv_core::mock::Host;
use supdrv_core::mock::client::Image;
use supdrv_core::os::SessionKind;
use supdrv_core::ring0::Ring0;

use crate::harness::{Machine, address, exports::Runtime};
use crate::import;
use crate::tracer_support::{Event, FakeTracer, KernelObject, UserModule, context, enable};
use crate::vtg_samples::named;

type Session = *mut SessionView;
type Helpers = *const TracerHelpers;

import! {
    fn SUPR0TracerRegisterDrv(session: Session, header: usize, name: *const i8) -> i32;
    fn SUPR0TracerDeregisterDrv(session: Session);
    fn SUPR0TracerRegisterModule(module: *mut c_void, header: usize) -> i32;
    fn SUPR0TracerRegisterImpl(module: *mut c_void, session: Session, reg: usize, helpers: *mut Helpers) -> i32;
    fn SUPR0TracerDeregisterImpl(module: *mut c_void, session: Session) -> i32;
    fn SUPR0TracerUmodProbeFire(session: Session, context: *mut UserContext);
    fn SUPR0TracerFireProbe(
        location: usize, a0: usize, a1: usize, a2: usize, a3: usize, a4: usize, a5: usize, a6: usize, a7: usize, a8: usize, a9: usize, a10: usize
    );
}

fn variable() -> usize {
    Runtime::tracer_globals().fire_kernel.load(Ordering::SeqCst) as usize
}

fn stub() -> usize {
    Runtime::tracer_globals().stub as *const () as usize
}

/// A machine whose driver knows the variables.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.set_tracer_globals(Runtime::tracer_globals());
    machine
}

/// A tracer with another callback for kernel probes.
fn tracer_with(fire_kernel: *const ()) -> usize {
    let mut reg = FakeTracer::new().reg;
    reg.fire_kernel = fire_kernel as usize;
    Box::leak(Box::new(reg)) as *const _ as usize
}

static SEEN: [AtomicUsize; 12] = [const { AtomicUsize::new(0) }; 12];

unsafe extern "C" fn recorder(
    location: usize,
    a0: usize,
    a1: usize,
    a2: usize,
    a3: usize,
    a4: usize,
    a5: usize,
    a6: usize,
    a7: usize,
    a8: usize,
    a9: usize,
    a10: usize,
) {
    let all = [location, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10];
    for (to, value) in SEEN.iter().zip(all) {
        to.store(value, Ordering::SeqCst);
    }
}

#[test]
fn a_kernel_probe_passes_all_its_arguments_to_the_tracer_and_nothing_without_one() {
    let machine = machine();
    let host = Host::on(&machine).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let session = driver.session().view().as_ptr();
    assert_eq!(variable(), stub());
    let fire = || {
        SEEN.iter().for_each(|seen| seen.store(0, Ordering::SeqCst));
        SUPR0TracerFireProbe(100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
        SEEN.each_ref().map(|seen| seen.load(Ordering::SeqCst))
    };
    assert_eq!(fire(), [0; 12], "nobody listens");
    let mut helpers = null();
    let reg = tracer_with(recorder as *const ());
    assert_eq!(SUPR0TracerRegisterImpl(null_mut(), session, reg, &raw mut helpers), 0);
    assert_eq!(variable(), recorder as *const () as usize);
    assert_eq!(fire(), [100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(SUPR0TracerDeregisterImpl(null_mut(), session), 0);
    assert_eq!(variable(), stub());
    assert_eq!(fire(), [0; 12], "nobody listens any more");
}

static STACK: AtomicUsize = AtomicUsize::new(0);

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn note_stack() {
    naked_asm!("mov [rip + {stack}], rsp", "ret", stack = sym STACK)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_jump_adds_no_frame_and_keeps_all_registers_but_rax() {
    let machine = machine();
    let host = Host::on(&machine).unwrap();
    let driver = host.open_as(SessionKind::Kernel).unwrap();
    let session = driver.session().view().as_ptr();
    let call = |target: usize| {
        let (caller, changed): (usize, usize);
        // SAFETY: the callee keeps everything, which is what is tested; all registers are given up to the assembly all the same.
        unsafe {
            asm!(
                "mov {caller}, rsp",
                "mov rcx, 0x11", "mov rdx, 0x22", "mov rsi, 0x33", "mov rdi, 0x44", "mov r8, 0x55", "mov r9, 0x66",
                "mov r10, 0x77", "mov r11, 0x88", "mov r12, 0x99", "mov r13, 0xaa",
                "call rax",
                "xor eax, eax",
                "sub rcx, 0x11", "or rax, rcx", "sub rdx, 0x22", "or rax, rdx", "sub rsi, 0x33", "or rax, rsi",
                "sub rdi, 0x44", "or rax, rdi", "sub r8, 0x55", "or rax, r8", "sub r9, 0x66", "or rax, r9",
                "sub r10, 0x77", "or rax, r10", "sub r11, 0x88", "or rax, r11", "sub r12, 0x99", "or rax, r12",
                "sub r13, 0xaa", "or rax, r13",
                caller = out(reg) caller,
                inout("rax") target => changed,
                out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _, out("r8") _, out("r9") _,
                out("r10") _, out("r11") _, out("r12") _, out("r13") _,
            );
        }
        assert_eq!(changed, 0, "a register was changed");
        caller
    };
    call(stub());
    let fire = address("SUPR0TracerFireProbe");
    call(fire);
    let mut helpers = null();
    let reg = tracer_with(note_stack as *const ());
    assert_eq!(SUPR0TracerRegisterImpl(null_mut(), session, reg, &raw mut helpers), 0);
    let caller = call(fire);
    assert_eq!(STACK.load(Ordering::SeqCst), caller - 8, "the return address, and nothing else");
    assert!(fire.is_multiple_of(4) && stub().is_multiple_of(4));
}

#[test]
fn arguments_are_checked_in_order() {
    let machine = machine();
    let host = Host::on(&machine).unwrap();
    let (driver, user) = (host.open_as(SessionKind::Kernel).unwrap(), host.open());
    let (session, user_session) = (driver.session().view().as_ptr(), user.session().view().as_ptr());
    let object = KernelObject::place(&named("d64-valid"));
    let tracer = FakeTracer::new().address();
    let mut helpers: Helpers = std::ptr::dangling();
    let module = 0x1000_0000 as *mut c_void;
    {
        let drv = |session, header, name| SUPR0TracerRegisterDrv(session, header, name);
        assert_eq!(drv(null_mut(), object.header, c"name".as_ptr()), VERR_INVALID_PARAMETER.0);
        assert_eq!(drv(session, object.header, null()), VERR_INVALID_POINTER.0);
        assert_eq!(drv(session, 0, c"name".as_ptr()), VERR_INVALID_POINTER.0);
        assert_eq!(drv(user_session, object.header, c"name".as_ptr()), VERR_INVALID_PARAMETER.0);
        assert_eq!(drv(session, object.header, c"name".as_ptr()), 0);
        assert_eq!(drv(session, object.header, c"name".as_ptr()), VERR_SUPDRV_VTG_ALREADY_REGISTERED.0);
        SUPR0TracerDeregisterDrv(null_mut());
        SUPR0TracerDeregisterDrv(user_session);
        assert_eq!(host.driver().tracer().counters().providers, 1);
        SUPR0TracerDeregisterDrv(session);
        assert_eq!(host.driver().tracer().counters().providers, 0);

        assert_eq!(SUPR0TracerRegisterModule(null_mut(), object.header), VERR_INVALID_HANDLE.0);
        assert_eq!(SUPR0TracerRegisterModule(module, 0), VERR_INVALID_POINTER.0);
        assert_eq!(SUPR0TracerRegisterModule(module, object.header), VERR_WRONG_ORDER.0);

        let mut register = |module, session, reg| {
            helpers = std::ptr::dangling();
            let status = SUPR0TracerRegisterImpl(module, session, reg, &raw mut helpers);
            assert!(status == 0 || helpers.is_null());
            status
        };
        assert_eq!(register(null_mut(), session, 0), VERR_INVALID_HANDLE.0);
        assert_eq!(register(4 as *mut c_void, null_mut(), tracer), VERR_INVALID_POINTER.0);
        assert_eq!(register(module, session, tracer), VERR_INVALID_PARAMETER.0);
        assert_eq!(register(module, null_mut(), tracer), VERR_WRONG_ORDER.0);
        assert_eq!(register(null_mut(), null_mut(), tracer), VERR_INVALID_PARAMETER.0);
        assert_eq!(register(null_mut(), user_session, tracer), VERR_INVALID_PARAMETER.0);
        assert_eq!(SUPR0TracerRegisterImpl(null_mut(), session, tracer, null_mut()), VERR_INVALID_POINTER.0);
        assert_eq!(register(null_mut(), session, tracer), 0);
        assert_eq!(helpers as usize, (&raw const host.view().tracer_helpers) as usize);
        assert_eq!(SUPR0TracerDeregisterImpl(module, session), VERR_INVALID_PARAMETER.0);
        assert_eq!(SUPR0TracerDeregisterImpl(module, null_mut()), VERR_SUPDRV_TRACER_NOT_REGISTERED.0);
        assert_eq!(SUPR0TracerDeregisterImpl(null_mut(), user_session), VERR_INVALID_PARAMETER.0);
        assert_eq!(SUPR0TracerDeregisterImpl(null_mut(), session), 0);
    }
}

#[test]
fn ring_0_fires_probes_of_processes_with_interrupts_off() {
    let machine = machine();
    let host = Host::on(&machine).unwrap();
    let (driver, client) = (host.open_as(SessionKind::Kernel).unwrap(), host.open());
    let tracer = FakeTracer::new();
    tracer.register(&driver).unwrap();
    let module = UserModule::place(&machine, &named("u32-valid"));
    module.register(&client).unwrap();
    enable(tracer.seen(0).address, 2, 99);
    tracer.take_events();
    let mut fired = context(2, 32);
    let view = client.session().view().as_ptr();
    machine.with_irqs_off(|| {
        SUPR0TracerUmodProbeFire(view, &raw mut fired);
        SUPR0TracerUmodProbeFire(null_mut(), &raw mut fired);
        SUPR0TracerUmodProbeFire(view, null_mut());
    });
    assert_eq!(tracer.take_events(), [Event::Fire { id: 99, bits: 32, line: 300 }]);
    assert_eq!(fired.id, 99);
}

/// What the next ModuleInit does: registers its object, and a tracer if this isn't 0; and what it returns.
static INIT_TRACER: AtomicUsize = AtomicUsize::new(0);
static INIT_RESULT: AtomicI32 = AtomicI32::new(0);
/// Statuses of the two registrations.
static INIT_STATUS: [AtomicI32; 2] = [const { AtomicI32::new(0) }; 2];
static INIT_HEADER: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn module_init(module: *mut c_void) -> i32 {
    let mut helpers = null();
    let tracer = INIT_TRACER.load(Ordering::SeqCst);
    if tracer != 0 {
        let status = SUPR0TracerRegisterImpl(module, null_mut(), tracer, &raw mut helpers);
        INIT_STATUS[0].store(status, Ordering::SeqCst);
    }
    let status = SUPR0TracerRegisterModule(module, INIT_HEADER.load(Ordering::SeqCst));
    INIT_STATUS[1].store(status, Ordering::SeqCst);
    INIT_RESULT.load(Ordering::SeqCst)
}

/// An image of real machine code with a VTG object, whose ModuleInit jumps to the function above.
#[cfg(target_arch = "x86_64")]
fn image(base: u64) -> Image {
    let mut sample = named("k64-valid");
    sample.relocate(base.wrapping_sub(sample.base));
    let init = sample.memory.len() as u32;
    let mut bits = sample.memory;
    bits.extend([0x48, 0xb8]);
    bits.extend((module_init as *const () as u64).to_le_bytes());
    bits.extend([0xff, 0xe0]);
    INIT_HEADER.store(base as usize + sample.header_offset, Ordering::SeqCst);
    Image { init: Some(init), ..Image::new("smpmod.r0", &bits) }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_loaded_module_registers_its_tracepoints_and_takes_them_along() {
    let machine = machine();
    let host = Host::on(&machine).unwrap();
    let client = host.open();
    let tracer = FakeTracer::new();
    let base = client.ldr_open(&image(0), "").unwrap().base;
    let image = image(base as u64);
    let counters = || host.driver().tracer().counters();
    let statuses = || INIT_STATUS.each_ref().map(|status| status.swap(0, Ordering::SeqCst));

    // An init that fails leaves nothing, also no tracer.
    INIT_TRACER.store(tracer.address(), Ordering::SeqCst);
    INIT_RESULT.store(VERR_NO_MEMORY.0, Ordering::SeqCst);
    assert_eq!(client.ldr_load(base, &image), Err(VERR_NO_MEMORY));
    assert_eq!(statuses(), [0, 0]);
    assert_eq!((counters().providers, host.driver().tracer().is_present()), (0, false));
    assert_eq!(variable(), stub());

    // The second time it works; the module is a tracer with tracepoints of its own.
    INIT_RESULT.store(0, Ordering::SeqCst);
    assert_eq!(client.ldr_load(base, &image), Ok(()));
    assert_eq!(statuses(), [0, 0]);
    assert_eq!((counters().providers, host.driver().tracer().is_present()), (1, true));
    assert_eq!(variable(), tracer.reg.fire_kernel);
    assert_eq!(tracer.seen(0).module, "smpmod.r0");
    let core = tracer.seen(0).core;
    assert_eq!(core.header, INIT_HEADER.load(Ordering::SeqCst));

    // Unloading it takes both away before its memory goes.
    tracer.take_events();
    assert_eq!(client.ldr_free(base), Ok(()));
    assert_eq!(tracer.take_events(), [Event::Deregister("vbxtest".into())]);
    assert_eq!((counters().providers, host.driver().tracer().is_present()), (0, false));
    assert_eq!(variable(), stub());
}

#[test]
fn the_end_of_the_driver_takes_the_variables_back() {
    let machine = machine();
    let globals = Runtime::tracer_globals();
    let tracer = FakeTracer::new();
    machine.set_native_tracer(tracer.address());
    let mut host = Host::on(&machine).unwrap();
    assert_eq!(variable(), tracer.reg.fire_kernel, "the system's own tracer");
    let view = host.view() as *const _ as usize;
    assert_eq!(globals.dev_ext.load(Ordering::SeqCst) as usize, view);
    host.delete().unwrap();
    assert_eq!((variable(), globals.dev_ext.load(Ordering::SeqCst)), (stub(), null_mut()));
}
