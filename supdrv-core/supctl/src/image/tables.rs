//! The symbol and string tables that travel behind an image.

use supdrv_core::abi::requests::LdrSymbol;
use zerocopy::IntoBytes;

/// Most symbols that the driver takes.
pub const MAX_SYMBOLS: usize = 16384;

/// A symbol table and its string table, as `LDR_LOAD` wants them.
#[derive(Clone, Debug, Default)]
pub struct SymbolTables {
    symbols: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

/// An image's bits with tables behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitsWithTables {
    /// Everything.
    pub bits: Vec<u8>,
    /// Where the symbols begin.
    pub symbols_offset: u32,
    /// How many there are.
    pub symbol_count: u32,
    /// Where the strings begin.
    pub strings_offset: u32,
    /// Their size in bytes.
    pub strings_bytes: u32,
}

impl SymbolTables {
    /// Adds a name for an offset in the image. More than [`MAX_SYMBOLS`] are ignored.
    pub fn add(&mut self, name: &str, offset: u32) {
        if self.count as usize >= MAX_SYMBOLS {
            return;
        }
        let entry = LdrSymbol { name_offset: self.strings.len() as u32, symbol_offset: offset };
        self.symbols.extend_from_slice(entry.as_bytes());
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        self.count += 1;
    }

    /// Bytes that the tables add to an image of `image_bytes`; at least one, since an image without tables isn't accepted.
    #[must_use]
    pub fn bytes_behind(&self, image_bytes: usize) -> usize {
        let padding = image_bytes.next_multiple_of(8) - image_bytes;
        (padding + self.symbols.len() + self.strings.len()).max(1)
    }

    /// Puts the tables behind an image.
    #[must_use]
    pub fn append_to(&self, image: &[u8]) -> BitsWithTables {
        let mut bits = image.to_vec();
        let total = image.len() + self.bytes_behind(image.len());
        bits.resize(image.len().next_multiple_of(8).min(total), 0);
        let symbols_offset = bits.len() as u32;
        bits.extend_from_slice(&self.symbols);
        let strings_offset = bits.len() as u32;
        bits.extend_from_slice(&self.strings);
        bits.resize(total, 0);
        BitsWithTables {
            bits,
            symbols_offset,
            symbol_count: self.count,
            strings_offset,
            strings_bytes: self.strings.len() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_follow_the_image_at_aligned_offsets() {
        let mut tables = SymbolTables::default();
        tables.add("one", 4);
        tables.add("two", 8);
        let all = tables.append_to(&[0xcc; 13]);
        assert_eq!((all.symbols_offset, all.symbol_count), (16, 2));
        assert_eq!((all.strings_offset, all.strings_bytes), (32, 8));
        assert_eq!(all.bits.len(), 13 + tables.bytes_behind(13));
        assert_eq!(all.bits[32..], *b"one\0two\0");
        assert_eq!(all.bits[24..32], [4, 0, 0, 0, 8, 0, 0, 0]);
    }

    #[test]
    fn an_image_without_symbols_is_still_followed_by_something() {
        let all = SymbolTables::default().append_to(&[0xcc; 16]);
        assert_eq!(all.bits.len(), 17);
    }
}
