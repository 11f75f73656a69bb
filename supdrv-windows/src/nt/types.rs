//! Structures of the kernel, as far as this driver looks into them.
//!
//! The layouts are those of x86 and x64; the numbers for x64 are checked below.

use core::ffi::c_void;

/// An `NTSTATUS`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct NtStatus(pub u32);

impl core::fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

macro_rules! statuses {
    ($($name:ident = $value:literal;)*) => {
        #[allow(missing_docs, reason = "the kernel's own names")]
        impl NtStatus {
            $(pub const $name: Self = Self($value);)*
        }
    };
}

statuses! {
    SUCCESS = 0;
    USER_APC = 0xc0;
    ALERTED = 0x101;
    TIMEOUT = 0x102;
    PENDING = 0x103;
    NO_YIELD_PERFORMED = 0x4000_0024;
    UNSUCCESSFUL = 0xc000_0001;
    INVALID_INFO_CLASS = 0xc000_0003;
    INVALID_HANDLE = 0xc000_0008;
    INVALID_PARAMETER = 0xc000_000d;
    NO_SUCH_DEVICE = 0xc000_000e;
    INVALID_DEVICE_REQUEST = 0xc000_0010;
    ACCESS_DENIED = 0xc000_0022;
    NOT_LOCKED = 0xc000_002a;
    OBJECT_NAME_NOT_FOUND = 0xc000_0034;
    OBJECT_NAME_COLLISION = 0xc000_0035;
    UNKNOWN_REVISION = 0xc000_0058;
    REVISION_MISMATCH = 0xc000_0059;
    INSUFFICIENT_RESOURCES = 0xc000_009a;
    NOT_SUPPORTED = 0xc000_00bb;
    NOT_A_DIRECTORY = 0xc000_0103;
    IMAGE_ALREADY_LOADED = 0xc000_010e;
    INVALID_ADDRESS = 0xc000_0141;
    DRIVER_ENTRYPOINT_NOT_FOUND = 0xc000_0263;
    INVALID_IMAGE_HASH = 0xc000_0428;
}

impl NtStatus {
    /// Whether the call worked: success or information.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.0 >> 31 == 0
    }

    /// # Errors
    /// The status itself, unless it is a success.
    pub const fn ok(self) -> Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }
}

/// Interrupt request level.
pub type Irql = u8;
/// Ordinary threads.
pub const PASSIVE_LEVEL: Irql = 0;
/// No user or normal kernel APCs.
pub const APC_LEVEL: Irql = 1;
/// No scheduling.
pub const DISPATCH_LEVEL: Irql = 2;

/// The queue of work items that may take their time.
pub const DELAYED_QUEUE: u32 = 1;

/// A processor mode.
pub type Mode = i8;
/// The kernel.
pub const KERNEL_MODE: Mode = 0;
/// Ring-3.
pub const USER_MODE: Mode = 1;

/// A handle.
pub type Handle = *mut c_void;
/// The pseudo handle of the current process.
pub const CURRENT_PROCESS: Handle = usize::MAX as Handle;

/// A counted UTF-16 string.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct UnicodeString {
    pub length: u16,
    pub maximum_length: u16,
    pub buffer: *const u16,
}

// SAFETY: a view of text that nobody changes.
unsafe impl Sync for UnicodeString {}

impl UnicodeString {
    /// A view of constant text; cut at 32767 units.
    #[must_use]
    pub const fn new(text: &'static [u16]) -> Self {
        let bytes = if text.len() < 0x7fff { text.len() * 2 } else { 0xfffe } as u16;
        Self { length: bytes, maximum_length: bytes, buffer: text.as_ptr() }
    }
}

/// Makes a constant [`UnicodeString`] of ASCII text.
#[macro_export]
macro_rules! unicode {
    ($text:expr) => {{
        const TEXT: &str = $text;
        const UNITS: [u16; TEXT.len()] = {
            let mut units = [0; TEXT.len()];
            let mut index = 0;
            while index < TEXT.len() {
                assert!(TEXT.as_bytes()[index].is_ascii());
                units[index] = TEXT.as_bytes()[index] as u16;
                index += 1;
            }
            units
        };
        static STRING: $crate::nt::UnicodeString = $crate::nt::UnicodeString::new(&UNITS);
        &STRING
    }};
}

/// What an object is to be called, and how it is opened.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct ObjectAttributes {
    pub length: u32,
    pub root: Handle,
    pub name: *const UnicodeString,
    pub attributes: u32,
    pub security: *mut c_void,
    pub quality: *mut c_void,
}

/// Names are compared without regard to case.
pub const OBJ_CASE_INSENSITIVE: u32 = 0x40;
/// The handle is the kernel's.
pub const OBJ_KERNEL_HANDLE: u32 = 0x200;

