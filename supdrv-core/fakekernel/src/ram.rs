//! Physical memory: a sparse file, whose pages can be mapped at several addresses of the test program.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;

/// Size of a page.
pub const PAGE: usize = 4096;
/// Below this there is no memory.
const FIRST: u64 = 16 << 20;
/// Where memory ends: there is some above 4 GiB, and it is given out first.
const END: u64 = 8 << 30;
const FOUR_GIB: u64 = 4 << 30;
/// What fresh pages contain.
const GARBAGE: u8 = 0xa5;

/// Access rights of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(libc::c_int);

impl Access {
    /// From the numbers that all systems have: read 1, write 2, execute 4.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let pick = |bit, flag| if bits & bit != 0 { flag } else { 0 };
        Self(pick(1, libc::PROT_READ) | pick(2, libc::PROT_WRITE) | pick(4, libc::PROT_EXEC))
    }

    /// Everything but execution.
    #[must_use]
    pub fn read_write() -> Self {
        Self(libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)
    }
}

#[derive(Default)]
struct State {
    /// Free ranges: start to end, in bytes.
    free: BTreeMap<u64, u64>,
    /// Pages at addresses, for looking them up again.
    mapped: BTreeMap<usize, u64>,
    /// Pages that processes got in exchange for their own.
    adopted: usize,
    in_use: usize,
}

/// The machine's memory.
pub struct Ram {
    file: OwnedFd,
    state: Mutex<State>,
}

impl Default for Ram {
    fn default() -> Self {
        Self::new()
    }
}

