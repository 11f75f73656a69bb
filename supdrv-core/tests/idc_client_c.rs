//! The C client library of the inter-driver interface, compiled as it is and loaded into this process, against a driver here.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicU32};

use supdrv_core::abi::idc::{ConnectOut, IDC_VERSION, IdcHandle, IdcHeader, IdcRequest};
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::published::{Factory, SessionView};
use supdrv_core::abi::status::{
    VERR_ALREADY_EXISTS, VERR_INVALID_HANDLE, VERR_INVALID_PARAMETER, VERR_INVALID_POINTER, VERR_NOT_FOUND,
    VERR_NOT_SUPPORTED, VERR_SYMBOL_NOT_FOUND, VERR_VERSION_MISMATCH,
};
use supdrv_core::idc;
use supdrv_core::mock::{Host, MockOs};
use supdrv_core::ring0::Export;

/// The driver that the library's entry point reaches; one test at a time has it.
static HOST: AtomicPtr<Host> = AtomicPtr::new(std::ptr::null_mut());
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
static DISCONNECTS: AtomicU32 = AtomicU32::new(0);
/// What connects are answered with instead of the session's version; 0 for the truth.
static PRETENDED_VERSION: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn entry(code: u32, packet: *mut IdcHeader) -> c_int {
    // SAFETY: set by the test that runs.
    let host = unsafe { &*HOST.load(SeqCst) };
    if code == IdcRequest::Disconnect.code(Encoding::Linux) {
        DISCONNECTS.fetch_add(1, Relaxed);
    }
    // SAFETY: the library sends well formed packets.
    let status = unsafe { idc::entry(host.driver(), code, packet) };
    let pretended = PRETENDED_VERSION.load(Relaxed);
    if code == IdcRequest::Connect.code(Encoding::Linux) && pretended != 0 {
        // SAFETY: a connect packet.
        unsafe { (*packet.cast::<ConnectOut>()).session_version = pretended };
    }
    status.0
}

type Session = *mut SessionView;
type Open = unsafe extern "C" fn(*mut IdcHandle, u32, u32, *mut u32, *mut u32, *mut u32) -> c_int;
type OnHandle = unsafe extern "C" fn(*mut IdcHandle) -> c_int;
type GetSession = unsafe extern "C" fn(*mut IdcHandle) -> Session;
type OnFactory = unsafe extern "C" fn(*mut IdcHandle, *const Factory) -> c_int;
type GetSymbol = unsafe extern "C" fn(*mut IdcHandle, *const c_char, *const c_char, *mut usize) -> c_int;
type ObjRegister = unsafe extern "C" fn(Session, c_int, usize, *mut c_void, *mut c_void) -> *mut c_void;
type OnObject = unsafe extern "C" fn(*mut c_void, Session) -> c_int;
type Verify = unsafe extern "C" fn(*mut c_void, Session, *const c_char) -> c_int;

/// A copy of the library with variables of its own.
struct Library {
    file: PathBuf,
    handle: *mut c_void,
}

