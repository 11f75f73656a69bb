//! What a CPU can do: paging modes and capabilities, fed with every combination of registers that decides about them.

use supdrv_core::abi::ioctl::VtCaps;
use supdrv_core::abi::status::*;
use supdrv_core::hwvirt::{self, paging_mode};
use supdrv_core::mock::{Host, MockOs};
use supdrv_core::os::CpuidResult;

const PE: usize = 1;
const PG: usize = 1 << 31;
const PAE: usize = 1 << 5;
const PGE: usize = 1 << 7;
const EFER: u32 = 0xc000_0080;
const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;
const CPUID_NX: u32 = 1 << 20;
const CPUID_LM: u32 = 1 << 29;

fn mode(cr0: usize, cr4: usize, edx: u32, efer: u64) -> u32 {
    let os = MockOs::with_cpus(1);
    os.set_cpuid(0x8000_0001, 0, CpuidResult { edx, ..Default::default() });
    os.edit_cpu(0, |cpu| {
        (cpu.cr0, cpu.cr4) = (cr0, cr4);
        if edx & (CPUID_NX | CPUID_LM) == 0 {
            cpu.msrs.remove(&EFER);
        } else {
            cpu.msrs.insert(EFER, efer);
        }
    });
    paging_mode(&os)
}

#[test]
fn without_paging_there_is_no_mode() {
    for cr0 in [0, PE, PG] {
        assert_eq!(mode(cr0, PAE | PGE, CPUID_LM | CPUID_NX, LMA | NXE), 0);
    }
}

#[test]
fn the_mode_follows_from_four_bits() {
    let (on, all) = (PE | PG, CPUID_LM | CPUID_NX);
    let table = [
        (0, 0, 1),
        (PGE, 0, 2),
        // Without PAE the others don't count.
        (0, LMA | NXE, 1),
        (PGE, LMA | NXE, 2),
        (PAE, 0, 3),
        (PAE, NXE, 5),
        (PAE | PGE, 0, 4),
        // The original says 4 here, where 6 would be right.
        (PAE | PGE, NXE, 4),
        (PAE, LMA, 7),
        (PAE | PGE, LMA, 8),
        (PAE, LMA | NXE, 9),
        (PAE | PGE, LMA | NXE, 10),
        (PAE | PGE, 0xd00, 10),
        (PAE | PGE, 0x500, 8),
    ];
    for (cr4, efer, expected) in table {
        assert_eq!(mode(on, cr4, all, efer), expected, "CR4 {cr4:#x}, EFER {efer:#x}");
    }
}

#[test]
fn efer_is_read_only_where_it_exists() {
    let on = PE | PG;
    // The machine notices a read of a register that CPUID doesn't promise.
    assert_eq!(mode(on, PAE | PGE, 0, 0), 4);
    assert_eq!(mode(on, PAE, 0, 0), 3);
    assert_eq!(mode(on, PAE, CPUID_NX, NXE | LMA), 5, "no long mode without its CPUID bit");
    assert_eq!(mode(on, PAE, CPUID_LM, NXE | LMA), 7, "no NX without its CPUID bit");
}

/// The answer of the request.
fn vt_caps(os: &MockOs) -> Result<VtCaps> {
    let host = Host::on(os).expect("a driver");
    host.open().vt_caps().map(VtCaps::from_bits_retain)
}

fn intel(feature_control: u64) -> MockOs {
    let os = MockOs::with_cpus(1);
    os.edit_cpu(0, |cpu| _ = cpu.msrs.insert(0x3a, feature_control));
    os
}

#[test]
fn intel_has_vtx_unless_it_is_locked_away() {
    let both = VtCaps::VT_X | VtCaps::NESTED_PAGING;
    for (feature_control, expected) in [
        (0b101, Ok(both)),
        (0, Ok(both)),
        (0b100, Ok(both)),
        (0b001, Err(VERR_VMX_MSR_LOCKED_OR_DISABLED)),
        (0b011, Err(VERR_VMX_MSR_LOCKED_OR_DISABLED)),
    ] {
        assert_eq!(vt_caps(&intel(feature_control)), expected, "{feature_control:#b}");
    }
}

