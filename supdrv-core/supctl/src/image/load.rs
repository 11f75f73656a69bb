//! Loading: open, resolve, relocate, upload.

use std::collections::HashMap;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{LDR_ENTRY_NOTHING, LDR_ENTRY_SERVICE, LDR_ENTRY_VMMR0};

use super::error::LinkError;
use super::module::{MAX_BYTES, Module};
use super::tables::{MAX_SYMBOLS, SymbolTables};
use crate::client::{Client, LoadParameters, Vmmr0Call};
use crate::error::Error;
use crate::gip::Gip;

type Result<T> = core::result::Result<T, LinkError>;

/// The import that stands for the global info page itself.
const GIP_SYMBOL: &str = "g_SUPGlobalInfoPage";

/// What the driver may call an image for, besides its init and term functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryPoints<'a> {
    /// Nothing.
    #[default]
    Nothing,
    /// Service calls, handled by the function of this name.
    Service(&'a str),
    /// VMMR0 calls, handled by `VMMR0EntryInt`, `VMMR0EntryFast` and `VMMR0EntryEx`.
    Vmmr0,
}

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The object was read and laid out.
    Parsed {
        /// Size of the image proper.
        bytes: usize,
        /// What it wants from others.
        imports: usize,
        /// What others can use of it.
        exports: usize,
    },
    /// The driver has made room, or has the image already.
    Opened {
        /// Where it is in the kernel.
        base: usize,
        /// It must be uploaded.
        needs_loading: bool,
    },
    /// All references are written.
    Linked {
        /// How many there are.
        references: usize,
    },
    /// The driver has it, and its init function ran.
    Loaded {
        /// Another client was faster.
        by_other: bool,
    },
}

/// Links and loads images in one session.
///
/// ```no_run
/// # #[cfg(target_os = "linux")] {
/// use supctl::client::Client;
/// use supctl::image::{EntryPoints, Loader};
/// use supctl::transport::{Node, linux::DeviceNodes};
///
/// let client = Client::open(&DeviceNodes::default(), Node::Unrestricted)?;
/// let object = std::fs::read("hello.o")?;
/// let image = Loader::new(&client)?.load("hello", &object, EntryPoints::Service("HelloService"))?;
/// println!("it says {}", image.call(1, 2, None)?);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Loader<'c, 'p> {
    client: &'c Client,
    functions: HashMap<String, u64>,
    /// Exports of images that were loaded before: they win over the driver's own.
    images: HashMap<String, u64>,
    progress: Box<dyn FnMut(Progress) + 'p>,
}

impl<'c, 'p> Loader<'c, 'p> {
    /// Asks the driver for what images can link against.
    ///
    /// # Errors
    /// As for the request.
    pub fn new(client: &'c Client) -> Result<Self> {
        let functions = client.query_functions()?;
        let functions = functions.into_iter().map(|export| (export.name, export.address as u64)).collect();
        Ok(Self { client, functions, images: HashMap::new(), progress: Box::new(|_| {}) })
    }

    /// Reports progress from now on.
    #[must_use]
    pub fn with_progress(mut self, progress: impl FnMut(Progress) + 'p) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Lets later images link against one that is loaded. It must stay as long as they do.
    pub fn link_against(&mut self, image: &LoadedImage<'_>) {
        let exports = image.module.exports().iter();
        self.images.extend(
            exports.map(|export| {
                (export.name.clone(), (image.base as u64).wrapping_add(u64::from(export.offset)))
            }),
        );
    }

    /// Links an object file and loads it under a name that is system-wide. It is freed with the result.
    ///
    /// # Errors
    /// Why the object can't be linked, or what the driver or the init function says. The image isn't left behind.
    pub fn load(
        &mut self,
        name: &str,
        object: &[u8],
        entry_points: EntryPoints<'_>,
    ) -> Result<LoadedImage<'c>> {
        let module = Module::parse(name, object)?;
        let (imports, exports) = (module.imports().len(), module.exports().len());
        (self.progress)(Progress::Parsed { bytes: module.image_bytes(), imports, exports });
        if exports > MAX_SYMBOLS {
            return Err(LinkError::TooLarge(format!(
                "{name} exports {exports} symbols, {MAX_SYMBOLS} can be"
            )));
        }
        let mut tables = SymbolTables::default();
        module.exports().iter().for_each(|export| tables.add(&export.name, export.offset));
        let bytes = module.image_bytes();
        let total = bytes + tables.bytes_behind(bytes);
        if total as u64 > MAX_BYTES {
            return Err(LinkError::TooLarge(format!("{name} has {total} bytes with its symbols")));
        }
        // Found before the driver is asked: a missing entry point needs no image to be told.
        let offsets = Self::entry_offsets(&module, entry_points)?;
        let opened = self.client.ldr_open(name, total as u32, bytes as u32, "")?;
        (self.progress)(Progress::Opened { base: opened.base, needs_loading: opened.needs_loading });
        let mut image =
            LoadedImage { client: self.client, name: name.into(), base: opened.base, module, _gip: None };
        if opened.needs_loading {
            self.upload(&mut image, &tables, offsets)?;
        }
        Ok(image)
    }

