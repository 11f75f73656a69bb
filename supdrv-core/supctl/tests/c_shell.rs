//! The conformance suite through the library for C drivers: a C shell on a C runtime in user mode (`tests/c/` of the core), as a shared
//! object in this process. Run twice: as it is, and with the C half under AddressSanitizer and UndefinedBehaviorSanitizer.
//!
//! `cargo xtask test 32-bit` runs it as a 32-bit program. `SUPDRV_CORE_LIBRARY` names a library that was built already.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use supctl::suite::{self, Outcome};
use supctl::transport::{Capabilities, Device, Node, OpenError, Refused, Transport};
use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Encoding;
use supdrv_core::abi::requests::RequestHeader;
use supdrv_core::abi::status::{
    VERR_INTERNAL_ERROR, VERR_INVALID_POINTER, VERR_NO_MEMORY, VERR_TOO_MUCH_DATA,
};
use supdrv_core::driver::Counters;
use zerocopy::FromBytes;

/// The functions of the shell that are a system call each; results are negative errnos.
#[derive(Clone, Copy)]
struct Shell {
    open: unsafe extern "C" fn(restricted: bool, file: *mut u32) -> c_int,
    close: unsafe extern "C" fn(file: u32) -> c_int,
    ioctl: unsafe extern "C" fn(file: u32, code: u32, argument: usize) -> c_int,
    ioctl_from: unsafe extern "C" fn(process: u32, file: u32, code: u32, argument: usize) -> c_int,
    unload: unsafe extern "C" fn() -> c_int,
    nothing_left: unsafe extern "C" fn() -> bool,
    counters: unsafe extern "C" fn(counters: *mut [u32; 6]),
}

/// # Safety
/// The symbol is a function of type `F`.
unsafe fn function<F>(object: *mut c_void, name: &CStr) -> F {
    // SAFETY: a handle from dlopen, and a C string.
    let address = unsafe { libc::dlsym(object, name.as_ptr()) };
    assert!(!address.is_null() && size_of::<F>() == size_of_val(&address), "{name:?}");
    // SAFETY: condition of the function.
    unsafe { core::mem::transmute_copy(&address) }
}

impl Shell {
    /// Loads the shared object, and the driver in it.
    fn load(path: &str) -> Self {
        let path = CString::new(path).expect("a path");
        // SAFETY: the object's initialisers do nothing.
        let object = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        // SAFETY: after a failure there is a message.
        assert!(!object.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror().cast::<c_char>()) });
        // SAFETY: the prototypes are those of shell.h and runtime.h.
        unsafe {
            function::<unsafe extern "C" fn()>(object, c"rtArchInit")();
            assert_eq!(function::<unsafe extern "C" fn() -> c_int>(object, c"drvLoad")(), 0, "drvLoad");
            Self {
                open: function(object, c"drvOpen"),
                close: function(object, c"drvClose"),
                ioctl: function(object, c"drvIOCtl"),
                ioctl_from: function(object, c"drvIOCtlFrom"),
                unload: function(object, c"drvUnload"),
                nothing_left: function(object, c"rtNothingLeft"),
                counters: function(object, c"drvCounters"),
            }
        }
    }
}

