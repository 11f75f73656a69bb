//! The calling process: `RTProcSelf`, `RTR0ProcHandleSelf`.

use super::runtime::Ring0;
use crate::os::OsIdentity;

/// Its id. Class I.
pub unsafe fn proc_self<R: Ring0>() -> u32 {
    R::os().process_id()
}

/// Its identity in the kernel, unique while it lives. Class I.
pub unsafe fn r0_proc_handle_self<R: Ring0>() -> usize {
    R::os().process_handle()
}
