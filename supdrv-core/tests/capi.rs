//! The seed's shared functions, called as C code calls them.

mod tracer_support;
mod vtg_samples;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering;

use supdrv_core::abi::idc::{IdcHeader, IdcRequest};
use supdrv_core::abi::ioctl::{
    COOKIE_MAGIC, DEVEXT_COOKIE, Encoding, FLAGS_DEFAULT, Function, INITIAL_COOKIE, IOC_VERSION, IOCTL_FLAG,
};
use supdrv_core::abi::published::{DevExtView, SessionView};
use supdrv_core::abi::requests::RequestHeader;
use supdrv_core::capi::{self, tracer};
use supdrv_core::mock::MockOs;
use tracer_support::{Event, FakeImage, FakeTracer, KernelObject, UserModule, context};
use vtg_samples::named;
use zerocopy::{FromZeros, IntoBytes};

/// `cRefs` of something that isn't a session.
const NOT_A_SESSION: u32 = u32::MAX;

/// A device extension that C code owns.
struct C {
    os: MockOs,
    dev_ext: Box<DevExtView>,
}

impl C {
    fn new() -> Self {
        Self::on(MockOs::new())
    }

    fn on(os: MockOs) -> Self {
        let mut c = Self { os, dev_ext: Box::new(DevExtView::new_zeroed()) };
        // SAFETY: the extension stays where it is until it is deleted.
        let status = unsafe { capi::init_dev_ext(&c.os.clone(), c.dev_ext(), size_of::<SessionView>() + 64) };
        assert_eq!(status, 0);
        c
    }

    fn dev_ext(&mut self) -> *mut DevExtView {
        &raw mut *self.dev_ext
    }

    fn open(&mut self, user: bool, unrestricted: bool) -> *mut SessionView {
        let mut session = null_mut();
        // SAFETY: a device extension of this system.
        let status =
            unsafe { capi::create_session::<MockOs>(self.dev_ext(), user, unrestricted, &raw mut session) };
        assert_eq!((status, session.is_null()), (0, false));
        session
    }

    fn close(&self, session: *mut SessionView) {
        // SAFETY: the only reference.
        assert_eq!(unsafe { capi::session_release::<MockOs>(session) }, 0);
    }
}

impl Drop for C {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { capi::delete_dev_ext::<MockOs>(self.dev_ext()) };
        assert_eq!(self.dev_ext.cookie.load(Ordering::Relaxed), 0, "it is gone");
    }
}

#[test]
fn null_is_no_device_extension() {
    let mut session = std::ptr::without_provenance_mut(8);
    // SAFETY: null is what these functions look for.
    unsafe {
        assert_eq!(capi::init_dev_ext(&MockOs::new(), null_mut(), 4096), -2);
        capi::delete_dev_ext::<MockOs>(null_mut());
        assert_eq!(capi::create_session::<MockOs>(null_mut(), true, true, &raw mut session), -2);
        assert!(session.is_null(), "written in any case");
        assert_eq!(capi::idc::<MockOs>(0, null_mut(), null_mut(), null_mut()), -2);
        assert_eq!(tracer::init::<MockOs>(null_mut()), -2);
        tracer::module_unloading::<MockOs>(null_mut(), null_mut());
    }
}

#[test]
fn what_fails_at_init_is_told_and_nothing_is_left() {
    let os = MockOs::new();
    os.fail_nth(1);
    let mut dev_ext = Box::new(DevExtView::new_zeroed());
    // SAFETY: the extension stays where it is.
    let status = unsafe { capi::init_dev_ext(&os, &raw mut *dev_ext, 4096) };
    assert!(status < 0);
    assert_eq!(dev_ext.cookie.load(Ordering::Relaxed), 0);
}

#[test]
fn the_kind_of_a_session_is_what_the_shell_says() {
    let mut c = C::new();
    for (user, unrestricted, expected) in
        [(true, true, true), (true, false, false), (false, true, true), (false, false, true)]
    {
        let session = c.open(user, unrestricted);
        // SAFETY: it is open.
        let view = unsafe { &*session };
        assert_eq!(view.unrestricted != 0, expected, "{user} {unrestricted}");
        c.close(session);
    }
}