impl Library {
    fn load(name: &str) -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let file = std::env::temp_dir().join(format!("supdrv-{}-{name}.so", std::process::id()));
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let output = Command::new(&compiler)
            .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-shared", "-fPIC"])
            .args(["-DSUPDRV_IDC_ENTRY=supdrvTestIdcEntry", "-I"])
            .arg(format!("{root}/include"))
            .arg(format!("{root}/tests/c_idc/idc_entry.c"))
            .arg("-o")
            .arg(&file)
            .output()
            .unwrap_or_else(|error| panic!("a C compiler ({compiler}) is needed: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = CString::new(file.to_str().expect("a path")).expect("a path");
        // SAFETY: loads a library without constructors.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "the library can be loaded");
        let library = Self { file, handle };
        let function: unsafe extern "C" fn(u32, *mut IdcHeader) -> c_int = entry;
        // SAFETY: the variable is a pointer to such a function.
        unsafe { *(library.address(c"g_pfnEntry") as *mut usize) = function as usize };
        library
    }

    fn address(&self, name: &CStr) -> usize {
        // SAFETY: the library is loaded.
        let address = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        assert!(!address.is_null(), "{name:?}");
        address as usize
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { libc::dlclose(self.handle) };
        let _ = std::fs::remove_file(&self.file);
    }
}

macro_rules! function {
    ($library:expr, $name:literal as $ty:ty) => {
        // SAFETY: the library's header declares it like this.
        unsafe { std::mem::transmute::<usize, $ty>($library.address($name)) }
    };
}

unsafe extern "C" fn fake_register(
    session: Session,
    _: c_int,
    _: usize,
    _: *mut c_void,
    _: *mut c_void,
) -> *mut c_void {
    session.cast()
}

unsafe extern "C" fn fake_on_object(_: *mut c_void, _: Session) -> c_int {
    85
}

const fn exported(name: &'static str, function: *const ()) -> Export {
    Export::new(name, function)
}

static EXPORTS: &[Export] = &[
    exported("SUPR0ObjRegister", fake_register as *const ()),
    exported("SUPR0ObjAddRef", fake_on_object as *const ()),
    exported("SUPR0ObjRelease", fake_on_object as *const ()),
];

/// Runs a test with a driver that the library reaches.
fn with_driver(test: impl FnOnce(&Host)) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let os = MockOs::new();
    os.set_exports(EXPORTS);
    let host = Host::on(&os).expect("a driver");
    HOST.store(std::ptr::from_ref(&host).cast_mut(), SeqCst);
    DISCONNECTS.store(0, Relaxed);
    PRETENDED_VERSION.store(0, Relaxed);
    test(&host);
    HOST.store(std::ptr::null_mut(), SeqCst);
}

fn factory(name: &[u8]) -> Box<Factory> {
    unsafe extern "C" fn declines(_: *const Factory, _: Session, _: *const c_char) -> *mut c_void {
        std::ptr::null_mut()
    }
    let mut field = [0; 56];
    field[..name.len()].copy_from_slice(name);
    Box::new(Factory { name: field, query: declines as *const () as usize })
}

#[test]
fn a_c_sibling_goes_through_its_life() {
    with_driver(|host| {
        let library = Library::load("life");
        let open = function!(library, c"SUPR0IdcOpen" as Open);
        let close = function!(library, c"SUPR0IdcClose" as OnHandle);
        let session = function!(library, c"SUPR0IdcGetSession" as GetSession);
        let register = function!(library, c"SUPR0IdcComponentRegisterFactory" as OnFactory);
        let deregister = function!(library, c"SUPR0IdcComponentDeregisterFactory" as OnFactory);
        let symbol = function!(library, c"supdrvIdcGetSymbol" as GetSymbol);
        let (mut handle, mut versions) = (IdcHandle::default(), [7; 3]);
        let handle = &raw mut handle;
        let [a, b, c] = &mut versions;
        let record = factory(b"X");
        // SAFETY: the handle, the record and all outputs live until the end of the test.
        unsafe {
            assert_eq!(register(handle, &raw const *record), VERR_INVALID_HANDLE.0, "not open");
            assert_eq!(open(handle, 0, 0, a, b, c), 0);
            assert_eq!(versions, [IDC_VERSION, IDC_VERSION, 0]);
            assert!(!session(handle).is_null());
            assert_eq!(register(handle, &raw const *record), 0);
            assert_eq!(register(handle, &raw const *record), VERR_ALREADY_EXISTS.0);
            assert_eq!(deregister(handle, &raw const *record), 0);
            assert_eq!(register(handle, &raw const *record), 0, "again, at once");
            assert_eq!(deregister(handle, &raw const *record), 0);
            assert_eq!(deregister(handle, &raw const *record), VERR_NOT_FOUND.0);
            let mut address = 1;
            assert_eq!(symbol(handle, std::ptr::null(), c"SUPR0ObjRegister".as_ptr(), &raw mut address), 0);
            assert_eq!(address, fake_register as *const () as usize);
            let unknown = symbol(handle, std::ptr::null(), c"NoSuchThing".as_ptr(), &raw mut address);
            assert_eq!((unknown, address), (VERR_SYMBOL_NOT_FOUND.0, 0));
            assert_eq!(close(handle), 0);
            assert!(session(handle).is_null());
            assert_eq!(close(handle), VERR_INVALID_HANDLE.0, "twice");
            assert_eq!(close(std::ptr::null_mut()), VERR_INVALID_POINTER.0);
        }
        assert_eq!((host.counters().sessions, DISCONNECTS.load(Relaxed)), (0, 1));
    });
}

