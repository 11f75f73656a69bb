//! The loader of ring-0 images.
//!
//! An image is known by its name, system wide, and by its base address. Sessions hold *usages* of it; the last one to go frees it.
//!
//! ```text
//!            LDR_OPEN            LDR_LOAD
//!   (none) ───────────► Open ───────────────► Loaded
//!                        │ ◄── any failure ──┘    │
//!                        │ last usage             │ last usage: ModuleTerm
//!                        └────────► freed ◄───────┘
//! ```
//!
//! All state is under the loader mutex, which is held while ModuleInit and ModuleTerm run: they must not use the loader.
//! Calls into an image (CALL_VMMR0, fast calls, CALL_SERVICE) run without it; a session only calls what it has a usage of. If
//! that usage goes while a call of the same session is inside, it is *doomed*: it is gone for every other purpose, and the end of
//! the call finishes the job (see [`call`]).

pub mod call;
mod image;
mod inside;
mod load;

use core::ops::Bound;
use core::sync::atomic::{AtomicU32, Ordering};

pub use image::{Name, State, normalised};
pub use load::LoadRequest;

use self::image::{Image, Placement, Tables};
use crate::abi::published::ImageView;
use crate::abi::status::{
    Result, VERR_ALREADY_LOADED, VERR_DANGLING_OBJECTS, VERR_GENERAL_FAILURE, VERR_INTERNAL_ERROR_2,
    VERR_INTERNAL_ERROR_3, VERR_INTERNAL_ERROR_5, VERR_INVALID_HANDLE, VERR_LDR_MISMATCH_NATIVE,
    VERR_MODULE_NOT_FOUND, VERR_NO_EXEC_MEMORY, VERR_NOT_SUPPORTED, VERR_SYMBOL_NOT_FOUND, VERR_WRONG_ORDER,
};
use crate::heap::Box;
use crate::log::log;
use crate::object::SessionKey;
use crate::os::{LockClass, NativeImage, SupdrvOs};
use crate::session::Session;
use crate::sync::{Mutex, atomics};
use crate::tree::{Node, Tree};

/// Images that one session may use at a time.
pub const MAX_IMAGES_PER_SESSION: usize = 256;
/// Image memory of the whole driver, in bytes.
pub const MAX_EXEC_BYTES: usize = 64 << 20;
/// References to one image.
const MAX_USAGE: u32 = 0x7fff_ffff;

/// The sizes that a client declares for an image, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bits, symbol and string tables.
    pub with_tables: u32,
    /// Bits alone.
    pub bits: u32,
}

/// What [`Session::ldr_open`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Load address.
    pub base: usize,
    /// Whether the bits are missing.
    pub needs_loading: bool,
    /// Whether the system's loader placed it.
    pub native: bool,
}

/// A session's usage of one image.
struct Usage {
    count: u32,
    /// When the session first opened it: images are released in reverse order of that.
    first: u64,
    /// Service calls inside.
    calls: u32,
    /// Gone, but for the calls inside.
    doomed: bool,
}

/// What the loader keeps in each session.
#[derive(Default)]
pub struct LoaderSession {
    /// Calls of this session inside the VMMR0 image.
    calls: inside::Calls,
    /// Images in use; under the loader mutex.
    images: AtomicU32,
}

type UsageKey = (SessionKey, usize);

struct Images<O: SupdrvOs> {
    by_name: Tree<Name, Box<Image<O>, O>, O>,
    by_base: Tree<usize, Name, O>,
    usages: Tree<UsageKey, Usage, O>,
    history: Tree<(SessionKey, u64), usize, O>,
    clock: u64,
    exec_bytes: usize,
}

impl<O: SupdrvOs> Images<O> {
    fn at(&self, base: usize) -> Option<&Image<O>> {
        self.by_name.get(self.by_base.get(&base)?).map(|image| &**image)
    }

    fn at_mut(&mut self, base: usize) -> Option<&mut Image<O>> {
        self.by_name.get_mut(self.by_base.get(&base)?).map(|image| &mut **image)
    }

    /// A usage that isn't doomed.
    fn usage(&mut self, key: &UsageKey) -> Option<&mut Usage> {
        self.usages.get_mut(key).filter(|usage| !usage.doomed)
    }

