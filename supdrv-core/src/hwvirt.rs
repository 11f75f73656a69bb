//! What the CPU can do: paging mode and hardware virtualisation.

use crate::abi::Status;
use crate::abi::ioctl::VtCaps;
use crate::abi::status::{
    Result, VERR_SVM_DISABLED, VERR_SVM_NO_SVM, VERR_UNSUPPORTED_CPU, VERR_VMX_MSR_LOCKED_OR_DISABLED,
    VERR_VMX_NO_VMX,
};
use crate::os::{OsArch, OsIdentity};
use crate::sync::Pinned;

const MSR_FEATURE_CONTROL: u32 = 0x3a;
const MSR_VMX_PROCBASED: u32 = 0x482;
const MSR_VMX_PROCBASED2: u32 = 0x48b;
const MSR_VM_CR: u32 = 0xc001_0114;
const MSR_EFER: u32 = 0xc000_0080;

const INTEL: [u32; 3] = vendor(b"GenuineIntel");
const CENTAUR: [u32; 3] = vendor(b"CentaurHauls");
const AMD: [u32; 3] = vendor(b"AuthenticAMD");

/// A vendor as CPUID 0 tells it in EBX, EDX, ECX.
const fn vendor(name: &[u8; 12]) -> [u32; 3] {
    let n = name;
    [
        u32::from_le_bytes([n[0], n[1], n[2], n[3]]),
        u32::from_le_bytes([n[4], n[5], n[6], n[7]]),
        u32::from_le_bytes([n[8], n[9], n[10], n[11]]),
    ]
}

/// EDX of CPUID 1.
const EDX_MSR_AND_FXSR: u32 = (1 << 5) | (1 << 24);

fn bit(value: u64, bit: u32) -> bool {
    value >> bit & 1 != 0
}

const EXTENDED: u32 = 0x8000_0000;
const LEAF_SVM: u32 = 0x8000_000a;

/// Highest extended leaf, 0 if there are none.
fn max_extended_leaf(os: &impl OsArch) -> u32 {
    let max = os.cpuid(EXTENDED, 0).eax;
    if max >> 16 == EXTENDED >> 16 { max } else { 0 }
}

/// The paging mode of the current CPU, one of the interface's numbers; 0 if it can't be told. Class I.
///
/// PAE with global pages and NX is reported as without NX (4, not 6): clients know it that way.
#[doc(alias = "SUPR0GetPagingMode")]
#[inline]
pub fn paging_mode(os: &impl OsArch) -> u32 {
    let (cr0, cr4) = (os.cr0() as u64, os.cr4() as u64);
    if !bit(cr0, 0) || !bit(cr0, 31) {
        return 0;
    }
    let global = u32::from(bit(cr4, 7));
    if !bit(cr4, 5) {
        return 1 + global;
    }
    let has_features = max_extended_leaf(os) > EXTENDED;
    let edx = if has_features { u64::from(os.cpuid(EXTENDED + 1, 0).edx) } else { 0 };
    let efer = if bit(edx, 20) || bit(edx, 29) {
        // SAFETY: EFER exists on every CPU with NX or long mode, and all CPUs of a machine have the same.
        unsafe { os.rdmsr(MSR_EFER) }
    } else {
        0
    };
    let no_execute = bit(edx, 20) && bit(efer, 11);
    let long_mode = bit(edx, 29) && bit(efer, 10);
    match (long_mode, no_execute) {
        (true, no_execute) => 7 + global + 2 * u32::from(no_execute),
        (false, true) if global == 0 => 5,
        (false, _) => 3 + global,
    }
}

/// Whether and how the CPU virtualises. It changes nothing: neither MSRs nor CR4 are written. Class D.
///
/// # Errors
/// `VERR_UNSUPPORTED_CPU` (vendor), `VERR_VMX_NO_VMX`, `VERR_VMX_MSR_LOCKED_OR_DISABLED`, `VERR_SVM_NO_SVM`,
/// `VERR_SVM_DISABLED`.
#[doc(alias = "SUPR0QueryVTCaps")]
#[inline(always)]
pub fn vt_caps<O: OsArch + OsIdentity>(os: &O) -> Result<VtCaps> {
    let _pinned = Pinned::new(os);
    let leaf = os.cpuid(0, 0);
    let rest = [leaf.edx, leaf.ecx];
    match leaf.ebx {
        first if first == AMD[0] && rest == [AMD[1], AMD[2]] => svm_caps(os),
        first if first == INTEL[0] && rest == [INTEL[1], INTEL[2]] => vtx_caps(os),
        first if first == CENTAUR[0] && rest == [CENTAUR[1], CENTAUR[2]] => vtx_caps(os),
        _ => Err(VERR_UNSUPPORTED_CPU),
    }
}

/// The caller is pinned.
fn vtx_caps(os: &impl OsArch) -> Result<VtCaps> {
    let features = os.cpuid(1, 0);
    if !bit(features.ecx.into(), 5) || features.edx & EDX_MSR_AND_FXSR != EDX_MSR_AND_FXSR {
        return Err(VERR_VMX_NO_VMX);
    }
    // SAFETY: exists with VMX, which CPUID reported; the caller is pinned.
    let control = unsafe { os.rdmsr(MSR_FEATURE_CONTROL) };
    if bit(control, 0) && !bit(control, 2) {
        return Err(VERR_VMX_MSR_LOCKED_OR_DISABLED);
    }
    let mut caps = VtCaps::VT_X;
    // SAFETY: exists with VMX, as above.
    if bit(unsafe { os.rdmsr(MSR_VMX_PROCBASED) }, 63)
        // SAFETY: exists if secondary controls do, which bit 63 just said.
        && bit(unsafe { os.rdmsr(MSR_VMX_PROCBASED2) }, 33)
    {
        caps |= VtCaps::NESTED_PAGING;
    }
    Ok(caps)
}

/// The caller is pinned.
fn svm_caps(os: &impl OsArch) -> Result<VtCaps> {
    let missing: Status = VERR_SVM_NO_SVM;
    if max_extended_leaf(os) < LEAF_SVM
        || !bit(os.cpuid(EXTENDED + 1, 0).ecx.into(), 2)
        || os.cpuid(1, 0).edx & EDX_MSR_AND_FXSR != EDX_MSR_AND_FXSR
    {
        return Err(missing);
    }
    // SAFETY: exists with SVM, which CPUID reported; the caller is pinned.
    if bit(unsafe { os.rdmsr(MSR_VM_CR) }, 4) {
        return Err(VERR_SVM_DISABLED);
    }
    let mut caps = VtCaps::AMD_V;
    if bit(os.cpuid(LEAF_SVM, 0).edx.into(), 0) {
        caps |= VtCaps::NESTED_PAGING;
    }
    Ok(caps)
}