#[test]
fn the_c_client_checks_versions_and_pointers() {
    with_driver(|host| {
        let library = Library::load("versions");
        let open = function!(library, c"SUPR0IdcOpen" as Open);
        let session = function!(library, c"SUPR0IdcGetSession" as GetSession);
        let mut handle = IdcHandle::default();
        let handle = &raw mut handle;
        let null = std::ptr::null_mut();
        // SAFETY: the handle lives until the end; implausible pointers aren't followed.
        unsafe {
            assert_eq!(open(std::ptr::null_mut(), 0, 0, null, null, null), VERR_INVALID_POINTER.0);
            assert_eq!(open(handle, 0, 0, 8 as *mut u32, null, null), VERR_INVALID_POINTER.0);
            assert_eq!(open(handle, 0x0002_0000, 0, null, null, null), VERR_INVALID_PARAMETER.0);
            assert_eq!(open(handle, 0, 0x0002_0000, null, null, null), VERR_INVALID_PARAMETER.0);
            assert_eq!(open(handle, 0x0001_0001, 0x0001_0001, null, null, null), VERR_VERSION_MISMATCH.0);
            assert_eq!(open(handle, 0x0001_0001, 0x0001_0002, null, null, null), VERR_INVALID_PARAMETER.0);
            assert_eq!(DISCONNECTS.load(Relaxed), 0);
            let mut told = 7;
            PRETENDED_VERSION.store(0x0002_0000, Relaxed);
            assert_eq!(open(handle, 0, 0, &raw mut told, null, null), VERR_VERSION_MISMATCH.0);
            assert!(session(handle).is_null());
            assert_eq!((told, DISCONNECTS.load(Relaxed)), (0, 1), "it was left again");
        }
        assert_eq!(host.counters().sessions, 0);
    });
}

#[test]
fn the_object_services_use_the_first_connection() {
    with_driver(|_| {
        let library = Library::load("stubs");
        let open = function!(library, c"SUPR0IdcOpen" as Open);
        let close = function!(library, c"SUPR0IdcClose" as OnHandle);
        let session = function!(library, c"SUPR0IdcGetSession" as GetSession);
        let register = function!(library, c"SUPR0ObjRegister" as ObjRegister);
        let add_ref = function!(library, c"SUPR0ObjAddRef" as OnObject);
        let release = function!(library, c"SUPR0ObjRelease" as OnObject);
        let verify = function!(library, c"SUPR0ObjVerifyAccess" as Verify);
        let mut handles = [IdcHandle::default(); 2];
        let [first, second] = &mut handles;
        let (first, second, null) = (&raw mut *first, &raw mut *second, std::ptr::null_mut());
        // SAFETY: the handles live until the end of the test; the fake exports accept anything.
        unsafe {
            assert!(register(8 as Session, 2, 0, null, null).is_null(), "no connection");
            for handle in [first, second] {
                assert_eq!(open(handle, 0, 0, null.cast(), null.cast(), null.cast()), 0);
            }
            assert!(register(session(second), 2, 0, null, null).is_null(), "not the first one's session");
            assert_eq!(register(session(first), 2, 0, null, null), session(first).cast());
            assert_eq!(add_ref(null, session(first)), 85);
            assert_eq!(add_ref(null, session(second)), 85, "known by now");
            assert_eq!(verify(null, session(first), c"x".as_ptr()), VERR_NOT_SUPPORTED.0, "not exported");
            let own = session(first);
            assert_eq!(close(first), 0);
            assert_eq!(release(null, own), VERR_NOT_SUPPORTED.0, "not known yet, and nobody to ask");
            assert_eq!(add_ref(null, own), 85, "still known");
            assert_eq!(close(second), 0);
            // The next one to be opened is the first one now.
            assert_eq!(open(second, 0, 0, null.cast(), null.cast(), null.cast()), 0);
            assert_eq!(release(null, session(second)), 85);
            assert_eq!(close(second), 0);
        }
    });
}
