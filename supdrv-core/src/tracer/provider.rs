//! A provider: one named group of probes of an object, as the tracer knows it.

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use zerocopy::FromZeros;

use super::marks::Marks;
use super::ops::{Ops, ProviderCall};
use crate::abi::status::{Result, VERR_TRY_AGAIN};
use crate::abi::tracer::{ProviderCore, TracerData};
use crate::heap::{Array, Box};
use crate::object::SessionKey;
use crate::os::SupdrvOs;

/// Who takes a provider along when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The image that contains it, by its handle.
    Image(usize),
    /// The session that registered it.
    Session(SessionKey),
}

/// How far a provider and the tracer are with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The tracer doesn't know it, or there is no tracer.
    Unknown,
    /// The tracer knows it.
    Registered,
    /// The tracer was told to forget it, and couldn't yet.
    Busy,
}

/// A provider record. Its core doesn't move while the record lives.
pub struct Provider<O: SupdrvOs> {
    core: Box<UnsafeCell<ProviderCore>, O>,
    /// Both names, NUL-terminated; the core points into it.
    _names: Array<u8, O>,
    /// Address of the object's header, by which it is found.
    pub header: usize,
    /// Its number in the object.
    pub index: u16,
    /// Who takes it along.
    pub owner: Owner,
    /// How far it is.
    pub standing: Standing,
    marks: Option<Marks>,
}

// SAFETY: the core is shared with the tracer, which has its own locking for what it writes; the driver touches it under the tracer mutex
// only. The marks are Send by themselves.
unsafe impl<O: SupdrvOs> Send for Provider<O> {}

/// What a provider is made of.
pub struct Parts<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Process id that the name ends with.
    pub process: Option<u32>,
    /// Name of its module.
    pub module: &'a [u8],
    /// Address of the header.
    pub header: usize,
    /// Address of its descriptor.
    pub desc: usize,
    /// Its number in the object.
    pub index: u16,
    /// Who takes it along.
    pub owner: Owner,
    /// Bytes of an enable location, bitness, whether it is a user-mode module.
    pub shape: (u8, u8, bool),
    /// Addresses: locations to read, locations to enable, counters.
    pub places: [usize; 3],
    /// Addresses for user-mode modules, else 0: location states, probe states.
    pub states: [usize; 2],
    /// What the tracer writes.
    pub marks: Marks,
}

/// Decimal digits of a number.
fn decimal(number: u32, to: &mut [u8; 10]) -> &[u8] {
    let (mut at, mut rest) = (to.len(), number);
    for place in to.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        at -= 1;
        if rest == 0 {
            break;
        }
    }
    to.get(at..).unwrap_or(&[])
}

impl<O: SupdrvOs> Provider<O> {
    /// Makes a record. Class T.
    ///
    /// # Errors
    /// `VERR_NO_MEMORY`.
    pub fn new(os: &O, parts: &Parts<'_>) -> Result<Self> {
        let mut digits = [0; 10];
        let digits = parts.process.map_or(&[][..], |process| decimal(process, &mut digits));
        let name_bytes = parts.name.len() + digits.len() + 1;
        let mut names = Array::<u8, O>::new_zeroed(os, name_bytes + parts.module.len() + 1)?;
        let text = parts.name.iter().chain(digits).chain(&[0]).chain(parts.module);
        for (to, from) in names.iter_mut().zip(text) {
            *to = *from;
        }
        let (enable_location_bytes, bits, is_umod) = parts.shape;
        let [locations, locations_enable, counters] = parts.places;
        let [location_states, probe_states] = parts.states;
        let core = ProviderCore {
            name: names.as_ptr() as usize,
            module_name: names.as_ptr() as usize + name_bytes,
            desc: parts.desc,
            header: parts.header,
            enable_location_bytes,
            bits,
            is_umod: u8::from(is_umod),
            locations,
            locations_enable,
            counters,
            location_states,
            probe_states,
            ..ProviderCore::new_zeroed()
        };
        Ok(Self {
            core: Box::new(os, UnsafeCell::new(core))?,
            _names: names,
            header: parts.header,
            index: parts.index,
            owner: parts.owner,
            standing: Standing::Unknown,
            marks: Some(parts.marks),
        })
    }

    /// What the tracer sees.
    fn core(&self) -> NonNull<ProviderCore> {
        self.core.as_ptr().cast()
    }

    /// Tells a tracer of the provider, which starts from zero with it. Class T, tracer mutex held.
    ///
    /// # Errors
    /// The tracer's.
    pub fn register(&mut self, ops: &Ops) -> Result<()> {
        // SAFETY: the record owns the core, and the tracer doesn't know it yet.
        unsafe { (&raw mut (*self.core().as_ptr()).data).write_volatile(TracerData::new_zeroed()) };
        // SAFETY: the tracer mutex is held, thus the tracer stays; the core lives until the tracer has forgotten it, see `forget`.
        unsafe { ops.provider(ProviderCall::Register, self.core()) }?;
        self.standing = Standing::Registered;
        Ok(())
    }

    /// Asks the tracer to forget the provider; nothing to do if it doesn't know it. Class T, tracer mutex held.
    ///
    /// # Errors
    /// The tracer's, usually `VERR_TRY_AGAIN`: the provider is busy, and must be kept.
    pub fn forget(&mut self, ops: Option<&Ops>) -> Result<()> {
        let call = match self.standing {
            Standing::Unknown => return Ok(()),
            Standing::Registered => ProviderCall::Deregister,
            Standing::Busy => ProviderCall::DeregisterZombie,
        };
        self.standing = Standing::Busy;
        if let Some(ops) = ops {
            // SAFETY: the tracer mutex is held, thus the tracer stays; the core lives.
            unsafe { ops.provider(call, self.core()) }.map_err(|_| VERR_TRY_AGAIN)?;
        }
        self.standing = Standing::Unknown;
        Ok(())
    }

    /// Clears what a tracer left in the object: the next one starts from zero.
    pub fn clear_marks(&self) {
        if let Some(marks) = &self.marks {
            marks.clear(self.index);
        }
    }

    /// Takes the object away from a provider that the tracer couldn't forget: its code and data are about to go.
    pub fn detach(&mut self) {
        self.clear_marks();
        self.marks = None;
        let core = self.core().as_ptr();
        // SAFETY: the record owns the core. The tracer may still look at it, and writes nothing but its own part, which stays.
        unsafe {
            for pointer in [
                &raw mut (*core).desc,
                &raw mut (*core).header,
                &raw mut (*core).locations,
                &raw mut (*core).locations_enable,
                &raw mut (*core).counters,
                &raw mut (*core).location_states,
                &raw mut (*core).probe_states,
            ] {
                pointer.write_volatile(0);
            }
        }
    }
}
