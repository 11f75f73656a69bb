//! What loaded modules can link against in a C driver: the core's own services, and the C runtime's functions as they are.
//!
//! The core's services are C symbols of the library too: other parts of a C driver call them by name.

#[allow(unused_imports, reason = "not every type of the catalogue is needed here")]
use crate::ring0::types::*;

use super::Legacy;

/// The instantiation of the core's services for C drivers.
#[derive(Clone, Copy, Debug)]
pub struct Runtime;

static STATE: crate::ring0::State<Legacy> = crate::ring0::State::new();

impl crate::ring0::Ring0 for Runtime {
    type Os = Legacy;

    fn os() -> Legacy {
        Legacy
    }

    fn state() -> &'static crate::ring0::State<Legacy> {
        &STATE
    }

    fn gip() -> &'static core::sync::atomic::AtomicUsize {
        &functions::g_pSUPGlobalInfoPage
    }

    fn tracer_globals() -> crate::tracer::TracerGlobals {
        functions::TRACER_GLOBALS
    }
}

/// Defines what is the core's, imports what is the C runtime's.
macro_rules! define {
    (
        $prefix:tt
        $($kind:ident $name:ident $(= $module:ident :: $function:ident ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?)?;)*
    ) => {
        $(define_one! { $kind $name $(= $module :: $function ($($arg: $ty),*) $(-> $ret)?)?; })*

        /// The entries behind the ten numbers.
        pub static EXPORTS: &[crate::ring0::Export] =
            &[$(crate::ring0::Export::new(stringify!($name), crate::__ring0_address!($kind $name))),*];
    };
}

/// One entry: the families of the core are defined; all others, and what takes variable arguments, are imported.
macro_rules! define_one {
    (var $name:ident;) => {
        #[unsafe(no_mangle)]
        pub(super) static $name: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
    };
    (fn $name:ident = supr0 :: $($rest:tt)*) => {
        define_core! { $name = supr0 :: $($rest)* }
    };
    (fn $name:ident = supsem :: $($rest:tt)*) => {
        define_core! { $name = supsem :: $($rest)* }
    };
    // Written out by `__ring0_probe_fire!`.
    (fn SUPR0TracerFireProbe = $($rest:tt)*) => {};
    (fn $name:ident = tracer :: $($rest:tt)*) => {
        define_core! { $name = tracer :: $($rest)* }
    };
    ($kind:ident $name:ident $($rest:tt)*) => {
        #[allow(clashing_extern_declarations, reason = "only its address is taken")]
        unsafe extern "C" {
            fn $name();
        }
    };
}

macro_rules! define_core {
    ($name:ident = $module:ident :: $function:ident ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { crate::ring0::$module::$function::<Runtime>($($arg),*) }
        }
    };
}

#[allow(non_snake_case, non_upper_case_globals, reason = "C's names")]
mod functions {
    use super::*;

    crate::__ring0_probe_fire! { [#[unsafe(no_mangle)]] }
    crate::__ring0_catalogue!([define] {});
}
pub use functions::EXPORTS;
