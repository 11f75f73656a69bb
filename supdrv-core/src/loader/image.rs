//! One image: where it is, what it exports, and its published view.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering, compiler_fence};

use zerocopy::FromBytes;

use crate::abi::ioctl::{Function, IOCTL_FLAG};
use crate::abi::layout::WIDTH;
use crate::abi::packets::packet;
use crate::abi::published::{DevExtView, ImageView};
use crate::abi::requests::LdrSymbol;
use crate::abi::status::{Result, VERR_INTERNAL_ERROR_3, VERR_INTERNAL_ERROR_4};
use crate::heap::{Array, Box};
use crate::os::SupdrvOs;

/// A name as the interface holds it: NUL-padded, at most 31 bytes.
pub type Name = [u8; 32];

/// Pads a name with NULs, so that equal names are equal arrays.
pub fn normalised(name: &[u8]) -> Name {
    let mut padded = [0; 32];
    for (to, from) in padded.iter_mut().zip(name.iter().take_while(|byte| **byte != 0).take(31)) {
        *to = *from;
    }
    padded
}

/// How far an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has an address; its bits are missing.
    Open,
    /// It runs.
    Loaded,
}

impl State {
    /// What the published view says: the function code of the last operation, as this system makes it.
    fn published<O: SupdrvOs>(self) -> u32 {
        let function = match self {
            Self::Open => Function::LdrOpen,
            Self::Loaded => Function::LdrLoad,
        };
        let bytes = packet(function).and_then(|packet| packet.input.bytes(WIDTH, 0)).unwrap_or(0);
        O::ENCODING.code(function, bytes as u32, IOCTL_FLAG)
    }
}

/// Where the code is.
pub enum Placement<O: SupdrvOs> {
    /// In memory of ours; ring-3 relocated the bits.
    Exec(O::ExecMem),
    /// Where the system's loader put it.
    Native(O::Native),
}

/// The tables of a loaded image, and an index over the names.
pub struct Tables<O: SupdrvOs> {
    strings: Array<u8, O>,
    symbols: Array<LdrSymbol, O>,
    /// Open addressing by hash of the name: symbol number + 1, 0 for free. At most half full.
    index: Array<u32, O>,
}

impl<O: SupdrvOs> Drop for Tables<O> {
    /// The names may tell secrets of their module: they don't stay in free memory.
    fn drop(&mut self) {
        self.strings.iter_mut().for_each(|byte| *byte = 0);
        self.symbols.iter_mut().for_each(|symbol| *symbol = LdrSymbol { name_offset: 0, symbol_offset: 0 });
        compiler_fence(Ordering::SeqCst);
    }
}

