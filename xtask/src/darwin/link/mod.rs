//! A linker for kernel extensions of Darwin on x86-64: Mach-O object files in, one `MH_KEXT_BUNDLE` out.
//!
//! Neither LLVM's linker nor others that run here make such files. They are simple, because code for Darwin is position independent:
//!
//! * three segments of whole pages: `__TEXT` at address 0, which begins with the header, `__DATA`, and `__LINKEDIT` with the tables;
//! * distances inside the image are written by this linker ([`relocate`]);
//! * pointers into the image are *local relocations*, whose place holds the address in an image at 0;
//! * whatever isn't defined is a symbol of the kernel, or of another extension, and is an *external relocation* with what is to be added in
//!   place. Nothing is bound lazily, there are no stubs;
//! * code that loads the address of something in the kernel does so from a table of pointers, which is part of `__DATA`: the kernel's
//!   linker has had support for making that table itself, but only in its first releases;
//! * `_kmod_info` describes the extension, and its routines for start and stop.
//!
//! Names stay in the symbol table, also those that aren't exported: the kernel's linker finds the functions in vtables of C++ classes by
//! name, and so does whoever reads a panic's backtrace.

mod input;
mod layout;
mod output;
mod relocate;
mod symbols;
#[cfg(test)]
mod tests;

use object::read::archive::ArchiveFile;

use crate::report::Result;
use input::{Object, Segment};
use layout::Layout;
use relocate::{PointerTable, Relocator};
use symbols::Symbols;

/// How to link.
pub struct Options<'a> {
    /// What siblings and the kernel may see; everything else becomes local.
    pub is_exported: &'a dyn Fn(&str) -> bool,
    /// What must be there, in the end.
    pub required: &'a [&'a str],
    /// Names that are the kernel's even if a library has them, too.
    pub kernel: &'a [&'a str],
}

/// A file and its name in messages.
pub struct Input<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

/// The size of `kmod_info` in a 64-bit kernel.
pub const KMOD_INFO_SIZE: u64 = 196;

/// Links objects, and what they need of libraries; returns the file. The same input gives the same bytes.
pub fn link(objects: &[Input<'_>], libraries: &[Input<'_>], options: &Options<'_>) -> Result<Vec<u8>> {
    let objects: Vec<Object> =
        objects.iter().map(|input| Object::parse(input.name, input.bytes)).collect::<Result<_>>()?;
    let mut members = Vec::new();
    for library in libraries {
        members.extend(read_library(library)?);
    }
    let mut symbols = Symbols::resolve(symbols::select(objects, members, options.kernel))?;
    let table = PointerTable::of(&symbols)?;
    let position = symbols.objects.len();
    let PointerTable { object, slots } = table;
    symbols.objects.push(object);
    let layout = Layout::of(&symbols.objects)?;
    check_definitions(&symbols, &layout, options)?;
    let mut relocator = Relocator::new(&symbols, &layout, position, &slots)?;
    relocator.run()?;
    output::write(&symbols, &layout, options, relocator)
}

fn read_library(library: &Input<'_>) -> Result<Vec<Object>> {
    let name = library.name;
    let archive = ArchiveFile::parse(library.bytes).map_err(|error| format!("{name}: {error}"))?;
    if archive.is_thin() {
        return Err(format!("{name}: holds no objects, but their names").into());
    }
    let mut members = Vec::new();
    for member in archive.members() {
        let member = member.map_err(|error| format!("{name}: {error}"))?;
        let bytes = member.data(library.bytes).map_err(|error| format!("{name}: {error}"))?;
        members.push(Object::parse(&format!("{name}({})", String::from_utf8_lossy(member.name())), bytes)?);
    }
    Ok(members)
}

fn check_definitions(symbols: &Symbols, layout: &Layout, options: &Options<'_>) -> Result<()> {
    for name in options.required {
        if !symbols.defined.contains_key(*name) {
            return Err(format!("{name} isn't defined").into());
        }
    }
    let info = symbols.defined.get("_kmod_info").ok_or("there is no _kmod_info")?;
    let object = symbols.objects.get(info.object);
    let section = object.and_then(|object| object.sections.get(info.section));
    let fits = section.is_some_and(|section| {
        section.segment == Segment::Data
            && !section.is_zero_filled()
            && section.size.saturating_sub(info.offset) >= KMOD_INFO_SIZE
    });
    match fits && layout.placed(info.object, info.section).is_some() {
        true => Ok(()),
        false => Err("_kmod_info is no initialised data of 196 bytes".into()),
    }
}
