//! Fallible owning pointers over the kernel heap.
//!
//! There is no global allocator in a kernel that the core could rely on, and the `alloc` crate aborts when memory is short.
//! These three types are all the core needs: [`Box`], [`Arc`] and the fixed-length [`Array`]. Each keeps a clone of its
//! system (zero-sized in a kernel). Creating and dropping them is class T.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

use zerocopy::FromZeros;

use crate::abi::status::{Result, VERR_NO_MEMORY};
use crate::os::OsHeap;

fn alloc_zeroed<O: OsHeap>(os: &O, layout: Layout) -> Result<NonNull<u8>> {
    os.heap_alloc_zeroed(layout).ok_or(VERR_NO_MEMORY)
}

/// A heap value with one owner.
pub struct Box<T, O: OsHeap> {
    value: NonNull<T>,
    os: O,
    _owns: PhantomData<T>,
}

// SAFETY: a Box owns its value like a plain value would be owned, and `O` is shared by all contexts anyway.
unsafe impl<T: Send, O: OsHeap + Send> Send for Box<T, O> {}
// SAFETY: as above; a shared Box gives shared access only.
unsafe impl<T: Sync, O: OsHeap + Sync> Sync for Box<T, O> {}

impl<T, O: OsHeap + Clone> Box<T, O> {
    /// Moves `value` to the heap.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`; the value is dropped then.
    pub fn new(os: &O, value: T) -> Result<Self> {
        const { assert!(size_of::<T>() != 0) };
        let memory = alloc_zeroed(os, Layout::new::<T>())?.cast::<T>();
        // SAFETY: the memory is fresh and has the layout of T.
        unsafe { memory.write(value) };
        Ok(Self { value: memory, os: os.clone(), _owns: PhantomData })
    }

    /// Takes the value off the heap. Class T.
    #[must_use]
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped: the value is moved out once, and `os` is moved out once.
        let (value, os) = unsafe { (this.value.read(), core::ptr::read(&raw const this.os)) };
        // SAFETY: allocated by `new` with this layout from this system; the value has left it.
        unsafe { os.heap_free(this.value.cast(), Layout::new::<T>()) };
        value
    }

    /// Gives up ownership, for a pointer that C code holds.
    #[must_use]
    pub fn into_raw(self) -> NonNull<T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so that its `os` is dropped exactly once, here.
        unsafe { core::ptr::drop_in_place(&raw mut this.os) };
        this.value
    }

    /// Takes ownership back.
    ///
    /// # Safety
    /// `value` came from [`into_raw`](Self::into_raw) of the same system and is given back once.
    pub unsafe fn from_raw(os: &O, value: NonNull<T>) -> Self {
        Self { value, os: os.clone(), _owns: PhantomData }
    }
}

impl<T: FromZeros, O: OsHeap + Clone> Box<T, O> {
    /// A zeroed value, for types that are too large to be moved.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub fn new_zeroed(os: &O) -> Result<Self> {
        const { assert!(size_of::<T>() != 0) };
        let memory = alloc_zeroed(os, Layout::new::<T>())?.cast::<T>();
        Ok(Self { value: memory, os: os.clone(), _owns: PhantomData })
    }
}

impl<T, O: OsHeap> Box<T, O> {
    /// Address of the value, which doesn't change while it lives.
    #[must_use]
    pub const fn as_ptr(&self) -> NonNull<T> {
        self.value
    }
}

impl<T, O: OsHeap> Deref for Box<T, O> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the Box owns an initialised T.
        unsafe { self.value.as_ref() }
    }
}

impl<T, O: OsHeap> DerefMut for Box<T, O> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the Box owns an initialised T, and `self` is borrowed exclusively.
        unsafe { self.value.as_mut() }
    }
}

impl<T, O: OsHeap> Drop for Box<T, O> {
    fn drop(&mut self) {
        // SAFETY: the value is owned and initialised, and is not used afterwards.
        unsafe { self.value.drop_in_place() };
        // SAFETY: allocated by `new` with this layout from this system.
        unsafe { self.os.heap_free(self.value.cast(), Layout::new::<T>()) };
    }
}

struct ArcInner<T> {
    refs: AtomicUsize,
    value: T,
}

/// A heap value that lives until its last owner is gone. The last drop frees: class T.
pub struct Arc<T, O: OsHeap> {
    inner: NonNull<ArcInner<T>>,
    os: O,
    _owns: PhantomData<ArcInner<T>>,
}

// SAFETY: like alloc::sync::Arc: shared access from several threads, dropped by any of them.
unsafe impl<T: Send + Sync, O: OsHeap + Send> Send for Arc<T, O> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, O: OsHeap + Sync> Sync for Arc<T, O> {}

