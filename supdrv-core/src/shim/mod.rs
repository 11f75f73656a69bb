//! What shims have in common beyond the seam: the parts of native entry points and of system services that no kernel does differently.
//!
//! | module | what |
//! | --- | --- |
//! | [`nodes`] | the two device nodes, who may open them, sessions as opens and closes see them, error numbers of opens |
//! | [`gate`] | users of a module against its unload, where the kernel doesn't keep them apart |
//! | [`threads`] | the start of threads of modules, and waiting for their end |
//! | [`calls`] | a cross call as one pointer |
//! | [`cpus`] | a set of CPUs that changes while it is read |
//! | [`image`] | memory for images as one flat block |
//! | [`power`] | the machine sleeps and wakes up |
//! | [`wait`] | the loop of a wait on an [`EventState`](crate::sync::event::EventState) |
//!
//! Requests of callers are in [`dispatch::user`](crate::dispatch::user). [`ring0_policy!`](crate::ring0_policy) makes the methods of
//! [`OsPolicy`](crate::os::OsPolicy) that belong to the ring-0 API, [`glue_arch!`](crate::glue_arch) those of
//! [`OsArch`](crate::os::OsArch) that a C half answers. Nothing here calls a system but through its traits.

pub mod calls;
pub mod cpus;
pub mod gate;
pub mod image;
pub mod nodes;
pub mod power;
pub mod threads;
pub mod wait;

/// The methods of [`OsPolicy`](crate::os::OsPolicy) that hand the ring-0 API to the core, inside of its implementation; `$module` has
/// what [`ring0_exports!`](crate::ring0_exports) made.
#[macro_export]
macro_rules! ring0_policy {
    ($($module:ident)::+) => {
        fn ring0_exports(&self) -> &'static [$crate::ring0::Export] {
            $($module)::+::EXPORTS
        }

        fn tracer_globals(&self) -> Option<$crate::tracer::TracerGlobals> {
            Some(<$($module)::+::Runtime as $crate::ring0::Ring0>::tracer_globals())
        }

        fn gip_published(&self, address: usize) {
            $crate::ring0::events::gip_published::<$($module)::+::Runtime>(address);
        }

        fn session_closing(&self, session: usize) {
            $crate::ring0::events::session_closing::<$($module)::+::Runtime>(session);
        }
    };
}

/// The methods of [`OsArch`](crate::os::OsArch) that read the processor by functions of a C half, inside of its implementation: where a
/// fake kernel must be able to stand in for instructions.
#[macro_export]
macro_rules! glue_arch {
    ($($glue:ident)::+) => {
        fn cpuid(&self, leaf: u32, subleaf: u32) -> $crate::os::CpuidResult {
            let mut registers = [0; 4];
            // SAFETY: room for the four registers.
            unsafe { $($glue)::+::supdrv_glue_cpuid(leaf, subleaf, &raw mut registers) };
            let [eax, ebx, ecx, edx] = registers;
            $crate::os::CpuidResult { eax, ebx, ecx, edx }
        }

        unsafe fn rdmsr(&self, msr: u32) -> u64 {
            // SAFETY: the caller knows that the register exists.
            unsafe { $($glue)::+::supdrv_glue_rdmsr(msr) }
        }

        fn cr0(&self) -> usize {
            // SAFETY: reads a register.
            unsafe { $($glue)::+::supdrv_glue_cr0() as usize }
        }

        fn cr4(&self) -> usize {
            // SAFETY: reads a register.
            unsafe { $($glue)::+::supdrv_glue_cr4() as usize }
        }
    };
}