    /// Adds one reference of a session, with nodes for its first one.
    fn add_usage(
        &mut self,
        session: &Session<O>,
        base: usize,
        spare: &mut Option<SpareUsage<O>>,
    ) -> Result<()> {
        let key = (session.key(), base);
        let image = self.at_mut(base).ok_or(VERR_INVALID_HANDLE)?;
        let total =
            image.usage.checked_add(1).filter(|total| *total <= MAX_USAGE).ok_or(VERR_INTERNAL_ERROR_3)?;
        if let Some(usage) = self.usages.get_mut(&key) {
            // A doomed usage comes back: it still counts as one reference of the image.
            if usage.doomed {
                usage.doomed = false;
                return Ok(());
            }
            usage.count = usage.count.saturating_add(1);
        } else {
            let images = &session.loader.images;
            if images.load(Ordering::Relaxed) as usize >= MAX_IMAGES_PER_SESSION {
                return Err(VERR_NO_EXEC_MEMORY);
            }
            let SpareUsage(mut usage, mut history) = spare.take().ok_or(VERR_INTERNAL_ERROR_5)?;
            self.clock += 1;
            usage.set_key(key);
            usage.value_mut().first = self.clock;
            history.set_key((key.0, self.clock));
            *history.value_mut() = base;
            let unique = self.usages.insert(usage).is_ok() && self.history.insert(history).is_ok();
            debug_assert!(unique);
            images.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(image) = self.at_mut(base) {
            image.set_usage(total);
        }
        Ok(())
    }

    /// Removes a session's usage record and its references from the image; returns the image if that was all.
    fn remove_usage(&mut self, session: &Session<O>, base: usize) -> Option<Node<Name, Box<Image<O>, O>, O>> {
        let node = self.usages.remove(&(session.key(), base))?;
        self.history.remove(&(session.key(), node.value().first));
        session.loader.images.fetch_sub(1, Ordering::Relaxed);
        let image = self.at_mut(base)?;
        let left = image.usage.saturating_sub(node.value().count.max(1));
        image.set_usage(left);
        if left != 0 {
            return None;
        }
        let name = self.by_base.remove(&base)?;
        let image = self.by_name.remove(name.value())?;
        if !image.value().is_native() {
            self.exec_bytes = self.exec_bytes.saturating_sub(image.value().view.image_bytes as usize);
        }
        Some(image)
    }
}

struct SpareUsage<O: SupdrvOs>(Node<UsageKey, Usage, O>, Node<(SessionKey, u64), usize, O>);

impl<O: SupdrvOs> SpareUsage<O> {
    fn new(os: &O) -> Result<Self> {
        let usage = Usage { count: 1, first: 0, calls: 0, doomed: false };
        let nodes = Node::new(os, (0, 0), usage).and_then(|usage| Ok(Self(usage, Node::new(os, (0, 0), 0)?)));
        nodes.map_err(|_| VERR_INTERNAL_ERROR_5)
    }
}

/// The loader of a driver.
pub struct Loader<O: SupdrvOs> {
    os: O,
    images: Mutex<Images<O>, O>,
}

impl<O: SupdrvOs> Loader<O> {
    pub(crate) fn new(os: &O) -> Result<Self> {
        let images = Images {
            by_name: Tree::new(),
            by_base: Tree::new(),
            usages: Tree::new(),
            history: Tree::new(),
            clock: 0,
            exec_bytes: 0,
        };
        Ok(Self { os: os.clone(), images: Mutex::new(os, LockClass::Loader, images)? })
    }

    pub(crate) fn mutex_handle(&self) -> usize {
        self.images.handle()
    }

    /// Number of images. Class T.
    pub fn image_count(&self) -> usize {
        self.images.lock().by_name.len()
    }

    /// Opens an image; LDR_OPEN. `name` and `sizes` were validated.
    fn open(&self, session: &Session<O>, name: &Name, sizes: Sizes, file_name: &[u8]) -> Result<Opened> {
        let mut spare = Some(SpareUsage::new(&self.os)?);
        let mut images = self.images.lock();
        let result = match images.by_name.get(name) {
            Some(image) => {
                if (image.view.image_bytes_with_tables, image.view.image_bytes)
                    != (sizes.with_tables, sizes.bits)
                {
                    return Err(VERR_LDR_MISMATCH_NATIVE);
                }
                let (base, native) = (image.base, image.is_native());
                let needs_loading = image.state == State::Open;
                images.add_usage(session, base, &mut spare)?;
                Opened { base, needs_loading, native }
            }
            None => self.open_new(&mut images, session, name, sizes, file_name, &mut spare)?,
        };
        drop(images);
        drop(spare);
        Ok(result)
    }

