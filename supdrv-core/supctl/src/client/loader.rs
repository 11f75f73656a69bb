//! Requests of the image loader.

use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use supdrv_core::abi::status::VERR_ALREADY_LOADED;
use zerocopy::FromZeros;

use super::Client;
use crate::error::{Error, Result};

/// What `LDR_OPEN` answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedImage {
    /// Where the image is in the kernel.
    pub base: usize,
    /// The bits must still be uploaded.
    pub needs_loading: bool,
    /// The system's own loader has placed the image.
    pub native: bool,
}

/// What `LDR_LOAD` needs to know about an image.
#[derive(Clone, Copy, Debug)]
pub struct LoadParameters<'a> {
    /// The base that `LDR_OPEN` gave.
    pub base: usize,
    /// Kernel address of the init function, 0 for none.
    pub init: usize,
    /// Kernel address of the term function, 0 for none.
    pub term: usize,
    /// Type of the entry points: none, VMMR0, service.
    pub entry_point_type: u32,
    /// The entry points, as the type says.
    pub entry_points: [usize; 4],
    /// Size of the image proper in bytes.
    pub image_bytes: u32,
    /// Where the symbol table begins in `bits`.
    pub symbols_offset: u32,
    /// Its entries.
    pub symbol_count: u32,
    /// Where the string table begins in `bits`.
    pub strings_offset: u32,
    /// Its size in bytes.
    pub strings_bytes: u32,
    /// The image, relocated to `base`, with its tables behind it.
    pub bits: &'a [u8],
}

/// A text in a field of a packet, with at least one NUL behind it.
pub(crate) fn name_field<const N: usize>(request: Function, name: &str) -> Result<[u8; N]> {
    let bytes = name.as_bytes();
    if bytes.len() >= N || bytes.contains(&0) {
        return Err(Error::invalid(request, format!("the name {name:?} doesn't fit into {} bytes", N - 1)));
    }
    let mut field = [0; N];
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(field)
}

impl Client {
    /// `LDR_OPEN`: finds an image by name, or makes room for a new one. Sizes are in bytes, the first one includes symbol and
    /// string table.
    ///
    /// # Errors
    /// Refused if sizes or name are malformed; `VERR_NO_EXEC_MEMORY`; `VERR_LDR_MISMATCH_NATIVE`: an image of that name is loaded
    /// with other sizes.
    pub fn ldr_open(
        &self,
        name: &str,
        image_bytes_with_tables: u32,
        image_bytes: u32,
        file_name: &str,
    ) -> Result<OpenedImage> {
        let request = Function::LdrOpen;
        let input = r::LdrOpenIn {
            image_bytes_with_tables,
            image_bytes,
            name: name_field(request, name)?,
            file_name: name_field(request, file_name)?,
            ..FromZeros::new_zeroed()
        };
        let answer: r::LdrOpenOut = self.ask(request, &input)?;
        Ok(OpenedImage {
            base: answer.image_base,
            needs_loading: answer.needs_loading != 0,
            native: answer.native_loader != 0,
        })
    }

    /// `LDR_LOAD`: uploads an image and initialises it. `Ok(false)`: another client was faster.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`: not opened in this session, or with other sizes; `VERR_INVALID_PARAMETER`: an entry point is
    /// outside; or what the image's init function returns.
    pub fn ldr_load(&self, parameters: &LoadParameters<'_>) -> Result<bool> {
        let mut packet = self.ldr_load_packet(parameters);
        match self.send(&mut packet) {
            Err(Error::Failed { status: VERR_ALREADY_LOADED, .. }) => Ok(false),
            result => result.map(|_| true),
        }
    }

    /// The packet of [`ldr_load`](Self::ldr_load).
    #[must_use]
    pub fn ldr_load_packet(&self, parameters: &LoadParameters<'_>) -> crate::packet::Packet {
        let input = r::LdrLoadIn {
            module_init: parameters.init,
            module_term: parameters.term,
            entry_points: parameters.entry_points,
            image_base: parameters.base,
            entry_point_type: parameters.entry_point_type,
            image_bytes: parameters.image_bytes,
            symbols_offset: parameters.symbols_offset,
            symbol_count: parameters.symbol_count,
            strings_offset: parameters.strings_offset,
            strings_bytes: parameters.strings_bytes,
            image_bytes_with_tables: u32::try_from(parameters.bits.len()).unwrap_or(u32::MAX),
            ..FromZeros::new_zeroed()
        };
        self.packet(Function::LdrLoad, &input, parameters.bits, r::HEADER_BYTES)
    }

    /// `LDR_FREE`: gives back one reference to an image.
    ///
    /// # Errors
    /// `VERR_INVALID_HANDLE`: this session has none.
    pub fn ldr_free(&self, base: usize) -> Result<()> {
        let input = r::LdrFreeIn { image_base: base, ..FromZeros::new_zeroed() };
        self.order(Function::LdrFree, &input).map(drop)
    }

    /// `LDR_GET_SYMBOL`: the kernel address of a symbol.
    ///
    /// # Errors
    /// `VERR_GENERAL_FAILURE`: no such symbol; `VERR_INVALID_HANDLE`; `VERR_ALREADY_LOADED`: the image isn't loaded yet.
    pub fn ldr_symbol(&self, base: usize, symbol: &str) -> Result<usize> {
        let request = Function::LdrGetSymbol;
        let input = r::LdrGetSymbolIn {
            image_base: base,
            symbol: name_field(request, symbol)?,
            ..FromZeros::new_zeroed()
        };
        let answer: r::LdrGetSymbolOut = self.ask(request, &input)?;
        Ok(answer.address)
    }
}