impl<T, O: OsHeap + Clone> Arc<T, O> {
    /// Moves `value` to the heap.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`; the value is dropped then.
    pub fn new(os: &O, value: T) -> Result<Self> {
        let memory = alloc_zeroed(os, Layout::new::<ArcInner<T>>())?.cast::<ArcInner<T>>();
        // SAFETY: the memory is fresh and has the right layout.
        unsafe { memory.write(ArcInner { refs: AtomicUsize::new(1), value }) };
        Ok(Self { inner: memory, os: os.clone(), _owns: PhantomData })
    }
}

impl<T, O: OsHeap> Arc<T, O> {
    /// The value, if this is its only owner.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if self.refs().load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: there is one owner, it is borrowed exclusively, and only an owner can make another one.
        Some(unsafe { &mut self.inner.as_mut().value })
    }
}

impl<T, O: OsHeap + Clone> Clone for Arc<T, O> {
    /// Class I: never allocates.
    fn clone(&self) -> Self {
        self.refs().fetch_add(1, Ordering::Relaxed);
        Self { inner: self.inner, os: self.os.clone(), _owns: PhantomData }
    }
}

impl<T, O: OsHeap> Arc<T, O> {
    fn refs(&self) -> &AtomicUsize {
        // SAFETY: the inner value lives as long as any Arc to it.
        unsafe { &self.inner.as_ref().refs }
    }
}

impl<T, O: OsHeap> Deref for Arc<T, O> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the inner value lives as long as any Arc to it.
        unsafe { &self.inner.as_ref().value }
    }
}

impl<T, O: OsHeap> Drop for Arc<T, O> {
    fn drop(&mut self) {
        if self.refs().fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: this was the last owner; the fence orders all other owners' accesses before the drop.
        unsafe { self.inner.drop_in_place() };
        // SAFETY: allocated by `new` with this layout from this system.
        unsafe { self.os.heap_free(self.inner.cast(), Layout::new::<ArcInner<T>>()) };
    }
}

/// A heap array of fixed length. The empty one owns no memory.
pub struct Array<T, O: OsHeap> {
    items: NonNull<T>,
    len: usize,
    os: O,
    _owns: PhantomData<T>,
}

// SAFETY: as for Box.
unsafe impl<T: Send, O: OsHeap + Send> Send for Array<T, O> {}
// SAFETY: as for Box.
unsafe impl<T: Sync, O: OsHeap + Sync> Sync for Array<T, O> {}

impl<T: FromZeros, O: OsHeap + Clone> Array<T, O> {
    /// Allocates `len` zeroed items.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, also if the size can't be expressed.
    pub fn new_zeroed(os: &O, len: usize) -> Result<Self> {
        const { assert!(size_of::<T>() != 0 && !mem::needs_drop::<T>()) };
        if len == 0 {
            return Ok(Self { items: NonNull::dangling(), len, os: os.clone(), _owns: PhantomData });
        }
        let layout = Layout::array::<T>(len).map_err(|_| VERR_NO_MEMORY)?;
        let items = alloc_zeroed(os, layout)?.cast();
        Ok(Self { items, len, os: os.clone(), _owns: PhantomData })
    }

    /// Copies a slice to the heap.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub fn copy_of(os: &O, from: &[T]) -> Result<Self>
    where
        T: Copy,
    {
        let mut array = Self::new_zeroed(os, from.len())?;
        for (to, from) in array.iter_mut().zip(from) {
            *to = *from;
        }
        Ok(array)
    }
}

impl<T, O: OsHeap + Clone> Array<T, O> {
    /// Allocates `len` items and makes each in its place.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`, also if the size can't be expressed.
    pub fn from_fn(os: &O, len: usize, mut item: impl FnMut(usize) -> T) -> Result<Self> {
        const { assert!(size_of::<T>() != 0 && !mem::needs_drop::<T>()) };
        let layout = Layout::array::<T>(len).map_err(|_| VERR_NO_MEMORY)?;
        let items = if len == 0 { NonNull::dangling() } else { alloc_zeroed(os, layout)?.cast::<T>() };
        for index in 0..len {
            // SAFETY: the allocation has room for `len` items.
            unsafe { items.add(index).write(item(index)) };
        }
        Ok(Self { items, len, os: os.clone(), _owns: PhantomData })
    }
}

impl<T, O: OsHeap> Deref for Array<T, O> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `items` points to `len` initialised items (zeroed items are valid: FromZeros), or dangles and len is 0.
        unsafe { core::slice::from_raw_parts(self.items.as_ptr(), self.len) }
    }
}

impl<T, O: OsHeap> DerefMut for Array<T, O> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for Deref, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.items.as_ptr(), self.len) }
    }
}

impl<T, O: OsHeap> Drop for Array<T, O> {
    fn drop(&mut self) {
        if let (1.., Ok(layout)) = (self.len, Layout::array::<T>(self.len)) {
            // SAFETY: allocated by `new_zeroed` with this layout; items need no drop (asserted there).
            unsafe { self.os.heap_free(self.items.cast(), layout) };
        }
    }
}
