//! The time page of a driver, as its readers see it.

use std::sync::atomic::Ordering::Relaxed;

use supdrv_core::abi::gip::{GipCpu, GipHeader};
use supdrv_core::mock::{Codes, Host};
use supdrv_core::os::NIL_CPU_ID;

/// Header and entries of a driver's page.
pub fn page<E: Codes>(host: &Host<E>) -> (&GipHeader, &[GipCpu]) {
    let address = host.driver().gip().address();
    assert_ne!(address, 0, "the driver has a page");
    // SAFETY: the driver's page is there as long as the driver, with as many entries as its header says.
    unsafe {
        let header = &*(address as *const GipHeader);
        let entries = (address as *const GipHeader).add(1).cast::<GipCpu>();
        (header, std::slice::from_raw_parts(entries, header.cpus.load(Relaxed).into()))
    }
}

/// All bytes of the page.
#[allow(dead_code, reason = "not every test needs it")]
pub fn bytes<E: Codes>(host: &Host<E>) -> Vec<u8> {
    let (header, _) = page(host);
    let length = usize::from(header.pages.load(Relaxed)) * 0x1000;
    let first = host.driver().gip().address() as *const u8;
    // SAFETY: nobody writes the page meanwhile: it is compared while nobody uses it.
    unsafe { std::slice::from_raw_parts(first, length) }.to_vec()
}

/// The page says the same about CPUs in all its tables, for every on-line CPU.
#[allow(dead_code, reason = "not every test needs it")]
pub fn assert_consistent<E: Codes>(host: &Host<E>) {
    let (header, entries) = page(host);
    let online = host.os().online_cpus();
    for index in 0..256 {
        let bit = header.online_set[index / 64].load(Relaxed) >> (index % 64) & 1;
        assert_eq!(bit == 1, online.contains(&index), "on-line bit of {index}");
    }
    assert_eq!(usize::from(header.online_count.load(Relaxed)), online.len());
    let mut owners = std::collections::BTreeSet::new();
    for entry in entries {
        let id = entry.cpu_id.load(Relaxed);
        assert!(id == NIL_CPU_ID || owners.insert(id), "CPU {id} has two entries");
        assert_eq!(entry.transaction_id.load(Relaxed) & 1, 0, "even between updates");
        assert_ne!(entry.interval_tsc.load(Relaxed), 0, "readers divide by it");
    }
    for index in online {
        let (mut id, mut apic) = (0, 0);
        host.os().edit_cpu(index, |cpu| (id, apic) = (cpu.id, cpu.apic_id));
        let by_apic = header.cpu_from_apic_id[usize::from(apic)].load(Relaxed);
        let by_index = header.cpu_from_set_index[index].load(Relaxed);
        for entry in [by_apic, by_index].map(|entry| &entries[usize::from(entry)]) {
            assert_eq!(entry.cpu_id.load(Relaxed), id);
            assert_eq!(entry.apic_id.load(Relaxed), u16::from(apic));
            assert_eq!(usize::from(entry.set_index.load(Relaxed)), index);
            assert_eq!(entry.state.load(Relaxed), 3, "on-line");
        }
    }
}
