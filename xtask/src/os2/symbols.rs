//! The kernel's services, from the list in `supdrv-os2/tests/data/`.

use std::collections::HashMap;

use super::shim;
use crate::report::Result;

/// The library of the kernel's 32-bit services.
pub const KERNEL: &str = "KEE";

/// One function or variable.
#[derive(Debug, PartialEq, Eq)]
struct Symbol {
    name: String,
    library: String,
    ordinal: u16,
    /// Whether all kernels have it: a driver that imports what its kernel doesn't have isn't loaded.
    everywhere: bool,
}

/// All that have an ordinal.
pub struct Symbols(Vec<Symbol>);

impl Symbols {
    /// Reads the list.
    pub fn read() -> Result<Self> {
        let path = shim().join("tests/data/symbols-os2.json");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let symbols = Self::parse(&text);
        match symbols.0.len() {
            0 => Err(format!("{} can't be read", path.display()).into()),
            _ => Ok(symbols),
        }
    }

    fn parse(text: &str) -> Self {
        let entries = text.split("\"symbol\": \"").skip(1);
        Self(
            entries
                .filter_map(|entry| {
                    let name = entry.split_once('"')?.0.to_owned();
                    let ordinal = value(entry, "ordinal")?.parse().ok()?;
                    let versions = value(entry, "versions")?;
                    let everywhere = versions == "all" || versions.starts_with("IBM kernels");
                    Some(Symbol { name, library: value(entry, "module")?.to_owned(), ordinal, everywhere })
                })
                .collect(),
        )
    }

    /// Names that 32-bit code may import, with library and ordinal.
    pub fn kernel_imports(&self) -> HashMap<String, (String, u16)> {
        let of_kernel = self.0.iter().filter(|symbol| symbol.library == KERNEL && symbol.everywhere);
        of_kernel.map(|symbol| (symbol.name.clone(), (symbol.library.clone(), symbol.ordinal))).collect()
    }

    /// Whether a driver may import this.
    pub fn allows(&self, name: &str, library: &str, ordinal: u16) -> bool {
        let found = self.0.iter().find(|symbol| symbol.name == name);
        found
            .is_some_and(|symbol| symbol.everywhere && symbol.library == library && symbol.ordinal == ordinal)
    }
}

/// The value of a key in an entry, without its quotes.
fn value<'a>(entry: &'a str, key: &str) -> Option<&'a str> {
    let rest = entry.split_once(&format!("\"{key}\": "))?.1;
    match rest.strip_prefix('"') {
        Some(text) => Some(text.split_once('"')?.0),
        None => Some(rest.split_once([',', '\n'])?.0.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_kernels_lack_may_not_be_imported() {
        let symbols = Symbols::read().unwrap();
        assert!(symbols.allows("KernSelToFlat", "KEE", 66));
        assert!(!symbols.allows("KernSelToFlat", "KEE", 67));
        assert!(!symbols.allows("KernSelToFlat", "DOSCALLS", 66));
        assert!(symbols.allows("DosOpen", "DOSCALLS", 70));
        let imports = symbols.kernel_imports();
        assert_eq!(imports["KernBlock"], ("KEE".to_owned(), 30));
        for missing in ["KernPrintf", "KernYield", "KernGetNumCpus", "DosOpen", "DevHlp_Yield"] {
            assert!(!imports.contains_key(missing), "{missing}");
        }
    }
}
