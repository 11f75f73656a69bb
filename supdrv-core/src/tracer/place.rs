//! Objects of kernel code, used where they are.
//!
//! The one place where raw memory becomes an [`Object`]: slices are made of it after the header said how large they may be, and are gone
//! when the object was read.

use core::ptr::NonNull;

use super::marks::{LINE_OFFSET, Map, Marks, Words};
use super::vtg::{Area, Bitness, Bounds, Header, Host, Object, Origin};
use crate::abi::status::{Result, VERR_SUPDRV_VTG_BAD_HDR_PTR};
use crate::abi::vtg::{MAX_STRING, NativeLocation, ObjectHeader};
use crate::os::SupdrvOs;

/// Bytes of a native location.
const LOCATION_BYTES: usize = size_of::<NativeLocation>();

/// The image that an object must be inside of.
#[derive(Clone, Copy, Debug)]
pub struct ImageBits {
    /// Load address.
    pub base: usize,
    /// Its size.
    pub bytes: usize,
}

/// A validated object in kernel memory.
pub struct PlacedObject {
    object: Object,
    header: NonNull<ObjectHeader>,
}

impl PlacedObject {
    /// Validates an object, and fills in the place of its locations. Nothing is written unless all of it is good. Class T.
    ///
    /// # Errors
    /// What is wrong with the object.
    ///
    /// # Safety
    /// 1. With `image`, the image is readable and writable, and nobody writes its object meanwhile. Without, what the header says is there,
    ///    with the same conditions; a plausible address is readable.
    /// 2. The object and its locations stay there for as long as the result, or a provider made of it, is used.
    // Not inlined: what it has on the stack is gone before the tracer is called.
    #[inline(never)]
    pub unsafe fn read<O: SupdrvOs>(os: &O, address: usize, image: Option<ImageBits>) -> Result<Self> {
        let plausible = |address: u64| usize::try_from(address).is_ok_and(|it| os.is_plausible_address(it));
        let bounds = match image {
            Some(ImageBits { base, bytes }) => {
                Bounds::Within { base: base as u64, end: (base as u64).saturating_add(bytes as u64) }
            }
            None => Bounds::Plausible(plausible),
        };
        let origin = Origin::Kernel(bounds);
        Header::check_place(address as u64, &origin)?;
        let place = NonNull::new(core::ptr::with_exposed_provenance_mut::<ObjectHeader>(address))
            .ok_or(VERR_SUPDRV_VTG_BAD_HDR_PTR)?;
        // SAFETY: the whole header is readable (`check_place`, condition 1).
        let raw = unsafe { place.as_ptr().read_unaligned() };
        let host = Host { bitness: Bitness::NATIVE, keeps_link_addresses: O::KEEPS_LINK_ADDRESSES };
        let header = Header::parse(&raw, address as u64, &origin, host)?;
        let locations = address.wrapping_add_signed(header.locations_offset() as isize);
        // SAFETY: object and locations are where the header says (it was checked against the bounds; condition 1).
        let (object, records) = unsafe {
            let bytes = |at: usize, len: u32| {
                core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(at), len as usize)
            };
            (bytes(address, header.object_bytes()), bytes(locations, header.locations_bytes()))
        };
        let is_name = |function: u64| {
            let Ok(at) = usize::try_from(function) else { return false };
            match image {
                // SAFETY: the image is readable (condition 1).
                Some(image) => unsafe { is_name_in(image, at) },
                None => os.is_plausible_address(at),
            }
        };
        let object = Object::parse(header, object, records, is_name)?;
        let placed = Self { object, header: place };
        placed.complete();
        Ok(placed)
    }

    /// Stores what whoever reads the object first has to fill in.
    fn complete(&self) {
        let header = self.object.header();
        let raw = header.raw();
        let place = self.header.as_ptr();
        // SAFETY: the header is writable (condition 1 of `read`).
        unsafe {
            (&raw mut (*place).locations_offset).write_unaligned(raw.locations_offset);
            (&raw mut (*place).locations_bytes).write_unaligned(raw.locations_bytes);
            (&raw mut (*place).locations).write_unaligned(raw.locations);
            (&raw mut (*place).locations_end).write_unaligned(raw.locations_end);
        }
        for index in 0..header.location_count() as usize {
            let Some(record) = self.locations().record(index) else { return };
            let record = record.cast::<NativeLocation>().as_ptr();
            // SAFETY: a location record, readable (condition 1 of `read`).
            let location = unsafe { record.read_unaligned() };
            let old = (location.probe as u64, location.function as u64);
            let new = header.relocated(old.0, old.1);
            if new != old {
                // SAFETY: a location record, writable (condition 1 of `read`).
                unsafe {
                    (&raw mut (*record).probe).write_unaligned(new.0 as usize);
                    (&raw mut (*record).function).write_unaligned(new.1 as usize);
                }
            }
        }
    }

    /// The object.
    pub const fn object(&self) -> &Object {
        &self.object
    }

    /// Address of the header.
    pub fn address(&self) -> usize {
        self.header.as_ptr() as usize
    }

    /// Address of something in the object.
    pub fn at(&self, offset: u32) -> usize {
        self.address() + offset as usize
    }

    /// Bytes of the object.
    ///
    /// # Safety
    /// Nobody writes them while the result is used.
    pub unsafe fn bytes(&self, area: Area) -> &[u8] {
        // SAFETY: inside the object (it was validated), which stays (condition 2 of `read`); nobody writes (condition of the function).
        unsafe {
            core::slice::from_raw_parts(
                self.header.as_ptr().cast::<u8>().add(area.offset as usize),
                area.bytes as usize,
            )
        }
    }

    /// The locations.
    pub fn locations(&self) -> Words {
        let header = self.object.header();
        // SAFETY: the locations are where the validated header says, at a multiple of 4 (so is the header), and stay (condition 2 of `read`).
        unsafe {
            let base = self.header.cast::<u8>().offset(header.locations_offset() as isize);
            Words::new(base, LOCATION_BYTES, header.location_count() as usize)
        }
    }

    /// What a tracer writes in it.
    pub fn marks(&self) -> Marks {
        let header = self.object.header();
        // SAFETY: areas of the validated object, which stays (condition 2 of `read`); the areas are aligned to 4 bytes.
        unsafe {
            let part = |area: Area| self.header.cast::<u8>().add(area.offset as usize);
            let probes = header.probe_count() as usize;
            Marks::Kernel {
                map: Map::new(self.locations(), part(header.probes()).cast(), probes),
                counters: Words::new(part(header.counters()), size_of::<u32>(), probes),
            }
        }
    }
}

/// Whether there is a terminated string of a name's length at an address of an image.
///
/// # Safety
/// The image is readable.
unsafe fn is_name_in(image: ImageBits, address: usize) -> bool {
    let Some(left) = image.bytes.checked_sub(address.wrapping_sub(image.base)) else { return false };
    let start = core::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: inside the image (condition of the function).
    (0..left.min(MAX_STRING + 1)).any(|at| unsafe { start.add(at).read_volatile() } == 0)
}

const _: () = assert!(LINE_OFFSET == 0);