    /// Type and offsets of the entry points.
    fn entry_offsets(module: &Module, entry_points: EntryPoints<'_>) -> Result<(u32, Vec<u32>)> {
        let names: &[&str] = match entry_points {
            EntryPoints::Nothing => &[],
            EntryPoints::Service(handler) => &[handler],
            EntryPoints::Vmmr0 => &["VMMR0EntryInt", "VMMR0EntryFast", "VMMR0EntryEx"],
        };
        let entry_type = match entry_points {
            EntryPoints::Nothing => LDR_ENTRY_NOTHING,
            EntryPoints::Service(_) => LDR_ENTRY_SERVICE,
            EntryPoints::Vmmr0 => LDR_ENTRY_VMMR0,
        };
        let offsets = names.iter().map(|name| {
            module.offset_of(name).ok_or_else(|| LinkError::NoEntryPoint {
                symbol: (*name).to_owned(),
                image: module.name.clone(),
            })
        });
        Ok((entry_type, offsets.collect::<Result<_>>()?))
    }

    fn upload(
        &mut self,
        image: &mut LoadedImage<'c>,
        tables: &SymbolTables,
        (entry_point_type, offsets): (u32, Vec<u32>),
    ) -> Result<()> {
        let base = image.base;
        if image.module.imports().contains(&GIP_SYMBOL) {
            image._gip = Some(self.client.gip()?);
        }
        let gip = image._gip.as_ref().map(|gip| gip.addresses().r0 as u64);
        let resolve = |name: &str| {
            let known = self.images.get(name).or_else(|| self.functions.get(name)).copied();
            known.or_else(|| gip.filter(|_| name == GIP_SYMBOL))
        };
        let bits = image.module.relocate(base as u64, &resolve)?;
        (self.progress)(Progress::Linked { references: image.module.references.len() });
        let at = |offset: u32| base + offset as usize;
        let mut entry_points = [0; 4];
        let found = offsets.into_iter().map(at);
        if entry_point_type == LDR_ENTRY_VMMR0 {
            entry_points
                .iter_mut()
                .zip(core::iter::once(base).chain(found))
                .for_each(|(to, from)| *to = from);
        } else {
            entry_points.iter_mut().zip(found).for_each(|(to, from)| *to = from);
        }
        let optional = |name| image.module.offset_of(name).map_or(0, at);
        let all = tables.append_to(&bits);
        let parameters = LoadParameters {
            base,
            init: optional("ModuleInit"),
            term: optional("ModuleTerm"),
            entry_point_type,
            entry_points,
            image_bytes: bits.len() as u32,
            symbols_offset: all.symbols_offset,
            symbol_count: all.symbol_count,
            strings_offset: all.strings_offset,
            strings_bytes: all.strings_bytes,
            bits: &all.bits,
        };
        let mine = self.client.ldr_load(&parameters)?;
        (self.progress)(Progress::Loaded { by_other: !mine });
        Ok(())
    }
}

/// An image in the kernel; freed on drop.
pub struct LoadedImage<'c> {
    client: &'c Client,
    name: String,
    base: usize,
    module: Module,
    /// The image uses the page: it must be alive as long as the image.
    _gip: Option<Gip<'c>>,
}

impl LoadedImage<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is in the kernel.
    #[must_use]
    pub const fn base(&self) -> usize {
        self.base
    }

    /// The object that it was linked from.
    #[must_use]
    pub const fn module(&self) -> &Module {
        &self.module
    }

    /// Asks the driver for the kernel address of a symbol.
    ///
    /// # Errors
    /// `VERR_GENERAL_FAILURE`: no such symbol.
    pub fn symbol(&self, name: &str) -> core::result::Result<usize, Error> {
        self.client.ldr_symbol(self.base, name)
    }

    /// Calls it as a service. See [`Client::call_service`].
    ///
    /// # Errors
    /// As there.
    pub fn call(
        &self,
        operation: u32,
        arg: u64,
        payload: Option<&mut [u8]>,
    ) -> core::result::Result<Status, Error> {
        self.client.call_service(&self.name, operation, arg, payload)
    }

    /// Calls it as VMMR0. See [`Client::call_vmmr0`].
    ///
    /// # Errors
    /// As there.
    pub fn call_vmmr0(
        &self,
        call: Vmmr0Call,
        payload: Option<&mut [u8]>,
    ) -> core::result::Result<Status, Error> {
        self.client.call_vmmr0(call, payload)
    }

    /// Frees it now, and says whether that worked.
    ///
    /// # Errors
    /// As for the request.
    pub fn free(mut self) -> core::result::Result<(), Error> {
        let base = core::mem::take(&mut self.base);
        self.client.ldr_free(base)
    }
}

impl Drop for LoadedImage<'_> {
    fn drop(&mut self) {
        if self.base != 0 {
            let _gone_with_the_session_otherwise = self.client.ldr_free(self.base);
        }
    }
}