#[test]
fn references_are_counted_and_impostors_are_refused() {
    let mut c = C::new();
    let session = c.open(true, true);
    let mut zeros = [0u64; 1024];
    // SAFETY: a session, null, and memory that doesn't look like a session.
    unsafe {
        assert_eq!(capi::session_retain::<MockOs>(session), 2);
        assert_eq!(capi::session_release::<MockOs>(session), 1);
        for bad in [null_mut(), zeros.as_mut_ptr().cast()] {
            assert_eq!(capi::session_retain::<MockOs>(bad), NOT_A_SESSION);
            assert_eq!(capi::session_release::<MockOs>(bad), NOT_A_SESSION);
        }
    }
    c.close(session);
}

#[test]
fn a_device_extension_with_sessions_is_not_deleted() {
    let mut c = C::new();
    let session = c.open(true, true);
    // SAFETY: the shell's mistake that the function looks for.
    unsafe { capi::delete_dev_ext::<MockOs>(c.dev_ext()) };
    assert_eq!(c.dev_ext.cookie.load(Ordering::Relaxed), DEVEXT_COOKIE);
    assert_eq!(c.os.log(), ["supdrv: sessions exist, the driver stays"]);
    c.close(session);
}

/// A COOKIE request in a buffer.
fn cookie_request() -> [u64; 8] {
    let mut words = [0_u64; 8];
    let header = RequestHeader {
        cookie: INITIAL_COOKIE,
        session_cookie: 0,
        in_bytes: 0x30,
        out_bytes: 0x38,
        flags: FLAGS_DEFAULT,
        rc: 0,
    };
    let (head, body) = words.as_mut_bytes().split_at_mut(size_of::<RequestHeader>());
    header.write_to(head).unwrap();
    let (magic, versions) = body.split_at_mut(16);
    magic.copy_from_slice(&COOKIE_MAGIC);
    versions[..8].copy_from_slice([IOC_VERSION; 2].as_bytes());
    words
}

#[test]
fn requests_go_by_the_size_of_their_header_or_of_their_buffer() {
    let mut c = C::new();
    let session = c.open(true, true);
    let code = Encoding::Linux.code(Function::Cookie, 0x38, IOCTL_FLAG) as usize;
    let dev_ext = c.dev_ext();
    let mut zeros = [0u64; 1024];
    // SAFETY: buffers as large as is said; objects that are what they look like.
    unsafe {
        let mut words = cookie_request();
        let packet = words.as_mut_ptr().cast::<RequestHeader>();
        assert_eq!(capi::ioctl::<MockOs>(code, dev_ext, session, packet), 0);
        assert_eq!((*packet).rc, 0);
        assert_eq!(words[3] as u32, DEVEXT_COOKIE, "the reply's cookie");
        let mut words = cookie_request();
        let packet = words.as_mut_ptr().cast::<RequestHeader>();
        assert_eq!(capi::ioctl_sized::<MockOs>(code, dev_ext, session, packet, 0x38), 0);
        let mut words = cookie_request();
        let packet = words.as_mut_ptr().cast::<RequestHeader>();
        assert_ne!(capi::ioctl_sized::<MockOs>(code, dev_ext, session, packet, 0x20), 0, "cut off");
        for (dev_ext, session, packet) in [
            (null_mut(), session, packet),
            (zeros.as_mut_ptr().cast(), session, packet),
            (dev_ext, null_mut(), packet),
            (dev_ext, zeros.as_mut_ptr().cast(), packet),
            (dev_ext, session, null_mut()),
        ] {
            assert_eq!(capi::ioctl::<MockOs>(code, dev_ext, session, packet), -2);
        }
    }
    c.close(session);
}

#[test]
fn fast_calls_need_a_vmmr0_and_a_session() {
    let mut c = C::new();
    let session = c.open(true, true);
    let code = Encoding::Linux.code(Function::FastDoNop, 0, 0) as usize;
    // SAFETY: objects that are what they look like.
    unsafe {
        assert_eq!(capi::ioctl_fast::<MockOs>(code, 0, c.dev_ext(), session), -225, "no VMMR0 is loaded");
        assert_eq!(capi::ioctl_fast::<MockOs>(code, 0, null_mut(), session), -225);
    }
    c.close(session);
}

#[test]
fn sibling_drivers_connect_through_the_idc_entry() {
    let mut c = C::new();
    let mut packet = [0u32; 16];
    // SAFETY: a buffer with more than a header.
    let status = unsafe {
        let header = packet.as_mut_ptr().cast::<IdcHeader>();
        (*header).bytes = 16;
        capi::idc::<MockOs>(IdcRequest::Connect as usize, c.dev_ext(), null_mut(), header)
    };
    assert_eq!(status, -2, "a packet of the wrong size");
}