impl Ram {
    /// A machine's memory.
    ///
    /// # Panics
    /// The host has no memory files.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: makes a new file; the descriptor is ours alone.
        let file = unsafe {
            let descriptor = libc::memfd_create(c"ram".as_ptr(), libc::MFD_CLOEXEC);
            assert!(descriptor >= 0, "no memory file");
            assert_eq!(libc::ftruncate64(descriptor, END as libc::off64_t), 0, "no sparse file");
            OwnedFd::from_raw_fd(descriptor)
        };
        let free = BTreeMap::from([(FIRST, FOUR_GIB), (FOUR_GIB, END)]);
        Self { file, state: Mutex::new(State { free, ..State::default() }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Pages that are given out, without those that processes got in exchange for their own.
    #[must_use]
    pub fn in_use(&self) -> usize {
        let state = self.lock();
        state.in_use - state.adopted
    }

    /// Takes contiguous pages that end at or below `highest`; they contain garbage. Returns the physical address.
    #[must_use]
    pub fn alloc(&self, pages: usize, highest: u64, align: u64) -> Option<u64> {
        let bytes = (pages * PAGE) as u64;
        let phys = {
            let mut state = self.lock();
            let fits = |start: u64, end: u64| {
                let place = start.next_multiple_of(align.max(PAGE as u64));
                (place + bytes <= end && place + bytes - 1 <= highest).then_some(place)
            };
            let found =
                state.free.iter().rev().find_map(|(start, end)| Some((*start, *end, fits(*start, *end)?)));
            let (start, end, place) = found?;
            state.free.remove(&start);
            if start < place {
                state.free.insert(start, place);
            }
            if place + bytes < end {
                state.free.insert(place + bytes, end);
            }
            state.in_use += pages;
            place
        };
        for page in 0..pages {
            self.fill(phys + (page * PAGE) as u64, GARBAGE);
        }
        Some(phys)
    }

    /// Gives pages back.
    pub fn free(&self, phys: u64, pages: usize) {
        let bytes = (pages * PAGE) as u64;
        let mut state = self.lock();
        if state.mapped.values().any(|page| (phys..phys + bytes).contains(page)) {
            crate::violation(&format!("page {phys:#x} is freed while it is mapped"));
        }
        let overlaps = state.free.iter().any(|(start, end)| *start < phys + bytes && phys < *end);
        if overlaps || phys < FIRST || phys + bytes > END {
            crate::violation(&format!("page {phys:#x} is freed twice"));
        }
        let (mut start, mut end) = (phys, phys + bytes);
        if let Some((before, _)) =
            state.free.range(..phys).next_back().filter(|(_, end)| **end == phys && phys != FOUR_GIB)
        {
            start = *before;
        }
        state.free.remove(&start);
        if end != FOUR_GIB
            && let Some(after) = state.free.remove(&end)
        {
            end = after;
        }
        state.free.insert(start, end);
        state.in_use -= pages;
        // Under the lock still: the next owner's memory must not go.
        // SAFETY: a hole in our own file; the host gets the memory back.
        unsafe {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            libc::fallocate64(self.file.as_raw_fd(), mode, phys as libc::off64_t, bytes as libc::off64_t);
        }
    }

    /// Fills a page.
    pub fn fill(&self, phys: u64, byte: u8) {
        self.write(phys, &[byte; PAGE]);
    }

    /// Writes at a physical address.
    pub fn write(&self, phys: u64, bytes: &[u8]) {
        // SAFETY: writes readable memory to our own file.
        let written = unsafe {
            libc::pwrite64(self.file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), phys as libc::off64_t)
        };
        assert_eq!(usize::try_from(written), Ok(bytes.len()), "physical memory at {phys:#x}");
    }

    /// Reads at a physical address.
    pub fn read(&self, phys: u64, bytes: &mut [u8]) {
        // SAFETY: reads our own file into writable memory.
        let read = unsafe {
            libc::pread64(
                self.file.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                phys as libc::off64_t,
            )
        };
        assert_eq!(usize::try_from(read), Ok(bytes.len()), "physical memory at {phys:#x}");
    }

    /// Reserves addresses without memory.
    #[must_use]
    pub fn reserve(bytes: usize) -> Option<usize> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping where the host wants it.
        let place = unsafe { libc::mmap(core::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        (place != libc::MAP_FAILED).then_some(place as usize)
    }

    /// Gives addresses back that hold no pages.
    pub fn unreserve(&self, address: usize, bytes: usize) {
        if self.lock().mapped.range(address..address + bytes).next().is_some() {
            crate::violation(&format!("addresses at {address:#x} are given back with pages in them"));
        }
        // SAFETY: reserved by us, and nothing is there.
        unsafe { libc::munmap(address as *mut libc::c_void, bytes) };
    }

    /// Puts pages at reserved addresses, instead of what was there.
    pub fn map_at(&self, address: usize, pages: &[u64], access: Access) {
        let mut first = 0;
        while first < pages.len() {
            let base = pages[first];
            let run = pages[first..]
                .iter()
                .enumerate()
                .take_while(|(i, page)| **page == base + (i * PAGE) as u64)
                .count();
            let place = (address + first * PAGE) as *mut libc::c_void;
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            // SAFETY: replaces addresses that the caller owns.
            let mapped = unsafe {
                libc::mmap64(place, run * PAGE, access.0, flags, self.file.as_raw_fd(), base as libc::off64_t)
            };
            assert_ne!(mapped, libc::MAP_FAILED, "mapping physical memory");
            first += run;
        }
        let mut state = self.lock();
        state.mapped.extend(pages.iter().enumerate().map(|(i, page)| (address + i * PAGE, *page)));
    }

    /// Takes pages away from their addresses, which stay reserved.
    pub fn unmap(&self, address: usize, pages: usize) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: replaces addresses that the caller owns.
        unsafe { libc::mmap(address as *mut libc::c_void, pages * PAGE, libc::PROT_NONE, flags, -1, 0) };
        let mut state = self.lock();
        for page in 0..pages {
            if state.mapped.remove(&(address + page * PAGE)).is_none() {
                crate::violation(&format!("no page is mapped at {:#x}", address + page * PAGE));
            }
        }
    }

    /// Changes the rights of mapped pages.
    pub fn protect(&self, address: usize, pages: usize, access: Access) {
        // SAFETY: our own mapping.
        let failed = unsafe { libc::mprotect(address as *mut libc::c_void, pages * PAGE, access.0) };
        assert_eq!(failed, 0, "changing the rights of a mapping");
    }

    /// The page that is mapped at an address.
    #[must_use]
    pub fn page_at(&self, address: usize) -> Option<u64> {
        self.lock().mapped.get(&(address & !(PAGE - 1))).copied()
    }

    /// The physical page behind any readable address of the test program: a page of its own is replaced by one of this memory with the
    /// same content, and stays that way.
    #[must_use]
    pub fn adopt(&self, address: usize) -> Option<u64> {
        self.adopt_below(address, u64::MAX)
    }

    /// The same with a page that ends at or below `highest`, on machines that have no others.
    #[must_use]
    pub fn adopt_below(&self, address: usize, highest: u64) -> Option<u64> {
        let address = address & !(PAGE - 1);
        if let Some(page) = self.page_at(address) {
            return Some(page);
        }
        let phys = self.alloc(1, highest, PAGE as u64)?;
        let mut content = [0; PAGE];
        // SAFETY: the copy reports bad addresses.
        if !unsafe { crate::user::copy_in(content.as_mut_ptr(), address, PAGE) } {
            self.free(phys, 1);
            return None;
        }
        self.write(phys, &content);
        self.map_at(address, &[phys], Access::read_write());
        self.lock().adopted += 1;
        Some(phys)
    }
}
