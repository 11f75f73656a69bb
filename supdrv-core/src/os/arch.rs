//! Instructions. Not dependent on the system, but behind the seam so that tests can feed values.
//!
//! The defaults execute the instruction; they are for code that runs in ring-0.

/// Result of CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuidResult {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// The six segment selectors, zero-extended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the registers' own names")]
pub struct SegmentSelectors {
    pub cs: u16,
    pub ss: u16,
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
}

#[cfg(target_arch = "x86")]
use core::arch::x86 as intrinsics;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64 as intrinsics;

/// Instructions of x86. Everything is class I.
pub trait OsArch {
    /// CPUID of `leaf` and `subleaf` on the current CPU.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        let r = intrinsics::__cpuid_count(leaf, subleaf);
        CpuidResult { eax: r.eax, ebx: r.ebx, ecx: r.ecx, edx: r.edx }
    }

    /// Time stamp counter of the current CPU, not serialised.
    fn tsc(&self) -> u64 {
        // SAFETY: every CPU this driver runs on has RDTSC, and ring-0 may always execute it.
        unsafe { intrinsics::_rdtsc() }
    }

    /// Reads a model-specific register.
    ///
    /// # Safety
    /// 1. CPUID says that the register exists on the current CPU.
    /// 2. The caller stays on that CPU (pinned) between the check and the read.
    unsafe fn rdmsr(&self, msr: u32) -> u64 {
        let (low, high): (u32, u32);
        // SAFETY: the register exists (condition 1 and 2); the core runs in ring-0.
        unsafe {
            core::arch::asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
        }
        (u64::from(high) << 32) | u64::from(low)
    }

    /// CR0.
    fn cr0(&self) -> usize {
        let value: usize;
        // SAFETY: ring-0 may always read CR0.
        unsafe { core::arch::asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    /// CR4.
    fn cr4(&self) -> usize {
        let value: usize;
        // SAFETY: ring-0 may always read CR4.
        unsafe { core::arch::asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    /// The segment selectors of the current CPU.
    fn segment_selectors(&self) -> SegmentSelectors {
        let mut s = SegmentSelectors::default();
        // SAFETY: reading segment registers is always allowed and has no side effects.
        unsafe {
            core::arch::asm!("mov {:x}, cs", out(reg) s.cs, options(nomem, nostack, preserves_flags));
            core::arch::asm!("mov {:x}, ss", out(reg) s.ss, options(nomem, nostack, preserves_flags));
            core::arch::asm!("mov {:x}, ds", out(reg) s.ds, options(nomem, nostack, preserves_flags));
            core::arch::asm!("mov {:x}, es", out(reg) s.es, options(nomem, nostack, preserves_flags));
            core::arch::asm!("mov {:x}, fs", out(reg) s.fs, options(nomem, nostack, preserves_flags));
            core::arch::asm!("mov {:x}, gs", out(reg) s.gs, options(nomem, nostack, preserves_flags));
        }
        s
    }

    /// Disables interrupts on the current CPU and returns the flags to restore.
    fn irq_save(&self) -> usize {
        let flags: usize;
        // Without a suffix the assembler takes the 16-bit form on 32-bit hosts.
        // SAFETY: ring-0 may clear IF; the matching restore is the caller's duty and can't break memory safety.
        #[cfg(target_pointer_width = "64")]
        unsafe {
            core::arch::asm!("pushfq", "pop {}", "cli", out(reg) flags);
        }
        // SAFETY: as above.
        #[cfg(target_pointer_width = "32")]
        unsafe {
            core::arch::asm!("pushfd", "pop {}", "cli", out(reg) flags);
        }
        flags
    }

    /// Restores the interrupt flag.
    ///
    /// # Safety
    /// `flags` is what the matching [`irq_save`](Self::irq_save) returned, on the same CPU; LIFO.
    unsafe fn irq_restore(&self, flags: usize) {
        // SAFETY: restores exactly the flags that were there (condition of the function).
        #[cfg(target_pointer_width = "64")]
        unsafe {
            core::arch::asm!("push {}", "popfq", in(reg) flags);
        }
        // SAFETY: as above.
        #[cfg(target_pointer_width = "32")]
        unsafe {
            core::arch::asm!("push {}", "popfd", in(reg) flags);
        }
    }

    /// Width in bits of a canonical virtual address: 48, or 57 with five-level paging.
    fn virtual_address_bits(&self) -> u32 {
        const CR4_LA57: usize = 1 << 12;
        if self.cr4() & CR4_LA57 != 0 { 57 } else { 48 }
    }

    /// Whether a kernel address can be one: not in the first or last page, and canonical for the address width in use. This is the
    /// interface's *valid pointer*; it says nothing about what is there.
    fn is_plausible_address(&self, address: usize) -> bool {
        if address.wrapping_add(super::PAGE_SIZE) < 2 * super::PAGE_SIZE {
            return false;
        }
        if usize::BITS < 64 {
            return true;
        }
        let fits = |bits: u32| {
            let unused = u64::BITS - bits.min(u64::BITS);
            let address = (address as u64).cast_signed();
            (address << unused) >> unused == address
        };
        // The CPU is only asked when it makes a difference.
        fits(48) || fits(self.virtual_address_bits())
    }
}
