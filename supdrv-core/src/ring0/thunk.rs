//! Functions with variable arguments, which Rust can't define: each stores its arguments where a `va_list` finds them and calls the function that
//! takes one. One thunk per calling convention; the number is that of the fixed arguments, the last of which is the format.

/// How a function in assembly returns. A breakpoint behind it is never reached: it ends speculation.
#[doc(hidden)]
#[cfg(not(feature = "kernel-thunks"))]
#[macro_export]
macro_rules! __ring0_return {
    () => {
        "ret\nint3"
    };
}

/// How a function in assembly returns in a kernel that replaces all returns.
#[doc(hidden)]
#[cfg(feature = "kernel-thunks")]
#[macro_export]
macro_rules! __ring0_return {
    () => {
        "jmp __x86_return_thunk"
    };
}

/// A jump to where RAX points.
#[doc(hidden)]
#[cfg(not(feature = "kernel-thunks"))]
#[macro_export]
macro_rules! __ring0_jump_rax {
    () => {
        "jmp rax\nint3"
    };
}

/// A jump to where RAX points in a kernel that replaces all indirect jumps.
#[doc(hidden)]
#[cfg(feature = "kernel-thunks")]
#[macro_export]
macro_rules! __ring0_jump_rax {
    () => {
        "jmp __x86_indirect_thunk_rax"
    };
}

/// System V, 64 bits: six registers, saved in an area that the list points to.
#[doc(hidden)]
#[cfg(all(target_arch = "x86_64", not(any(windows, target_os = "uefi"))))]
#[macro_export]
macro_rules! __ring0_thunk {
    ([$($export:tt)*] $name:ident $fixed:tt $target:ident) => {
        $($export)*
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            ::core::arch::naked_asm!(
                "endbr64",
                "sub rsp, 0x58",
                "mov [rsp + 0x20], rdi",
                "mov [rsp + 0x28], rsi",
                "mov [rsp + 0x30], rdx",
                "mov [rsp + 0x38], rcx",
                "mov [rsp + 0x40], r8",
                "mov [rsp + 0x48], r9",
                // The list: offset of the next register, no floating point registers, the stack, the area.
                "mov dword ptr [rsp], 8 * {fixed}",
                "mov dword ptr [rsp + 4], 48",
                "lea rax, [rsp + 0x60]",
                "mov [rsp + 8], rax",
                "lea rax, [rsp + 0x20]",
                "mov [rsp + 0x10], rax",
                $crate::__ring0_thunk_list!($fixed),
                "call {target}",
                "add rsp, 0x58",
                $crate::__ring0_return!(),
                fixed = const $fixed,
                target = sym $target,
            )
        }
    };
}

/// The register of the argument behind the fixed ones.
#[doc(hidden)]
#[cfg(all(target_arch = "x86_64", not(any(windows, target_os = "uefi"))))]
#[macro_export]
macro_rules! __ring0_thunk_list {
    (1) => {
        "mov rsi, rsp"
    };
    (3) => {
        "mov rcx, rsp"
    };
    (5) => {
        "mov r9, rsp"
    };
}

/// Microsoft, 64 bits: four registers have their places on the stack, before the other arguments.
#[doc(hidden)]
#[cfg(all(target_arch = "x86_64", any(windows, target_os = "uefi")))]
#[macro_export]
macro_rules! __ring0_thunk {
    ([$($export:tt)*] $name:ident $fixed:tt $target:ident) => {
        $($export)*
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            ::core::arch::naked_asm!(
                "mov [rsp + 0x08], rcx",
                "mov [rsp + 0x10], rdx",
                "mov [rsp + 0x18], r8",
                "mov [rsp + 0x20], r9",
                "sub rsp, 0x38",
                $crate::__ring0_thunk_list!($fixed),
                "call {target}",
                "add rsp, 0x38",
                $crate::__ring0_return!(),
                target = sym $target,
            )
        }
    };
}

/// The argument behind the fixed ones, and a fifth one that is on the stack.
#[doc(hidden)]
#[cfg(all(target_arch = "x86_64", any(windows, target_os = "uefi")))]
#[macro_export]
macro_rules! __ring0_thunk_list {
    (1) => {
        "lea rdx, [rsp + 0x48]"
    };
    (3) => {
        "lea r9, [rsp + 0x58]"
    };
    (5) => {
        "mov rax, [rsp + 0x60]\nmov [rsp + 0x20], rax\nlea rax, [rsp + 0x68]\nmov [rsp + 0x28], rax"
    };
}

/// 32 bits: everything is on the stack.
#[doc(hidden)]
#[cfg(target_arch = "x86")]
#[macro_export]
macro_rules! __ring0_thunk {
    ([$($export:tt)*] $name:ident $fixed:tt $target:ident) => {
        $($export)*
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            ::core::arch::naked_asm!(
                "lea eax, [esp + 4 + 4 * {fixed}]",
                "push eax",
                ".rept {fixed}",
                // Each push moves the next one to the same place.
                "push dword ptr [esp + 4 + 4 * {fixed}]",
                ".endr",
                "call {target}",
                "add esp, 4 + 4 * {fixed}",
                $crate::__ring0_return!(),
                fixed = const $fixed,
                target = sym $target,
            )
        }
    };
}