impl Transport for Shell {
    fn describe(&self) -> String {
        "a C shell on a C runtime, over the library for C drivers".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            other_process: true,
            programs: false,
            shared_pages: true,
            kernel_addresses: true,
            runs_code: true,
            fast_calls: true,
            real_time: true,
        }
    }

    fn encoding(&self) -> Encoding {
        Encoding::Linux
    }

    fn refusal(&self, status: Status) -> Refused {
        Refused::Os(match status {
            VERR_TOO_MUCH_DATA => libc::E2BIG,
            VERR_INVALID_POINTER => libc::EFAULT,
            VERR_NO_MEMORY => libc::ENOMEM,
            _ => libc::EINVAL,
        })
    }

    fn open(&self, node: Node) -> Result<Box<dyn Device>, OpenError> {
        let mut file = 0;
        // SAFETY: writes the number of the file.
        match unsafe { (self.open)(node == Node::Restricted, &raw mut file) } {
            0 => Ok(Box::new(File { shell: *self, file })),
            error => Err(OpenError::Other { node: format!("{node:?}"), reason: format!("errno {}", -error) }),
        }
    }

    fn counters(&self) -> Option<Counters> {
        let mut counters = [0; 6];
        // SAFETY: writes that many numbers.
        unsafe { (self.counters)(&raw mut counters) };
        let [sessions, objects, memory_refs, images, factories, gip_users] =
            counters.map(|count| count as usize);
        Some(Counters { sessions, objects, memory_refs, images, factories, gip_users })
    }
}

struct File {
    shell: Shell,
    file: u32,
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the file is open.
        assert_eq!(unsafe { (self.shell.close)(self.file) }, 0);
    }
}

fn refused(result: c_int) -> Result<(), Refused> {
    match result {
        0 => Ok(()),
        error if error == VERR_INTERNAL_ERROR.0 => Err(Refused::Status(Status(error))),
        error => Err(Refused::Os(-error)),
    }
}

impl File {
    /// Passes a packet that is as long as it claims to be, by way of a copy if it isn't.
    fn pass(&self, packet: &mut [u8], call: impl FnOnce(usize) -> c_int) -> Result<(), Refused> {
        let header = RequestHeader::read_from_prefix(packet).map(|(header, _)| header);
        let claimed = header.map_or(0, |header| header.in_bytes.max(header.out_bytes) as usize);
        // The shell refuses larger ones before it looks at them.
        let bytes = claimed.max(size_of::<RequestHeader>()).min((16 << 20) + 1);
        if bytes <= packet.len() {
            return refused(call(packet.as_mut_ptr().addr()));
        }
        let mut copy = vec![0_u64; bytes.div_ceil(8)];
        let copy = zerocopy::IntoBytes::as_mut_bytes(copy.as_mut_slice());
        let length = packet.len();
        copy[..length].copy_from_slice(packet);
        refused(call(copy.as_mut_ptr().addr()))?;
        packet.copy_from_slice(&copy[..length]);
        Ok(())
    }
}

impl Device for File {
    fn ioctl(&self, code: u32, packet: &mut [u8]) -> Result<(), Refused> {
        // SAFETY: the packet is ours alone, and as long as it claims.
        self.pass(packet, |address| unsafe { (self.shell.ioctl)(self.file, code, address) })
    }

    fn fast(&self, code: u32, cpu_id: u32) -> Result<(), Refused> {
        // SAFETY: the argument is a number; where it is taken for an address, nothing is there.
        refused(unsafe { (self.shell.ioctl)(self.file, code, cpu_id as usize) })
    }

    unsafe fn ioctl_at(&self, code: u32, address: usize) -> Option<Result<(), Refused>> {
        // SAFETY: the caller's promise.
        Some(refused(unsafe { (self.shell.ioctl)(self.file, code, address) }))
    }

    fn ioctl_from_other_process(&self, code: u32, packet: &mut [u8]) -> Option<Result<(), Refused>> {
        // SAFETY: as in `ioctl`.
        Some(self.pass(packet, |address| unsafe { (self.shell.ioctl_from)(4711, self.file, code, address) }))
    }
}