#[test]
fn tracepoints_are_registered_fired_and_taken_away() {
    let tracer = FakeTracer::new();
    let os = MockOs::new();
    os.set_native_tracer(tracer.address());
    let mut c = C::on(os);
    let session = c.open(true, true);
    let module = UserModule::place(&c.os, &named("u64-valid"));
    let register = tracer::UmodRegister {
        header_r3: module.request.header_r3,
        header_address: module.request.header_address,
        strings_r3: module.request.strings_r3,
        strings_bytes: module.request.strings_bytes,
        name: c"module".as_ptr(),
        flags: module.request.flags,
    };
    let dev_ext = c.dev_ext();
    // SAFETY: objects that are what they look like, strings and contexts.
    unsafe {
        assert_eq!(tracer::init::<MockOs>(dev_ext), 0);
        let unnamed = tracer::UmodRegister { name: null(), ..register };
        assert_eq!(tracer::umod_register::<MockOs>(dev_ext, session, &unnamed), -2);
        assert_eq!(tracer::umod_register::<MockOs>(dev_ext, null_mut(), &register), -2);
        assert_eq!(tracer::umod_register::<MockOs>(dev_ext, session, &register), 0);
        assert_eq!(tracer.names().len(), 1);
        tracer.take_events();
        tracer_support::enable(tracer.seen(0).address, 1, 2);
        let mut fired = context(1, 64);
        tracer::umod_probe_fire::<MockOs>(dev_ext, session, &raw mut fired);
        tracer::umod_probe_fire::<MockOs>(dev_ext, session, null_mut());
        let events = tracer.take_events();
        assert!(matches!(events[..], [Event::Fire { id: 2, bits: 64, .. }]), "{events:?}");
        assert_eq!(tracer::umod_deregister::<MockOs>(dev_ext, session, module.header_r3()), 0);
        assert!(tracer::umod_deregister::<MockOs>(dev_ext, session, module.header_r3()) < 0, "once");
        // What the session forgets to take away goes by the clean-up.
        assert_eq!(tracer::umod_register::<MockOs>(dev_ext, session, &register), 0);
        tracer::cleanup_session::<MockOs>(dev_ext, session);
        assert!(tracer.names().is_empty());
    }
    c.close(session);
}

#[test]
fn a_session_talks_to_the_tracer() {
    let tracer = FakeTracer::new();
    let os = MockOs::new();
    os.set_native_tracer(tracer.address());
    let mut c = C::on(os);
    let session = c.open(true, true);
    let dev_ext = c.dev_ext();
    let mut value = 77;
    // SAFETY: objects that are what they look like.
    unsafe {
        assert!(tracer::ioctl::<MockOs>(dev_ext, session, 1, 2, &raw mut value) < 0);
        assert_eq!(value, 0, "nobody has opened it");
        assert_eq!(tracer::open::<MockOs>(dev_ext, session, 0x1234, 5), 0);
        assert_eq!(tracer::ioctl::<MockOs>(dev_ext, session, 1, 2, &raw mut value), 0);
        tracer::ioctl::<MockOs>(dev_ext, session, 1, 2, null_mut());
        assert_eq!(tracer::close::<MockOs>(dev_ext, session), 0);
        assert!(tracer::close::<MockOs>(dev_ext, session) < 0);
    }
    let opened = tracer.take_events();
    assert_eq!(opened[0], Event::Open { cookie: 0x1234, arg: 5 });
    assert!(matches!(
        opened[1..],
        [Event::Ioctl { command: 1, arg: 2, .. }, Event::Ioctl { .. }, Event::Close { .. }]
    ));
    c.close(session);
}

#[test]
fn tracepoints_of_an_image_go_with_it() {
    let tracer = FakeTracer::new();
    let os = MockOs::new();
    os.set_native_tracer(tracer.address());
    let mut c = C::on(os);
    let object = KernelObject::place(&named("k64-valid"));
    let image = FakeImage::of(&object);
    // SAFETY: not an image of this device extension.
    unsafe { tracer::module_unloading::<MockOs>(c.dev_ext(), image.handle() as *mut c_void) };
    assert!(tracer.names().is_empty(), "what isn't registered isn't missed");
}
