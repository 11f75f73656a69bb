//! Physical memory: blocks, pages, and what is there already.

use super::*;
use supdrv_core::abi::status::{VERR_ADDRESS_TOO_BIG, VERR_NO_PHYS_MEMORY, VERR_NOT_SUPPORTED};
use supdrv_core::os::{CachePolicy, MemProt, OsIdentity, OsMemory, OsModule};
use supdrv_windows::Windows;

const PAGE: usize = 0x1000;
const PROT: MemProt = MemProt::READ.union(MemProt::WRITE);

fn free(object: <Windows as OsMemory>::MemObj) {
    assert!(Windows.mem_free(object).is_ok());
}

#[test]
fn blocks_and_pages_have_no_mapping_until_they_are_mapped() {
    with_driver(|_, _| {
        for object in [
            Windows.mem_alloc_phys(3 * PAGE, u64::MAX, PAGE).unwrap(),
            Windows.mem_alloc_phys_nc(3 * PAGE, 0xffff_ffff).unwrap(),
        ] {
            assert_eq!((Windows.mem_address(&object), Windows.mem_size(&object)), (0, 3 * PAGE));
            assert!(Windows.mem_page_phys(&object, 2).is_some_and(|phys| phys.is_multiple_of(PAGE as u64)));
            let map = Windows.mem_map_kernel(&object, PAGE, PAGE, PROT).unwrap();
            let at = Windows.mem_address(&map) as *mut u8;
            // SAFETY: a mapped page.
            assert!((0..PAGE).all(|byte| unsafe { at.add(byte).read() } == 0));
            assert_eq!(Windows.mem_page_phys(&map, 0), Windows.mem_page_phys(&object, 1));
            free(map);
            free(object);
        }
        assert_eq!(Windows.mem_alloc_phys(PAGE, 0xffff, PAGE).err(), Some(VERR_NO_PHYS_MEMORY));
        assert_eq!(Windows.mem_alloc_phys(PAGE, u64::MAX, 0x20_0000).err(), Some(VERR_NOT_SUPPORTED));
    });
}

#[test]
fn memory_of_a_device_is_entered_and_mapped_into_the_kernel_only() {
    with_driver(|_, _| {
        let object = Windows.mem_enter_phys(0xfee0_0000, 2 * PAGE, CachePolicy::Mmio).unwrap();
        assert_eq!(Windows.mem_page_phys(&object, 1), Some(0xfee0_1000));
        assert_eq!(Windows.mem_page_phys(&object, 2), None);
        let map = Windows.mem_map_kernel(&object, PAGE, PAGE, PROT).unwrap();
        assert_eq!(Windows.mem_page_phys(&map, 0), Some(0xfee0_1000));
        assert_ne!(Windows.mem_address(&map), 0);
        let user = Windows.mem_map_user(&object, PROT, Windows.process_handle());
        assert_eq!(user.err(), Some(VERR_NOT_SUPPORTED));
        free(map);
        free(object);
        let beyond = Windows.mem_enter_phys(1 << 52, PAGE, CachePolicy::Default);
        assert_eq!(beyond.err(), Some(VERR_ADDRESS_TOO_BIG));
    });
}

#[test]
fn an_emulated_kernel_has_none() {
    let machine = emulated();
    let driver = machine.load().unwrap();
    assert_eq!(Windows.mem_alloc_phys(PAGE, u64::MAX, PAGE).err(), Some(VERR_NOT_SUPPORTED));
    assert_eq!(Windows.mem_enter_phys(0, PAGE, CachePolicy::Default).err(), Some(VERR_NOT_SUPPORTED));
    driver.unload();
    assert_clean(&machine);
}
