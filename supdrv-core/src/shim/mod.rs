//! What shims have in common beyond the seam: the parts of native entry points and of system services that no kernel does differently.
//!
//! | module | what |
//! | --- | --- |
//! | [`nodes`] | the two device nodes, who may open them, sessions as opens and closes see them, error numbers of opens |
//! | [`gate`] | users of a module against its unload, where the kernel doesn't keep them apart |
//! | [`threads`] | the start of threads of modules, and waiting for their end |
//! | [`calls`] | a cross call as one pointer |
//! | [`wait`] | the loop of a wait on an [`EventState`](crate::sync::event::EventState) |
//!
//! Requests of callers are in [`dispatch::user`](crate::dispatch::user). [`ring0_policy!`](crate::ring0_policy) makes the methods of
//! [`OsPolicy`](crate::os::OsPolicy) that belong to the ring-0 API. Nothing here calls a system but through its traits.

pub mod calls;
pub mod gate;
pub mod nodes;
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
