//! C's variable arguments, as the calling convention of the target passes them.
//!
//! This is the one place of the core that asks for the target's system: the convention is a property of the target, and there is no other
//! name for it.

use core::ffi::c_void;

#[cfg(all(target_arch = "x86_64", not(any(windows, target_os = "uefi"))))]
mod convention {
    use core::ffi::c_void;

    /// What the System V convention calls `__va_list_tag`; a `va_list` parameter is a pointer to one.
    #[derive(Clone, Copy, Debug)]
    #[repr(C)]
    pub struct Tag {
        /// Next integer register, as an offset into the save area.
        integers: u32,
        /// Floating point registers: kernel code has none.
        _floats: u32,
        /// Next argument on the stack.
        stack: *mut usize,
        /// Where the registers were saved.
        saved: *mut u8,
    }

    /// Six integer registers.
    const INTEGERS_END: u32 = 48;

    /// The `va_list` parameter.
    pub type Passed = *mut Tag;

    /// A reader.
    #[derive(Debug)]
    pub struct Reader(*mut Tag);

    impl Reader {
        pub fn new(passed: Passed) -> Self {
            Self(passed)
        }

        /// # Safety
        /// There is one more argument, of at most a register's size.
        pub unsafe fn slot(&mut self) -> usize {
            // SAFETY: the list is valid (condition of the function and of `Args::new`).
            let tag = unsafe { &mut *self.0 };
            if tag.integers < INTEGERS_END {
                // SAFETY: the save area has room for all six registers.
                let value = unsafe { tag.saved.add(tag.integers as usize).cast::<usize>().read() };
                tag.integers += 8;
                return value;
            }
            // SAFETY: the argument is on the stack then.
            unsafe {
                let value = tag.stack.read();
                tag.stack = tag.stack.add(1);
                value
            }
        }

        pub fn as_va_list_pointer(&mut self) -> *mut c_void {
            // A va_list is an array of one tag: a pointer to it is a pointer to the tag.
            self.0.cast()
        }

        /// # Safety
        /// `list` points to a valid `va_list`.
        pub unsafe fn copy_of(list: *mut c_void, storage: &mut Option<Tag>) -> Passed {
            // SAFETY: condition of the function.
            storage.insert(unsafe { *list.cast::<Tag>() })
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(any(windows, target_os = "uefi")))))]
mod convention {
    use core::ffi::c_void;

    /// Nothing needs storage for a copy.
    #[derive(Clone, Copy, Debug)]
    pub struct Tag;

    /// The `va_list` parameter: all variable arguments are on the stack, one after the other.
    pub type Passed = *mut usize;

    /// A reader.
    #[derive(Debug)]
    pub struct Reader(*mut usize);

    impl Reader {
        pub fn new(passed: Passed) -> Self {
            Self(passed)
        }

        /// # Safety
        /// There is one more argument, of at most a register's size.
        pub unsafe fn slot(&mut self) -> usize {
            // SAFETY: condition of the function.
            unsafe {
                let value = self.0.read();
                self.0 = self.0.add(1);
                value
            }
        }

        pub fn as_va_list_pointer(&mut self) -> *mut c_void {
            (&raw mut self.0).cast()
        }

        /// # Safety
        /// `list` points to a valid `va_list`.
        pub unsafe fn copy_of(list: *mut c_void, _storage: &mut Option<Tag>) -> Passed {
            // SAFETY: condition of the function.
            unsafe { *list.cast::<Passed>() }
        }
    }
}

/// A `va_list` parameter.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct VaList(convention::Passed);

/// Room for a copy of a list, where the convention needs it.
#[derive(Debug, Default)]
pub struct Copied(Option<convention::Tag>);

/// Reads the arguments of a list, front to back.
#[derive(Debug)]
pub struct Args(convention::Reader);

impl Args {
    /// A reader.
    ///
    /// # Safety
    /// The list stays valid, and nobody else reads it, while the reader is used.
    #[must_use]
    pub unsafe fn new(list: VaList) -> Self {
        Self(convention::Reader::new(list.0))
    }

    /// A reader of a copy of the list behind a `va_list *`.
    ///
    /// # Safety
    /// `list` points to a valid list.
    pub unsafe fn of_pointer(list: *mut c_void, storage: &mut Copied) -> Self {
        // SAFETY: condition of the function.
        Self(convention::Reader::new(unsafe { convention::Reader::copy_of(list, &mut storage.0) }))
    }

    /// The `va_list *` that callbacks get.
    pub fn as_va_list_pointer(&mut self) -> *mut c_void {
        self.0.as_va_list_pointer()
    }

    /// The next argument, of a pointer's size or smaller; smaller ones have undefined upper bits.
    ///
    /// # Safety
    /// There is one, of such a type.
    pub unsafe fn word(&mut self) -> usize {
        // SAFETY: condition of the function.
        unsafe { self.0.slot() }
    }

    /// The next argument, a pointer.
    ///
    /// # Safety
    /// There is one, of such a type.
    pub unsafe fn pointer<T>(&mut self) -> *const T {
        // SAFETY: condition of the function.
        unsafe { self.word() as *const T }
    }

    /// The next argument, 64 bits wide.
    ///
    /// # Safety
    /// There is one, of such a type.
    pub unsafe fn long(&mut self) -> u64 {
        // SAFETY: condition of the function: one word, or two with the low half first.
        unsafe {
            let low = self.word() as u64;
            if size_of::<usize>() == 8 { low } else { low | (self.word() as u64) << 32 }
        }
    }
}
