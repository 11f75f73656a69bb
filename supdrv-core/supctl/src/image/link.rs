//! Resolving and writing references: from a laid out module to bits for one base address.

use super::error::LinkError;
use super::module::{Definition, Form, Module, Reference};

type Result<T> = core::result::Result<T, LinkError>;

/// Prefix of imports that say which driver they are from.
const PREFIX: &str = "SUPR0$";

/// The instructions of a jump through a slot: `endbr64; jmp [rip + distance]`.
const JUMP: [u8; 6] = [0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25];
/// Where the distance counts from.
const JUMP_END: u64 = 10;

impl Module {
    /// The bits for a base address, with every import where `resolve` says.
    ///
    /// # Errors
    /// All symbols that nobody has, or the first reference that doesn't reach.
    pub fn relocate(&self, base: u64, resolve: &dyn Fn(&str) -> Option<u64>) -> Result<Vec<u8>> {
        let addresses = self.resolve(base, resolve)?;
        let mut bits = self.bits.clone();
        for (&symbol, &slot) in &self.slots {
            let address = addresses.get(symbol).copied().unwrap_or(0);
            put(&mut bits, slot, &(address as usize).to_le_bytes());
        }
        for (symbol, &jump) in &self.jumps {
            let slot = self.slots.get(symbol).copied().unwrap_or(0);
            put(&mut bits, jump, &JUMP);
            let distance = slot.wrapping_sub(jump + JUMP_END) as u32;
            put(&mut bits, jump + JUMP.len() as u64, &distance.to_le_bytes());
        }
        for reference in &self.references {
            self.write(&mut bits, base, reference, &addresses)?;
        }
        Ok(bits)
    }

    /// The address of every symbol.
    fn resolve(&self, base: u64, resolve: &dyn Fn(&str) -> Option<u64>) -> Result<Vec<u64>> {
        let mut undefined = Vec::new();
        let addresses = self
            .symbols
            .iter()
            .enumerate()
            .map(|(index, symbol)| match symbol.definition {
                Definition::Inside(offset) => base.wrapping_add(offset),
                Definition::Absolute(value) => value,
                Definition::Import { weak } => {
                    let name = symbol.name.strip_prefix(PREFIX).unwrap_or(&symbol.name);
                    let found = if name.is_empty() { Some(0) } else { resolve(name) };
                    let user = self.references.iter().find(|reference| reference.symbol == Some(index));
                    if let (None, false, Some(user)) = (found, weak, user) {
                        undefined.push((symbol.name.clone(), self.place_name(user.place)));
                    }
                    found.unwrap_or(0)
                }
            })
            .collect();
        if undefined.is_empty() { Ok(addresses) } else { Err(LinkError::Undefined { symbols: undefined }) }
    }

    fn write(&self, bits: &mut [u8], base: u64, reference: &Reference, addresses: &[u64]) -> Result<()> {
        let Reference { place, form, symbol, addend } = *reference;
        let target = symbol.map_or(base, |symbol| addresses.get(symbol).copied().unwrap_or(0));
        let here = base.wrapping_add(place);
        let distance_to = |target: u64| target.wrapping_add_signed(addend).wrapping_sub(here).cast_signed();
        let slot = symbol.and_then(|symbol| self.slots.get(&symbol)).map(|slot| base.wrapping_add(*slot));
        let jump = symbol.and_then(|symbol| self.jumps.get(&symbol)).map(|jump| base.wrapping_add(*jump));
        let value = target.wrapping_add_signed(addend);
        let fits = |value: i64| i32::try_from(value).ok().map(i32::cast_unsigned);
        let word = match form {
            Form::Word64 => {
                put(bits, place, &value.to_le_bytes());
                return Ok(());
            }
            Form::Distance64 => {
                put(bits, place, &distance_to(target).to_le_bytes());
                return Ok(());
            }
            Form::Word32 if cfg!(target_pointer_width = "32") => Some(value as u32),
            Form::Distance32 if cfg!(target_pointer_width = "32") => Some(distance_to(target) as u32),
            Form::Word32 => u32::try_from(value).ok(),
            Form::Signed32 => fits(value.cast_signed()),
            Form::Distance32 => fits(distance_to(target)),
            Form::Call32 => fits(distance_to(target)).or_else(|| fits(distance_to(jump?))),
            Form::Slot32 => slot.and_then(|slot| fits(distance_to(slot))),
        };
        let Some(word) = word else {
            let symbol = symbol.and_then(|symbol| self.symbols.get(symbol));
            return Err(LinkError::OutOfReach {
                symbol: symbol.map_or_else(|| "the image".into(), |symbol| symbol.name.clone()),
                wanted_by: self.place_name(place),
            });
        };
        put(bits, place, &word.to_le_bytes());
        Ok(())
    }
}

/// Stores bytes; places were checked when the references were read.
fn put(bits: &mut [u8], at: u64, bytes: &[u8]) {
    let room = bits.get_mut(at as usize..).unwrap_or_default();
    for (to, from) in room.iter_mut().zip(bytes) {
        *to = *from;
    }
}