impl ObjectAttributes {
    /// Attributes without a root and without a descriptor.
    #[must_use]
    pub const fn new(name: *const UnicodeString, attributes: u32) -> Self {
        Self {
            length: size_of::<Self>() as u32,
            root: core::ptr::null_mut(),
            name,
            attributes,
            security: core::ptr::null_mut(),
            quality: core::ptr::null_mut(),
        }
    }
}

/// A dispatch routine.
pub type Dispatch = unsafe extern "system" fn(*mut DeviceObject, *mut Irp) -> NtStatus;
/// The unload routine.
pub type Unload = unsafe extern "system" fn(*mut DriverObject);

/// The driver, as the I/O manager sees it.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct DriverObject {
    pub kind: i16,
    pub size: i16,
    pub device_object: *mut DeviceObject,
    pub flags: u32,
    pub driver_start: *mut c_void,
    pub driver_size: u32,
    pub driver_section: *mut c_void,
    pub driver_extension: *mut c_void,
    pub driver_name: UnicodeString,
    pub hardware_database: *mut c_void,
    pub fast_io_dispatch: *const FastIoDispatch,
    pub driver_init: *mut c_void,
    pub driver_start_io: *mut c_void,
    pub driver_unload: Option<Unload>,
    pub major_function: [Option<Dispatch>; 28],
}

/// A fast device control; the buffers are raw addresses of the caller.
pub type FastIoDeviceControl = unsafe extern "system" fn(
    file: *mut FileObject,
    wait: u8,
    input: *mut c_void,
    input_bytes: u32,
    output: *mut c_void,
    output_bytes: u32,
    code: u32,
    status: *mut IoStatusBlock,
    device: *mut DeviceObject,
) -> u8;

/// Entry points beside the dispatch routines; all others are null.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct FastIoDispatch {
    pub size: u32,
    pub before: [usize; 9],
    pub device_control: Option<FastIoDeviceControl>,
    pub after: [usize; 17],
}

/// A device.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct DeviceObject {
    pub kind: i16,
    pub size: u16,
    pub reference_count: i32,
    pub driver_object: *mut DriverObject,
    pub next_device: *mut DeviceObject,
    pub attached_device: *mut DeviceObject,
    pub current_irp: *mut Irp,
    pub timer: *mut c_void,
    pub flags: u32,
    pub characteristics: u32,
    pub vpb: *mut c_void,
    pub device_extension: *mut c_void,
    pub device_type: u32,
    pub stack_size: i8,
}

/// Status of a request and the number that goes with it.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct IoStatusBlock {
    /// The status, in as many bytes as a pointer has.
    pub status: NtStatus,
    #[cfg(target_pointer_width = "64")]
    pub padding: u32,
    pub information: usize,
}

/// A request.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct Irp {
    pub kind: i16,
    pub size: u16,
    pub mdl_address: *mut Mdl,
    pub flags: u32,
    pub system_buffer: *mut c_void,
    pub thread_list: [usize; 2],
    pub io_status: IoStatusBlock,
    pub requestor_mode: Mode,
    pub pending_returned: u8,
    pub stack_count: i8,
    pub current_location: i8,
    pub cancel: u8,
    pub cancel_irql: Irql,
    pub apc_environment: i8,
    pub allocation_flags: u8,
    pub user_iosb: *mut IoStatusBlock,
    pub user_event: *mut c_void,
    pub overlay: [usize; 2],
    pub cancel_routine: *mut c_void,
    pub user_buffer: *mut c_void,
    pub driver_context: [usize; 4],
    pub thread: *mut c_void,
    pub auxiliary_buffer: *mut c_void,
    pub list_entry: [usize; 2],
    pub current_stack_location: *mut IoStackLocation,
    pub original_file_object: *mut FileObject,
    pub completion_key: usize,
}

/// Set in [`IoStackLocation::control`] of a request that is completed later.
pub const SL_PENDING_RETURNED: u8 = 1;

/// What a request asks of one driver.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct IoStackLocation {
    pub major_function: u8,
    pub minor_function: u8,
    pub flags: u8,
    pub control: u8,
    /// Four slots of pointer size, numbers in the low halves.
    pub parameters: [usize; 4],
    pub device_object: *mut DeviceObject,
    pub file_object: *mut FileObject,
    pub completion_routine: *mut c_void,
    pub context: *mut c_void,
}

/// An open file.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct FileObject {
    pub kind: i16,
    pub size: i16,
    pub device_object: *mut DeviceObject,
    pub vpb: *mut c_void,
    pub fs_context: *mut c_void,
    pub fs_context2: *mut c_void,
    pub section_object_pointer: *mut c_void,
    pub private_cache_map: *mut c_void,
    pub final_status: NtStatus,
    pub related_file_object: *mut FileObject,
    pub booleans: [u8; 8],
    pub flags: u32,
    pub file_name: UnicodeString,
}