    fn open_new(
        &self,
        images: &mut Images<O>,
        session: &Session<O>,
        name: &Name,
        sizes: Sizes,
        file_name: &[u8],
        spare: &mut Option<SpareUsage<O>>,
    ) -> Result<Opened> {
        let view = Image::<O>::new_view(name, sizes, session.driver().view());
        let view = Box::new(&self.os, view).map_err(|_| VERR_INTERNAL_ERROR_2)?;
        let by_base = Node::new(&self.os, 0, *name).map_err(|_| VERR_INTERNAL_ERROR_2)?;
        let (placement, base) = self.place(images, &view, sizes, file_name)?;
        let native = matches!(placement, Placement::Native(_));
        view.base.store(base, Ordering::Relaxed);
        view.native.store(u8::from(native), Ordering::Relaxed);
        if let Placement::Exec(memory) = &placement {
            view.allocation.store(self.os.exec_allocation(memory), Ordering::Relaxed);
        }
        let tables = Tables::empty(&self.os)?;
        let image = Image { placement, view, base, usage: 0, state: State::Open, tables };
        let image = Box::new(&self.os, image).map_err(|_| VERR_INTERNAL_ERROR_2)?;
        let by_name = Node::new(&self.os, *name, image).map_err(|_| VERR_INTERNAL_ERROR_2)?;
        let mut by_base = by_base;
        by_base.set_key(base);
        // What can still fail is checked before anything is published. The system's loader may know a file by two names.
        if images.by_base.get(&base).is_some() {
            return Err(VERR_ALREADY_LOADED);
        }
        if session.loader.images.load(Ordering::Relaxed) as usize >= MAX_IMAGES_PER_SESSION {
            return Err(VERR_NO_EXEC_MEMORY);
        }
        let unique = images.by_name.insert(by_name).is_ok() && images.by_base.insert(by_base).is_ok();
        debug_assert!(unique);
        if !native {
            images.exec_bytes += sizes.bits as usize;
        }
        images.add_usage(session, base, spare)?;
        if let Some(image) = images.at(base) {
            self.os.image_opened(&image.view);
        }
        Ok(Opened { base, needs_loading: true, native })
    }

    /// Finds a place for a new image: the system's loader, or else memory of ours.
    fn place(
        &self,
        images: &Images<O>,
        view: &ImageView,
        sizes: Sizes,
        file_name: &[u8],
    ) -> Result<(Placement<O>, usize)> {
        match self.os.native_open(view, file_name) {
            Ok(NativeImage { handle, base }) => {
                return Ok((Placement::Native(handle), base.as_ptr() as usize));
            }
            Err(VERR_NOT_SUPPORTED) => {}
            Err(status) => return Err(status),
        }
        let bytes = sizes.bits as usize;
        if images.exec_bytes.saturating_add(bytes) > MAX_EXEC_BYTES {
            return Err(VERR_NO_EXEC_MEMORY);
        }
        let memory = self.os.exec_alloc(bytes).map_err(|_| VERR_NO_EXEC_MEMORY)?;
        let base = self.os.exec_base(&memory).as_ptr() as usize;
        Ok((Placement::Exec(memory), base))
    }

    /// Drops one reference of a session; LDR_FREE.
    fn free(&self, session: &Session<O>, base: usize) -> Result<()> {
        let mut images = self.images.lock();
        let usage = images.usage(&(session.key(), base)).ok_or(VERR_INVALID_HANDLE)?;
        let (count, calls) = (usage.count, usage.calls);
        let image = images.at(base).ok_or(VERR_INVALID_HANDLE)?;
        let (total, bytes) = (image.usage, image.view.image_bytes as usize);
        if count > 1 {
            if let Some(usage) = images.usage(&(session.key(), base)) {
                usage.count -= 1;
            }
            if let Some(image) = images.at_mut(base) {
                image.set_usage(total - 1);
            }
            return Ok(());
        }
        let only_mine = if total > 1 { Some(session.key()) } else { None };
        let objects = session.driver().objects();
        if objects.has_destructor_in(base, bytes, only_mine) {
            return Err(VERR_DANGLING_OBJECTS);
        }
        let is_vmmr0 = self.owns_vmmr0(session, base);
        if is_vmmr0 {
            session.loader.calls.withdraw();
        }
        if calls != 0 || (is_vmmr0 && session.loader.calls.any_inside()) {
            if let Some(usage) = images.usage(&(session.key(), base)) {
                usage.doomed = true;
            }
            return Ok(());
        }
        // A destructor that runs is an object that is still there.
        if self.drop_usage(&mut images, session, base) {
            return Ok(());
        }
        if is_vmmr0 {
            session.loader.calls.allow();
        }
        Err(VERR_DANGLING_OBJECTS)
    }

