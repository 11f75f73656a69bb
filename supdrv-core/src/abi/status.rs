//! Status codes: signed 32-bit numbers, zero or positive for success, negative for failure.
//!
//! The numbers are the same on all systems, on the wire, in IDC and in the ring-0 API. They never change.

use core::fmt;

/// A status code as it travels in `Hdr.rc` and across the C ABI.
///
/// An open set: whatever a module's entry point returns is passed on verbatim, known or not.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub i32);

/// What a fallible service returns: a value, or the negative status that says why there is none.
pub type Result<T> = core::result::Result<T, Status>;

impl Status {
    /// Zero and positive (informational) codes are success.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }

    /// Negative codes are failures.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.0 < 0
    }

    /// The code of a service that returns nothing else: success is [`VINF_SUCCESS`].
    #[must_use]
    pub fn of(result: Result<()>) -> Self {
        match result {
            Ok(()) => VINF_SUCCESS,
            Err(status) => status,
        }
    }

    /// `Ok` for success codes (an informational value is dropped), `Err` for failures.
    ///
    /// # Errors
    /// The code itself if it is negative.
    pub const fn into_result(self) -> Result<()> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }

    /// The name of a known code.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        ALL.iter().find(|(_, status)| *status == self).map(|(name, _)| *name)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

macro_rules! status_codes {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: Status = Status($value);)*

        /// Every code above with its name, in the order of the specification.
        pub static ALL: &[(&str, Status)] = &[$((stringify!($name), $name)),*];
    };
}