fn hash(name: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5_u32;
    for byte in name {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash as usize
}

impl<O: SupdrvOs> Tables<O> {
    /// No symbols.
    pub fn empty(os: &O) -> Result<Self> {
        Self::new(os, &[], &[])
    }

    /// Copies the tables; both were checked to fit each other.
    ///
    /// # Errors
    /// `VERR_INTERNAL_ERROR_3` for the strings, `VERR_INTERNAL_ERROR_4` for the symbols: out of memory.
    pub fn new(os: &O, symbols: &[u8], strings: &[u8]) -> Result<Self> {
        let strings = Array::copy_of(os, strings).map_err(|_| VERR_INTERNAL_ERROR_3)?;
        let count = symbols.len() / size_of::<LdrSymbol>();
        let mut copy = Array::<LdrSymbol, O>::new_zeroed(os, count).map_err(|_| VERR_INTERNAL_ERROR_4)?;
        for (to, from) in copy.iter_mut().zip(symbols.chunks_exact(size_of::<LdrSymbol>())) {
            if let Ok(symbol) = LdrSymbol::read_from_bytes(from) {
                *to = symbol;
            }
        }
        let slots = if count == 0 { 0 } else { (count * 2).next_power_of_two() };
        let index = Array::new_zeroed(os, slots).map_err(|_| VERR_INTERNAL_ERROR_4)?;
        let mut tables = Self { strings, symbols: copy, index };
        tables.fill_index();
        Ok(tables)
    }

    fn name_of(&self, symbol: &LdrSymbol) -> &[u8] {
        let rest = self.strings.get(symbol.name_offset as usize..).unwrap_or(&[]);
        rest.split(|byte| *byte == 0).next().unwrap_or(&[])
    }

    /// Slots to look at for a name, in order.
    fn probe(&self, name: &[u8]) -> impl Iterator<Item = usize> + use<O> {
        let (start, mask) = (hash(name), self.index.len().wrapping_sub(1));
        (0..self.index.len()).map(move |step| start.wrapping_add(step) & mask)
    }

    fn fill_index(&mut self) {
        for number in 0..self.symbols.len() {
            let Some(symbol) = self.symbols.get(number) else { return };
            let name = self.name_of(symbol);
            // The first of equal names wins: a later one finds it on its way and is left out.
            let mut place = None;
            for slot in self.probe(name) {
                let taken = self.index.get(slot).copied().unwrap_or(0);
                if taken == 0 {
                    place = Some(slot);
                    break;
                }
                if self.symbols.get(taken as usize - 1).is_some_and(|other| self.name_of(other) == name) {
                    break;
                }
            }
            if let Some(slot) = place.and_then(|slot| self.index.get_mut(slot)) {
                *slot = number as u32 + 1;
            }
        }
    }

    /// Offset of a symbol from the image base, sign-extended.
    pub fn find(&self, name: &[u8]) -> Option<isize> {
        for slot in self.probe(name) {
            let number = self.index.get(slot).copied()?.checked_sub(1)?;
            let symbol = self.symbols.get(number as usize)?;
            if self.name_of(symbol) == name {
                return Some(symbol.symbol_offset.cast_signed() as isize);
            }
        }
        None
    }
}

/// An image.
pub struct Image<O: SupdrvOs> {
    /// Where the code is. Freed first: code must be unreachable before its tables go, and the system's loader may look at the
    /// view while it unloads.
    pub placement: Placement<O>,
    /// What C code sees. Its address is the module handle, known to C code from before the image has a place.
    pub view: Box<ImageView, O>,
    /// Load address.
    pub base: usize,
    /// References of all sessions.
    pub usage: u32,
    /// How far it is.
    pub state: State,
    /// Empty unless loaded.
    pub tables: Tables<O>,
}

impl<O: SupdrvOs> Image<O> {
    /// The published view of an image that is being opened.
    pub fn new_view(name: &Name, sizes: super::Sizes, dev_ext: NonNull<DevExtView>) -> ImageView {
        ImageView {
            next: 0,
            base: 0.into(),
            allocation: 0.into(),
            image_bytes_with_tables: sizes.with_tables,
            image_bytes: sizes.bits,
            symbol_count: 0.into(),
            pad0: Default::default(),
            symbols: 0.into(),
            strings: 0.into(),
            strings_bytes: 0.into(),
            pad1: Default::default(),
            module_init: 0.into(),
            module_term: 0.into(),
            service: 0.into(),
            state: State::Open.published::<O>().into(),
            usage: 0.into(),
            dev_ext: AtomicPtr::new(dev_ext.as_ptr()),
            #[cfg(feature = "legacy-image-words")]
            system: Default::default(),
            native: 0.into(),
            name: *name,
            pad2: Default::default(),
        }
    }

    /// Whether an address is inside the bits.
    pub fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.base) < self.view.image_bytes as usize
    }

    /// Whether the system's loader placed it.
    pub const fn is_native(&self) -> bool {
        matches!(self.placement, Placement::Native(_))
    }

    /// Address of a symbol.
    pub fn symbol(&self, name: &[u8]) -> Option<usize> {
        Some(self.base.wrapping_add_signed(self.tables.find(name)?))
    }

    /// Changes the number of references.
    pub fn set_usage(&mut self, usage: u32) {
        self.usage = usage;
        self.view.usage.store(usage, Ordering::Relaxed);
    }

    /// Enters a state with its tables and callbacks, and publishes them.
    ///
    /// The system's loader may correct symbols in the published table.
    pub fn set_state(&mut self, state: State, mut tables: Tables<O>, init: usize, term: usize) {
        let view = &self.view;
        view.symbol_count.store(tables.symbols.len() as u32, Ordering::Relaxed);
        view.strings_bytes.store(tables.strings.len() as u32, Ordering::Relaxed);
        let address = |empty: bool, pointer: usize| if empty { 0 } else { pointer };
        view.symbols.store(
            address(tables.symbols.is_empty(), tables.symbols.as_mut_ptr() as usize),
            Ordering::Relaxed,
        );
        view.strings
            .store(address(tables.strings.is_empty(), tables.strings.as_ptr() as usize), Ordering::Relaxed);
        view.module_init.store(init, Ordering::Relaxed);
        view.module_term.store(term, Ordering::Relaxed);
        view.service.store(0, Ordering::Relaxed);
        view.state.store(state.published::<O>(), Ordering::Relaxed);
        self.state = state;
        self.tables = tables;
    }

    /// The module handle that its callbacks get.
    pub fn handle(&self) -> *const ImageView {
        self.view.as_ptr().as_ptr()
    }
}