/// The suite through one shared object.
fn run_suite(object: &str) -> ExitCode {
    let shell = Shell::load(object);
    let filter = std::env::var("SUPCTL_FILTER").unwrap_or_default();
    let tally = suite::run(&shell, &filter, &mut |case, outcome| match outcome {
        Outcome::Pass => println!("pass  {}", case.title()),
        Outcome::NotAvailable(reason) => println!("skip  {} ({reason})", case.title()),
        Outcome::Fail(reason) => println!("FAIL  {}: {reason}", case.title()),
    });
    // SAFETY: nobody has the device open any more.
    let clean = unsafe { (shell.unload)() == 0 && (shell.nothing_left)() };
    println!("{}: {tally}{}", shell.describe(), if clean { "" } else { ", and something is left" });
    let enough = tally.passed >= 80 || !filter.is_empty();
    if tally.failed == 0 && clean && enough { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(command: &mut Command, hint: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: {hint}"));
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}\n{hint}", output.status);
    text.into_owned()
}

/// Compiles shell, runtime and library into a shared object.
fn shared_object(sanitizers: &[&str]) -> PathBuf {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (target, bits) =
        if cfg!(target_pointer_width = "64") { ("x86_64", "-m64") } else { ("i686", "-m32") };
    let library = std::env::var("SUPDRV_CORE_LIBRARY").unwrap_or_else(|_| {
        let mut cargo = Command::new("cargo");
        cargo.args(["xtask", "build", "legacy", "--target", target]).current_dir(core.join(".."));
        let printed = run(&mut cargo, "`cargo xtask build legacy` says what it needs");
        printed.lines().last().expect("the path of the library").to_owned()
    });
    let name = format!("c-shell{bits}{}.so", if sanitizers.is_empty() { "" } else { "-sanitized" });
    let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let sources = ["rt_arch", "rt_memory", "rt_rest", "rt_sync", "rt_system", "rt_time", "shell"];
    let mut gcc = Command::new("gcc");
    gcc.args([
        "-std=gnu99",
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fPIC",
        "-shared",
        "-DRT_OS_LINUX",
        bits,
    ]);
    gcc.args(sanitizers).arg("-I").arg(core.join("include"));
    gcc.args(sources.map(|name| core.join("tests/c").join(name).with_extension("c")));
    gcc.arg(library).args(["-Wl,-Bsymbolic", "-lpthread", "-o"]).arg(&object);
    run(&mut gcc, "apt-get install gcc gcc-multilib");
    object
}

/// This program again, for one shared object, with the sanitizers' libraries before all others.
fn again(object: &Path, libraries: &[&str]) -> bool {
    let bits = if cfg!(target_pointer_width = "64") { "-m64" } else { "-m32" };
    let preload: Vec<String> = libraries
        .iter()
        .map(|library| {
            let printed = run(Command::new("gcc").arg(bits).arg(format!("-print-file-name={library}")), "");
            printed.trim().to_owned()
        })
        .collect();
    let mut program = Command::new(std::env::current_exe().expect("this program"));
    program.arg("--object").arg(object);
    if !preload.is_empty() {
        program.env("LD_PRELOAD", preload.join(":"));
        // Leaks of the driver are counted by the runtime; those of the test program itself don't matter.
        program.env("ASAN_OPTIONS", "detect_leaks=0:allow_user_segv_handler=1");
    }
    program.status().expect("this program runs").success()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, object] = arguments.as_slice()
        && flag == "--object"
    {
        return run_suite(object);
    }
    // What `cargo test` asks of every test program.
    if arguments.iter().any(|argument| argument == "--list") {
        println!("the_suite_passes_through_a_c_shell: test\nthe_suite_passes_under_sanitizers: test");
        return ExitCode::SUCCESS;
    }
    let plain = again(&shared_object(&[]), &[]);
    let sanitized = again(
        &shared_object(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
        &["libasan.so", "libubsan.so"],
    );
    let word = |passed: bool| if passed { "ok" } else { "FAILED" };
    println!("test the_suite_passes_through_a_c_shell ... {}", word(plain));
    println!("test the_suite_passes_under_sanitizers ... {}", word(sanitized));
    let passed = usize::from(plain) + usize::from(sanitized);
    println!(
        "\ntest result: {}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        word(passed == 2),
        2 - passed
    );
    if passed == 2 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