/// Major functions.
#[allow(missing_docs, reason = "the kernel's own names")]
pub mod major {
    pub const CREATE: usize = 0;
    pub const CLOSE: usize = 2;
    pub const READ: usize = 3;
    pub const WRITE: usize = 4;
    pub const DEVICE_CONTROL: usize = 0xe;
    pub const INTERNAL_DEVICE_CONTROL: usize = 0xf;
    pub const CLEANUP: usize = 0x12;
}

/// A description of pages; their frame numbers follow it.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct Mdl {
    pub next: *mut Mdl,
    pub size: i16,
    pub flags: u16,
    pub process: *mut c_void,
    pub mapped_system_va: *mut c_void,
    pub start_va: *mut c_void,
    pub byte_count: u32,
    pub byte_offset: u32,
}

/// [`Mdl::mapped_system_va`] is valid.
pub const MDL_MAPPED_TO_SYSTEM_VA: u16 = 1;
/// The pages are locked.
pub const MDL_PAGES_LOCKED: u16 = 2;
/// Built of pool memory.
pub const MDL_SOURCE_IS_NONPAGED_POOL: u16 = 4;

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident: $words:literal;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub struct $name(pub [usize; $words]);

        impl $name {
            /// Storage before the kernel has initialised it.
            pub const NEW: Self = Self([0; $words]);
        })*
    };
}

opaque! {
    /// An event; 16 bytes on x86, where the storage is larger than needed.
    KEvent: 3;
    /// A timer.
    KTimer: 10;
    /// A deferred procedure call.
    KDpc: 8;
    /// What attaching to a process has to remember.
    KApcState: 6;
}

/// A fast mutex.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct FastMutex {
    pub count: i32,
    pub owner: *mut c_void,
    pub contention: u32,
    pub event: KEvent,
    pub old_irql: u32,
}

/// A processor, by group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct ProcessorNumber {
    pub group: u16,
    pub number: u8,
    pub reserved: u8,
}

/// Processors of one group.
#[derive(Clone, Copy, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct GroupAffinity {
    pub mask: usize,
    pub group: u16,
    pub reserved: [u16; 3],
}

/// What a processor-change callback gets.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct ProcessorChange {
    pub state: u32,
    pub nt_number: u32,
    pub status: NtStatus,
    pub number: ProcessorNumber,
}

/// The kernel's version.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct VersionInfo {
    pub size: u32,
    pub major: u32,
    pub minor: u32,
    pub build: u32,
    pub platform: u32,
    pub service_pack: [u16; 128],
}

/// A request to the kernel's loader.
#[repr(C)]
#[allow(missing_docs, reason = "the kernel's own names")]
pub struct LoadImage {
    pub name: UnicodeString,
    pub address: *mut c_void,
    pub section: *mut c_void,
    pub entry_point: *mut c_void,
    pub exports: *mut c_void,
    pub length: u32,
}

#[cfg(target_pointer_width = "64")]
mod layout {
    use super::*;
    use core::mem::offset_of;

    macro_rules! layout {
        ($($type:ident $size:literal { $($field:ident $offset:literal)* })*) => {
            $(const _: () = assert!($size == 0 || size_of::<$type>() == $size);
            $(const _: () = assert!(offset_of!($type, $field) == $offset);)*)*
        };
    }

    layout! {
        UnicodeString 0x10 { buffer 8 }
        ObjectAttributes 0x30 { name 0x10 attributes 0x18 }
        DriverObject 0x150 { device_object 8 driver_start 0x18 driver_size 0x20 fast_io_dispatch 0x50 driver_unload 0x68 major_function 0x70 }
        FastIoDispatch 0xe0 { device_control 0x50 }
        DeviceObject 0 { driver_object 8 flags 0x30 characteristics 0x34 device_extension 0x40 stack_size 0x4c }
        IoStatusBlock 0x10 { information 8 }
        Irp 0xd0 { mdl_address 8 flags 0x10 system_buffer 0x18 io_status 0x30 requestor_mode 0x40 cancel 0x44 user_event 0x50 user_buffer 0x70 thread 0x98 current_stack_location 0xb8 }
        IoStackLocation 0x48 { control 3 parameters 8 device_object 0x28 file_object 0x30 }
        FileObject 0 { device_object 8 fs_context 0x18 fs_context2 0x20 file_name 0x58 }
        Mdl 0x30 { size 8 flags 0xa mapped_system_va 0x18 start_va 0x20 byte_count 0x28 byte_offset 0x2c }
        KEvent 0x18 {}
        KDpc 0x40 {}
        KApcState 0x30 {}
        FastMutex 0x38 { owner 8 contention 0x10 event 0x18 old_irql 0x30 }
        ProcessorNumber 4 {}
        GroupAffinity 0x10 { group 8 }
        ProcessorChange 0x10 { status 8 number 0xc }
        VersionInfo 0x114 { build 0xc }
        LoadImage 0x38 { address 0x10 section 0x18 entry_point 0x20 exports 0x28 length 0x30 }
    }
    // KTIMER has 0x40 bytes; room for later growth.
    const _: () = assert!(size_of::<KTimer>() >= 0x40);
}