#[test]
fn nested_paging_needs_both_levels_of_controls() {
    for (procbased, procbased2, expected) in [
        (1u64 << 63, 1u64 << 33, VtCaps::VT_X | VtCaps::NESTED_PAGING),
        (1 << 63, 0, VtCaps::VT_X),
        (1 << 63, !(1 << 33), VtCaps::VT_X),
    ] {
        let os = intel(5);
        os.edit_cpu(0, |cpu| {
            cpu.msrs.insert(0x482, procbased);
            cpu.msrs.insert(0x48b, procbased2);
        });
        assert_eq!(vt_caps(&os), Ok(expected));
    }
    let os = intel(5);
    os.edit_cpu(0, |cpu| {
        cpu.msrs.insert(0x482, !(1 << 63));
        cpu.msrs.remove(&0x48b);
    });
    assert_eq!(vt_caps(&os), Ok(VtCaps::VT_X), "the second register doesn't exist and isn't read");
}

#[test]
fn a_cpu_without_vmx_says_so() {
    let good = CpuidResult { ecx: 1 << 5, edx: (1 << 5) | (1 << 24), ..Default::default() };
    for leaf in [
        CpuidResult { ecx: 0, ..good },
        CpuidResult { edx: 1 << 5, ..good },
        CpuidResult { edx: 1 << 24, ..good },
    ] {
        let os = intel(5);
        os.set_cpuid(1, 0, leaf);
        os.edit_cpu(0, |cpu| cpu.msrs.clear());
        assert_eq!(vt_caps(&os), Err(VERR_VMX_NO_VMX), "{leaf:?}");
    }
}

#[test]
fn amd_has_svm_unless_it_is_disabled() {
    let os = MockOs::with_cpus(1);
    os.set_amd();
    assert_eq!(vt_caps(&os), Ok(VtCaps::AMD_V | VtCaps::NESTED_PAGING));
    os.set_cpuid(0x8000_000a, 0, CpuidResult::default());
    assert_eq!(vt_caps(&os), Ok(VtCaps::AMD_V));
    os.edit_cpu(0, |cpu| _ = cpu.msrs.insert(0xc001_0114, 1 << 4));
    assert_eq!(vt_caps(&os), Err(VERR_SVM_DISABLED));
    os.edit_cpu(0, |cpu| _ = cpu.msrs.remove(&0xc001_0114));
    os.set_cpuid(0x8000_0001, 0, CpuidResult::default());
    assert_eq!(vt_caps(&os), Err(VERR_SVM_NO_SVM));
}

#[test]
fn amd_needs_its_extended_leaf() {
    let os = MockOs::with_cpus(1);
    os.set_amd();
    os.set_cpuid(0x8000_0000, 0, CpuidResult { eax: 0x8000_0008, ..Default::default() });
    os.edit_cpu(0, |cpu| _ = cpu.msrs.remove(&0xc001_0114));
    assert_eq!(vt_caps(&os), Err(VERR_SVM_NO_SVM));
}

#[test]
fn other_vendors_are_unsupported() {
    let os = MockOs::with_cpus(1);
    os.set_cpuid(0, 0, CpuidResult { eax: 1, ebx: 1, ecx: 2, edx: 3 });
    assert_eq!(vt_caps(&os), Err(VERR_UNSUPPORTED_CPU));
}

/// All registers are read on one CPU: the caller is pinned, and free again afterwards.
#[test]
fn the_caller_is_pinned_while_it_looks() {
    use supdrv_core::mock::Call;
    let os = MockOs::with_cpus(4);
    os.start_trace();
    assert!(hwvirt::vt_caps(&os).is_ok());
    assert!(os.take_trace().contains(&Call::PreemptDisable));
    assert!(os.preemption_is_enabled());
    os.edit_cpu(3, |cpu| _ = cpu.msrs.insert(0x3a, 1));
    assert_eq!(os.on_cpu(3, || hwvirt::vt_caps(&os)), Err(VERR_VMX_MSR_LOCKED_OR_DISABLED));
}