status_codes! {
    // Success.
    /// Done.
    VINF_SUCCESS = 0;
    /// The release/close dropped the last reference and the object is gone.
    VINF_OBJECT_DESTROYED = 85;
    // General.
    /// Unspecified failure; on the wire: unknown or forbidden request, symbol not found (ioctl 6), no GIP.
    VERR_GENERAL_FAILURE = -1;
    /// An argument, size, flag or combination is not acceptable; also "no such block" when freeing.
    VERR_INVALID_PARAMETER = -2;
    /// A magic number or string does not match.
    VERR_INVALID_MAGIC = -3;
    /// Handle or image base unknown, of another kind, or of another session.
    VERR_INVALID_HANDLE = -4;
    /// Pages or a lock could not be pinned/taken.
    VERR_LOCK_FAILED = -5;
    /// A pointer is not plausible or the memory behind it not accessible.
    VERR_INVALID_POINTER = -6;
    /// Historic (patching the interrupt table); only in the linux errno table.
    VERR_IDT_FAILED = -7;
    /// Heap exhausted.
    VERR_NO_MEMORY = -8;
    /// Image is already loaded; also answered by ioctl 6 for an image *not yet* loaded; darwin: second open/session of a process.
    VERR_ALREADY_LOADED = -9;
    /// Caller may not access the object.
    VERR_PERMISSION_DENIED = -10;
    /// Interface versions do not fit.
    VERR_VERSION_MISMATCH = -11;
    /// Facility not in this build/OS.
    VERR_NOT_IMPLEMENTED = -12;
    /// Temporary buffer could not be allocated.
    VERR_NO_TMP_MEMORY = -20;
    /// Call comes at the wrong time: no VMMR0 loaded, image not loaded, object dying, not inside module init.
    VERR_WRONG_ORDER = -22;
    /// No physically contiguous memory.
    VERR_NO_CONT_MEMORY = -26;
    /// Page-granular allocation failed.
    VERR_NO_PAGE_MEMORY = -27;
    /// Caller's context not allowed (e.g. kernel session registering a user tracepoint module).
    VERR_INVALID_CONTEXT = -32;
    /// Native error without translation.
    VERR_UNRESOLVED_ERROR = -35;
    /// Operation code not known.
    VERR_INVALID_FUNCTION = -36;
    /// Feature not available here; from the page allocator it triggers the client's fallback; from the native loader hook it means "use the built-in loader"; from the IDC core "unknown request".
    VERR_NOT_SUPPORTED = -37;
    /// Refused by policy, or user memory access faulted.
    VERR_ACCESS_DENIED = -38;
    /// Wait ended by a signal/alert.
    VERR_INTERRUPTED = -39;
    /// Wait ended by its deadline.
    VERR_TIMEOUT = -40;
    /// Request larger than the limit.
    VERR_TOO_MUCH_DATA = -42;
    /// Temporarily impossible: no usage record available without blocking; zombie tracer provider still busy.
    VERR_TRY_AGAIN = -52;
    /// Numeric argument too large.
    VERR_OUT_OF_RANGE = -54;
    /// String buffer could not be allocated.
    VERR_NO_STR_MEMORY = -64;
    /// Memory object still has mappings.
    VERR_MEMORY_BUSY = -67;
    /// Timer is being changed.
    VERR_TIMER_BUSY = -33;
    /// Timer already started.
    VERR_TIMER_ACTIVE = -68;
    /// Timer not running.
    VERR_TIMER_SUSPENDED = -69;
    /// Nothing left below 4 GiB.
    VERR_NO_LOW_MEMORY = -72;
    /// No suitable physical pages.
    VERR_NO_PHYS_MEMORY = -73;
    /// Physical address does not fit the native type.
    VERR_ADDRESS_TOO_BIG = -74;
    /// Mapping into an address space failed.
    VERR_MAP_FAILED = -75;
    /// Looked-up thing does not exist.
    VERR_NOT_FOUND = -78;
    /// Object in the wrong state.
    VERR_INVALID_STATE = -79;
    /// Some native resource is exhausted.
    VERR_OUT_OF_RESOURCES = -80;
    /// Session handle table is full (32768).
    VERR_NO_MORE_HANDLES = -81;
    /// Page count 0 or above the limit.
    VERR_PAGE_COUNT_OUT_OF_RANGE = -84;
    /// Image still owns object destructors; internal, never reaches the wire.
    VERR_DANGLING_OBJECTS = -86;
    /// No executable memory for an image.
    VERR_NO_EXEC_MEMORY = -96;
    /// Alignment not offered.
    VERR_UNSUPPORTED_ALIGNMENT = -97;
    /// Already there.
    VERR_DUPLICATE = -98;
    /// File does not exist.
    VERR_FILE_NOT_FOUND = -102;
    /// Already registered / existing.
    VERR_ALREADY_EXISTS = -105;
    /// Name does not fit.
    VERR_FILENAME_TOO_LONG = -120;
    /// In use (e.g. unload refused).
    VERR_RESOURCE_BUSY = -138;
    /// Should not happen; also the fast path's only failure and the client's preset of `Hdr.rc`.
    VERR_INTERNAL_ERROR = -225;
    /// As above, second place (image record allocation).
    VERR_INTERNAL_ERROR_2 = -226;
    /// Third place (string table allocation; too many image references).
    VERR_INTERNAL_ERROR_3 = -227;
    /// Fourth place (symbol table allocation).
    VERR_INTERNAL_ERROR_4 = -228;
    /// Fifth place (usage record allocation).
    VERR_INTERNAL_ERROR_5 = -229;
    /// Device I/O error.
    VERR_DEV_IO_ERROR = -250;
    /// Native resource occupied.
    VERR_RESOURCE_IN_USE = -552;
    /// Not available at the moment.
    VERR_NOT_AVAILABLE = -22403;
    // Semaphores, loader, CPUs.
    /// Mutex released by a thread that does not own it.
    VERR_NOT_OWNER = -355;
    /// Semaphore occupied.
    VERR_SEM_BUSY = -360;
    /// Semaphore was destroyed while waiting.
    VERR_SEM_DESTROYED = -363;
    /// Recursive request on a non-recursive lock.
    VERR_SEM_NESTED = -364;
    /// Would deadlock.
    VERR_DEADLOCK = -365;
    /// Not allowed in this context (e.g. interrupt).
    VERR_SEM_BAD_CONTEXT = -367;
    /// Not an executable image.
    VERR_BAD_EXE_FORMAT = -608;
    /// Symbol unknown.
    VERR_SYMBOL_NOT_FOUND = -609;
    /// Image unknown.
    VERR_MODULE_NOT_FOUND = -610;
    /// Image for another architecture.
    VERR_LDR_ARCH_MISMATCH = -615;
    /// The OS loaded something else than the client uploaded.
    VERR_LDR_MISMATCH_NATIVE = -616;
    /// OS could not resolve an import.
    VERR_LDR_IMPORTED_SYMBOL_NOT_FOUND = -617;
    /// Unspecified native loader failure.
    VERR_LDR_GENERAL_FAILURE = -618;
    /// OS rejected the image's signature.
    VERR_LDR_IMAGE_HASH = -619;
    /// CPU exists but is offline.
    VERR_CPU_OFFLINE = -800;
    /// No such CPU.
    VERR_CPU_NOT_FOUND = -801;
    /// CPU vendor not known.
    VERR_UNSUPPORTED_CPU = -1002;
    /// CPU id out of range.
    VERR_INVALID_CPU_ID = -1018;
    /// More CPUs than the GIP tables hold.
    VERR_TOO_MANY_CPUS = -1019;
    /// Intel CPU without VT-x.
    VERR_VMX_NO_VMX = -4009;
    /// Somebody else uses VT-x.
    VERR_VMX_IN_VMX_ROOT_MODE = -4011;
    /// Firmware locked VT-x off (the number was later renamed "locking failed").
    VERR_VMX_MSR_LOCKED_OR_DISABLED = -4013;
    /// Later split of the former: all modes disabled.
    VERR_VMX_MSR_ALL_VMXON_DISABLED = -4028;
    /// Later split: disabled outside SMX.
    VERR_VMX_MSR_VMXON_DISABLED = -4029;
    /// AMD CPU without AMD-V.
    VERR_SVM_NO_SVM = -4052;
    /// AMD-V switched off by firmware.
    VERR_SVM_DISABLED = -4053;
    // Support-driver block.
    /// No factory of that name.
    VERR_SUPDRV_COMPONENT_NOT_FOUND = -3700;
    /// Factories of that name exist but none offers the interface.
    VERR_SUPDRV_INTERFACE_NOT_SUPPORTED = -3701;
    /// The session references no service image of that name.
    VERR_SUPDRV_SERVICE_NOT_FOUND = -3702;
    /// Host kernel lacks a needed fix.
    VERR_SUPDRV_KERNEL_TOO_OLD_FOR_VTX = -3703;
    /// Tracepoint object: wrong magic.
    VERR_SUPDRV_VTG_MAGIC = -3704;
    /// Tracepoint object: wrong bit count.
    VERR_SUPDRV_VTG_BITS = -3705;
    /// Tracepoint object: some header field inconsistent.
    VERR_SUPDRV_VTG_BAD_HDR_MISC = -3706;
    /// Tracepoint object: an area offset out of range or misaligned.
    VERR_SUPDRV_VTG_BAD_HDR_OFF = -3707;
    /// Tracepoint object: an area pointer outside the image.
    VERR_SUPDRV_VTG_BAD_HDR_PTR = -3708;
    /// Tracepoint object: an area has too few entries.
    VERR_SUPDRV_VTG_BAD_HDR_TOO_FEW = -3709;
    /// Tracepoint object: an area has too many entries.
    VERR_SUPDRV_VTG_BAD_HDR_TOO_MUCH = -3710;
    /// Tracepoint object: an area size is no multiple of its entry size.
    VERR_SUPDRV_VTG_BAD_HDR_NOT_MULTIPLE = -3711;
    /// String offset outside the table.
    VERR_SUPDRV_VTG_STRTAB_OFF = -3712;
    /// String has forbidden characters.
    VERR_SUPDRV_VTG_BAD_STRING = -3713;
    /// String too long.
    VERR_SUPDRV_VTG_STRING_TOO_LONG = -3714;
    /// Attribute value out of range.
    VERR_SUPDRV_VTG_BAD_ATTR = -3715;
    /// Provider descriptor bad.
    VERR_SUPDRV_VTG_BAD_PROVIDER = -3716;
    /// Probe descriptor bad.
    VERR_SUPDRV_VTG_BAD_PROBE = -3717;
    /// Argument list bad.
    VERR_SUPDRV_VTG_BAD_ARGLIST = -3718;
    /// Enabled counter not zero at registration.
    VERR_SUPDRV_VTG_BAD_PROBE_ENABLED = -3719;
    /// Probe location bad.
    VERR_SUPDRV_VTG_BAD_PROBE_LOC = -3720;
    /// Object or module registered already.
    VERR_SUPDRV_VTG_ALREADY_REGISTERED = -3721;
    /// A kernel session may register one object only.
    VERR_SUPDRV_VTG_ONLY_ONCE_PER_SESSION = -3722;
    /// A tracer implementation exists already.
    VERR_SUPDRV_TRACER_ALREADY_REGISTERED = -3723;
    /// Caller is not the registered implementation.
    VERR_SUPDRV_TRACER_NOT_REGISTERED = -3724;
    /// Session has the tracer open.
    VERR_SUPDRV_TRACER_ALREADY_OPENED = -3725;
    /// Session does not have it open.
    VERR_SUPDRV_TRACER_NOT_OPENED = -3726;
    /// No tracer implementation.
    VERR_SUPDRV_TRACER_NOT_PRESENT = -3727;
    /// Implementation is going away.
    VERR_SUPDRV_TRACER_UNLOADING = -3728;
    /// Another thread of the session is inside the tracer.
    VERR_SUPDRV_TRACER_SESSION_BUSY = -3729;
    /// Tracer's own session tried to open it.
    VERR_SUPDRV_TRACER_CANNOT_OPEN_SELF = -3730;
    /// Argument type flags invalid.
    VERR_SUPDRV_TRACER_BAD_ARG_FLAGS = -3731;
    /// Session limit (32) or module limit (2) reached.
    VERR_SUPDRV_TRACER_TOO_MANY_PROVIDERS = -3732;
    /// Object larger than 1 MiB.
    VERR_SUPDRV_TRACER_TOO_LARGE = -3733;
    /// Enabled table and location table too far apart.
    VERR_SUPDRV_TRACER_UMOD_NOT_ADJACENT = -3734;
    /// More than 64 KiB would have to be pinned.
    VERR_SUPDRV_TRACER_UMOD_TOO_MANY_PROBES = -3735;
    /// String table below 2 bytes or above 1 MiB.
    VERR_SUPDRV_TRACER_UMOD_STRTAB_TOO_BIG = -3736;
    /// Function name offset outside the table.
    VERR_SUPDRV_TRACER_UMOD_STRTAB_OFF_BAD = -3737;
    // What the client library reports when it cannot open or accept the driver.
    /// Open: ENOENT (darwin also: I/O Kit service not found; windows/os2: file or path not found).
    VERR_VM_DRIVER_NOT_INSTALLED = -1908;
    /// Open: EPERM, EACCES (windows: access denied, sharing violation).
    VERR_VM_DRIVER_NOT_ACCESSIBLE = -1909;
    /// Open: ENODEV, on linux also ENXIO (windows: device missing/not connected/bad/removed).
    VERR_VM_DRIVER_LOAD_ERROR = -1910;
    /// Open: any other error (also each status the driver maps to something unusual at open).
    VERR_VM_DRIVER_OPEN_ERROR = -1911;
    /// Handshake failed in any way, or returned versions unacceptable.
    VERR_VM_DRIVER_VERSION_MISMATCH = -1912;
    // Numbers needed only by 2.3 and 2.4.
    /// ESRCH.
    VERR_PROCESS_NOT_FOUND = -50;
    /// ENOTDIR.
    VERR_NOT_A_DIRECTORY = -126;
    /// EISDIR.
    VERR_IS_A_DIRECTORY = -127;
    /// ETXTBSY.
    VERR_SHARING_VIOLATION = -114;
    /// ENOSPC.
    VERR_DISK_FULL = -152;
    /// EROFS.
    VERR_WRITE_PROTECT = -113;
    /// ENOLCK.
    VERR_FILE_LOCK_FAILED = -115;
    /// ELOOP.
    VERR_TOO_MANY_SYMLINKS = -156;
    /// EILSEQ.
    VERR_NO_TRANSLATION = -58;
    /// EMEDIUMTYPE.
    VERR_MEDIA_NOT_RECOGNIZED = -122;
    /// ENONET.
    VERR_NET_NO_NETWORK = -405;
    /// EINPROGRESS.
    VERR_NET_IN_PROGRESS = -436;
    /// ENOTSOCK.
    VERR_NET_NOT_SOCKET = -438;
    /// EMSGSIZE.
    VERR_NET_MSG_SIZE = -440;
    /// ENOPROTOOPT.
    VERR_NET_PROTOCOL_NOT_AVAILABLE = -442;
    /// ESOCKTNOSUPPORT.
    VERR_NET_SOCKET_TYPE_NOT_SUPPORTED = -444;
    /// EPFNOSUPPORT.
    VERR_NET_PROTOCOL_FAMILY_NOT_SUPPORTED = -446;
    /// EADDRINUSE.
    VERR_NET_ADDRESS_IN_USE = -448;
    /// ENETDOWN.
    VERR_NET_DOWN = -450;
    /// ENETRESET.
    VERR_NET_CONNECTION_RESET = -452;
    /// ECONNRESET.
    VERR_NET_CONNECTION_RESET_BY_PEER = -454;
    /// EISCONN.
    VERR_NET_ALREADY_CONNECTED = -456;
    /// ESHUTDOWN.
    VERR_NET_SHUTDOWN = -458;
    /// ECONNREFUSED.
    VERR_NET_CONNECTION_REFUSED = -461;
    /// EHOSTUNREACH.
    VERR_NET_HOST_UNREACHABLE = -465;
    // Needed only by the errno translation tables.
    /// Stands for the errno `EXDEV`.
    VERR_NOT_SAME_DEVICE = -119;
    /// Stands for the errno `ENOTDIR`.
    VERR_PATH_NOT_FOUND = -103;
    /// Stands for the errno `ENFILE`.
    VERR_TOO_MANY_OPEN_FILES = -106;
    /// Stands for the errno `EFBIG`.
    VERR_FILE_TOO_BIG = -128;
    /// Stands for the errno `ESPIPE`.
    VERR_SEEK_ON_DEVICE = -109;
    /// Stands for the errno `EPIPE`.
    VERR_BROKEN_PIPE = -301;
    /// Stands for the errno `ENOTEMPTY`.
    VERR_DIR_NOT_EMPTY = -125;
    /// Stands for the errno `ENODATA`.
    VERR_NO_DATA = -304;
    /// Stands for the errno `ENOMEDIUM`.
    VERR_MEDIA_NOT_PRESENT = -121;
    /// Stands for the errno `EPROCLIM`.
    VERR_MAX_PROCS_REACHED = -44;
    /// Stands for the errno `ENOTUNIQ`.
    VERR_NET_NOT_UNIQUE_NAME = -406;
    /// Stands for the errno `EALREADY`.
    VERR_NET_ALREADY_IN_PROGRESS = -437;
    /// Stands for the errno `EDESTADDRREQ`.
    VERR_NET_DEST_ADDRESS_REQUIRED = -439;
    /// Stands for the errno `EPROTOTYPE`.
    VERR_NET_PROTOCOL_TYPE = -441;
    /// Stands for the errno `EPROTONOSUPPORT`.
    VERR_NET_PROTOCOL_NOT_SUPPORTED = -443;
    /// Stands for the errno `EOPNOTSUPP`.
    VERR_NET_OPERATION_NOT_SUPPORTED = -445;
    /// Stands for the errno `EAFNOSUPPORT`.
    VERR_NET_ADDRESS_FAMILY_NOT_SUPPORTED = -447;
    /// Stands for the errno `EADDRNOTAVAIL`.
    VERR_NET_ADDRESS_NOT_AVAILABLE = -449;
    /// Stands for the errno `ENETUNREACH`.
    VERR_NET_UNREACHABLE = -451;
    /// Stands for the errno `ECONNABORTED`.
    VERR_NET_CONNECTION_ABORTED = -453;
    /// Stands for the errno `ENOBUFS`.
    VERR_NET_NO_BUFFER_SPACE = -455;
    /// Stands for the errno `ENOTCONN`.
    VERR_NET_NOT_CONNECTED = -457;
    /// Stands for the errno `ETOOMANYREFS`.
    VERR_NET_TOO_MANY_REFERENCES = -459;
    /// Stands for the errno `EHOSTDOWN`.
    VERR_NET_HOST_DOWN = -464;
    /// Stands for the errno `EPROTO`.
    VERR_NET_PROTOCOL_ERROR = -466;
    /// The thread has terminated.
    VERR_THREAD_IS_DEAD = -29;
    /// The thread cannot be waited for.
    VERR_THREAD_NOT_WAITABLE = -30;
    /// A memory object could not be set up.
    VERR_MEMOBJ_INIT_FAILED = -71;
    /// The destination is too small.
    VERR_BUFFER_OVERFLOW = -41;
    /// The text is not a UUID.
    VERR_INVALID_UUID_FORMAT = -49;
    /// Somebody else uses AMD-V.
    VERR_SVM_IN_USE = -4054;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_decides_between_success_and_failure() {
        assert!(VINF_SUCCESS.is_success() && VINF_OBJECT_DESTROYED.is_success());
        assert!(VERR_GENERAL_FAILURE.is_failure() && Status(i32::MIN).is_failure());
    }

    #[test]
    fn names_and_numbers_are_unique() {
        for (i, (name, status)) in ALL.iter().enumerate() {
            for (other_name, other) in &ALL[i + 1..] {
                assert!(name != other_name && status != other, "{name} and {other_name}");
            }
        }
    }
}