    /// Drops a session's usage of an image, and frees the image if that was the last one. `false`, and nothing happens, if it is the last and a
    /// destructor in the image runs.
    fn drop_usage(&self, images: &mut Images<O>, session: &Session<O>, base: usize) -> bool {
        let Some(mine) = images.usages.get(&(session.key(), base)).map(|usage| usage.count) else {
            return true;
        };
        let Some(image) = images.at(base) else { return true };
        let objects = session.driver().objects();
        let (is_last, is_vmmr0) = (image.usage <= mine, self.owns_vmmr0(session, base));
        if is_last && !objects.bar(base, image.view.image_bytes as usize) {
            return false;
        }
        if is_vmmr0 {
            session.loader.calls.freed();
        }
        if let Some(image) = images.remove_usage(session, base) {
            self.destroy_image(session, image);
        }
        if is_last {
            objects.unbar();
        }
        true
    }

    /// As [`drop_usage`](Self::drop_usage), if `is_due` still says so whenever the loader is locked; waits for destructors, without the lock.
    fn drop_usage_when_idle(&self, session: &Session<O>, base: usize, is_due: impl Fn(&Images<O>) -> bool) {
        loop {
            let mut images = self.images.lock();
            if !is_due(&images) || self.drop_usage(&mut images, session, base) {
                return;
            }
            drop(images);
            session.driver().objects().bury();
            self.os.sleep_ms(1);
        }
    }

    fn owns_vmmr0(&self, session: &Session<O>, base: usize) -> bool {
        session.driver().published().vmmr0.load(Ordering::Relaxed) == base
    }

    /// Frees an image that nobody uses any more; the loader mutex is held.
    fn destroy_image(&self, session: &Session<O>, mut node: Node<Name, Box<Image<O>, O>, O>) {
        let driver = session.driver();
        let image = &mut **node.value_mut();
        let bytes = image.view.image_bytes as usize;
        if self.owns_vmmr0(session, image.base) {
            load::clear_vmmr0(driver.published());
        }
        let mut cleared = driver.objects().clear_destructors_in(image.base, bytes);
        let term = image.view.module_term.load(Ordering::Relaxed);
        if image.state == State::Loaded && term != 0 {
            // SAFETY: the address was checked to be inside the image when it was loaded, whose code is still there.
            let term: load::ModuleTerm = unsafe { core::mem::transmute(term) };
            // SAFETY: class T, loader mutex held, as modules know it.
            unsafe { term(image.handle().cast_mut().cast()) };
            // Terminating code may have registered once more.
            cleared += driver.objects().clear_destructors_in(image.base, bytes);
        }
        driver.tracer().module_unloading(image.handle() as usize);
        if cleared != 0 {
            log(&self.os, &[b"supdrv: objects outlive their image ", &image.view.name]);
        }
        if driver.components().image_closing(image.base, bytes) != 0 {
            log(&self.os, &[b"supdrv: component factories outlive their image ", &image.view.name]);
        }
        if let Ok(empty) = Tables::empty(&self.os) {
            image.set_state(State::Open, empty, 0, 0);
        }
        image.set_usage(0);
        drop(node);
    }

    /// Address of a symbol of an image of this session; LDR_GET_SYMBOL.
    fn symbol(&self, session: &Session<O>, base: usize, name: &[u8]) -> Result<usize> {
        let mut images = self.images.lock();
        images.usage(&(session.key(), base)).ok_or(VERR_INVALID_HANDLE)?;
        let image = images.at(base).ok_or(VERR_INVALID_HANDLE)?;
        if image.state != State::Loaded {
            return Err(VERR_ALREADY_LOADED);
        }
        image.symbol(name).ok_or(VERR_GENERAL_FAILURE)
    }

