//! How kernel probes fire: a jump through a variable, in assembly, since nothing may touch the registers and the stack of the probed code.
//!
//! The tracer's callback sees the arguments where the caller put them, all of them, and returns to the caller.

/// Defines `g_pfnSupdrvProbeFireKernel`, `supdrvTracerProbeFireStub` and `SUPR0TracerFireProbe`, and `TRACER_GLOBALS` that names them.
#[doc(hidden)]
#[macro_export]
macro_rules! __ring0_probe_fire {
    ([$($export:tt)*]) => {
        /// Where kernel probes jump to.
        $($export)*
        static g_pfnSupdrvProbeFireKernel: ::core::sync::atomic::AtomicPtr<()> =
            ::core::sync::atomic::AtomicPtr::new(supdrvTracerProbeFireStub as *const () as *mut ());

        static TRACER_DEV_EXT: ::core::sync::atomic::AtomicPtr<$crate::abi::published::DevExtView> =
            ::core::sync::atomic::AtomicPtr::new(::core::ptr::null_mut());

        /// The variables of tracepoints.
        pub(super) const TRACER_GLOBALS: $crate::tracer::TracerGlobals = $crate::tracer::TracerGlobals {
            fire_kernel: &g_pfnSupdrvProbeFireKernel,
            stub: supdrvTracerProbeFireStub,
            dev_ext: &TRACER_DEV_EXT,
        };

        /// No tracer: returns at once.
        $($export)*
        #[unsafe(naked)]
        unsafe extern "C" fn supdrvTracerProbeFireStub() {
            $crate::__ring0_probe_fire_asm!(stub)
        }

        /// Fires a kernel probe: passes location and arguments on to the tracer, untouched. Class I.
        $($export)*
        #[unsafe(naked)]
        unsafe extern "C" fn SUPR0TracerFireProbe() {
            $crate::__ring0_probe_fire_asm!(jump g_pfnSupdrvProbeFireKernel)
        }
    };
}

/// The two functions' instructions. The breakpoints are never reached: they end speculation.
#[doc(hidden)]
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! __ring0_probe_fire_asm {
    (stub) => {
        ::core::arch::naked_asm!("endbr64", $crate::__ring0_return!())
    };
    (jump $variable:ident) => {
        ::core::arch::naked_asm!("endbr64", "mov rax, [rip + {variable}]", $crate::__ring0_jump_rax!(), variable = sym $variable)
    };
}

/// The two functions' instructions. The breakpoints are never reached: they end speculation.
#[doc(hidden)]
#[cfg(target_arch = "x86")]
#[macro_export]
macro_rules! __ring0_probe_fire_asm {
    (stub) => {
        ::core::arch::naked_asm!($crate::__ring0_return!())
    };
    (jump $variable:ident) => {
        ::core::arch::naked_asm!("mov eax, [{variable}]", "jmp eax", "int3", variable = sym $variable)
    };
}