    /// Address of a symbol of any loaded image, for a sibling driver; the session gets a usage of the image, which it keeps until
    /// it is closed. Class T.
    ///
    /// # Errors
    /// `VERR_MODULE_NOT_FOUND`, `VERR_WRONG_ORDER` (not loaded), `VERR_SYMBOL_NOT_FOUND`, `VERR_INTERNAL_ERROR_5` (no memory).
    pub fn symbol_for_sibling(&self, session: &Session<O>, module: &Name, name: &[u8]) -> Result<usize> {
        let mut spare = Some(SpareUsage::new(&self.os)?);
        let mut images = self.images.lock();
        let image = images.by_name.get(module).ok_or(VERR_MODULE_NOT_FOUND)?;
        if image.state != State::Loaded {
            return Err(VERR_WRONG_ORDER);
        }
        let (base, address) = (image.base, image.symbol(name).ok_or(VERR_SYMBOL_NOT_FOUND)?);
        let result = images.add_usage(session, base, &mut spare);
        drop(images);
        drop(spare);
        result.map(|()| address)
    }

    /// Drops all usages of a session, latest first.
    pub(crate) fn session_closing(&self, session: &Session<O>) {
        let last = || {
            let images = self.images.lock();
            let last = images.history.upper_bound(Bound::Included(&(session.key(), u64::MAX)));
            last.filter(|((owner, _), _)| *owner == session.key()).map(|(_, &base)| base)
        };
        while let Some(base) = last() {
            self.drop_usage_when_idle(session, base, |_| true);
        }
    }

    /// Frees what is left when the driver goes away, without calling into modules.
    pub(crate) fn clear(&self) {
        let mut images = self.images.lock();
        while let Some(image) = images.by_name.pop_first() {
            log(&self.os, &[b"supdrv: image left at unload: ", image.key()]);
        }
        images.by_base = Tree::new();
        images.usages = Tree::new();
        images.history = Tree::new();
    }
}

/// Loader services. Class T, may block.
impl<O: SupdrvOs> Session<O> {
    /// Opens an image by name, creating it if nobody has; it isn't loaded by that. The caller has validated name and sizes.
    ///
    /// # Errors
    /// `VERR_LDR_MISMATCH_NATIVE` (known, with other sizes), `VERR_NO_EXEC_MEMORY`, `VERR_INTERNAL_ERROR_2`, `_3`, `_5`, or the
    /// system loader's.
    #[doc(alias = "SUP_IOCTL_LDR_OPEN")]
    pub fn ldr_open(&self, name: &Name, sizes: Sizes, file_name: &[u8]) -> Result<Opened> {
        self.driver().loader().open(self, name, sizes, file_name)
    }

    /// Drops one of the session's references to an image.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`: it has none. `VERR_DANGLING_OBJECTS`: objects with destructors in the image still exist, and the
    /// reference stays (the request reports success then).
    #[doc(alias = "SUP_IOCTL_LDR_FREE")]
    pub fn ldr_free(&self, base: usize) -> Result<()> {
        self.driver().loader().free(self, base)
    }

    /// Address of a symbol.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE` (not an image of this session), `VERR_ALREADY_LOADED` (opened, but not loaded: the interface says it
    /// that way), `VERR_GENERAL_FAILURE` (no such symbol).
    #[doc(alias = "SUP_IOCTL_LDR_GET_SYMBOL")]
    pub fn ldr_symbol(&self, base: usize, name: &[u8]) -> Result<usize> {
        self.driver().loader().symbol(self, base, name)
    }
}

#[cfg(test)]
mod tests {
    use super::MAX_USAGE;
    use crate::abi::status::VERR_INTERNAL_ERROR_3;
    use crate::mock::Host;
    use crate::mock::client::Image;

    #[test]
    fn an_image_is_not_opened_more_often_than_its_count_can_say() {
        let host = Host::new();
        let client = host.open();
        let image = Image::new("image", &[0xc3; 16]);
        let base = client.ldr_open(&image, "").expect("opened").base;
        let set_usage = |usage| {
            let mut images = host.driver().loader().images.lock();
            images.at_mut(base).expect("the image").set_usage(usage);
        };
        set_usage(MAX_USAGE - 1);
        assert_eq!(client.ldr_open(&image, "").map(|opened| opened.base), Ok(base));
        for session in [&client, &host.open()] {
            assert_eq!(session.ldr_open(&image, "").map(|opened| opened.base), Err(VERR_INTERNAL_ERROR_3));
        }
        // Two opens are left to be given back.
        set_usage(2);
        assert_eq!(client.ldr_free(base), Ok(()));
        assert_eq!(client.ldr_free(base), Ok(()));
        assert_eq!(host.counters().images, 0);
    }
}
