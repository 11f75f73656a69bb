//! The handle table of a session, by itself; `semaphores.rs` tests it through requests.

use supdrv_core::abi::status::*;
use supdrv_core::handle_table::{BLOCK_ENTRIES, Entries, MAX_HANDLES, allocate};
use supdrv_core::mock::{Call, MockOs};
use supdrv_core::os::LockClass;
use supdrv_core::sync::IrqSpinLock;

const CONTEXT: u32 = 4;

type Table = IrqSpinLock<Entries<MockOs>, MockOs>;

fn table(os: &MockOs) -> Table {
    IrqSpinLock::new(os, LockClass::HandleTable, Entries::new()).unwrap()
}

fn add(os: &MockOs, table: &Table, object: usize) -> u32 {
    allocate(table, os, object, CONTEXT).unwrap()
}

#[test]
fn handles_count_from_one_and_freed_ones_wait_for_all_others() {
    let os = MockOs::new();
    let table = table(&os);
    assert_eq!([10, 20, 30].map(|object| add(&os, &table, object)), [1, 2, 3]);
    assert_eq!(table.lock().remove(2, CONTEXT), Some(20));
    assert_eq!(add(&os, &table, 40), 4);
    let rest: Vec<u32> = (5..=BLOCK_ENTRIES).map(|object| add(&os, &table, object as usize)).collect();
    assert_eq!(rest, (5..=BLOCK_ENTRIES).collect::<Vec<_>>());
    assert_eq!(add(&os, &table, 50), 2, "now it is its turn");
    assert_eq!(add(&os, &table, 60), BLOCK_ENTRIES + 1, "the table grows");
}

#[test]
fn a_handle_is_found_in_its_context_only() {
    let os = MockOs::new();
    let table = table(&os);
    let handle = add(&os, &table, 0x1000);
    let mut entries = table.lock();
    assert_eq!(entries.lookup(handle, CONTEXT), Some(0x1000));
    for (wrong, context) in
        [(handle, 5), (0, CONTEXT), (handle + 1, CONTEXT), (MAX_HANDLES + 1, CONTEXT), (u32::MAX, CONTEXT)]
    {
        assert_eq!(entries.lookup(wrong, context), None, "{wrong} {context}");
        assert_eq!(entries.remove(wrong, context), None, "{wrong} {context}");
    }
    assert_eq!(entries.remove(handle, CONTEXT), Some(0x1000));
    assert_eq!(entries.remove(handle, CONTEXT), None, "twice");
}

#[test]
fn draining_goes_upwards() {
    let os = MockOs::new();
    let table = table(&os);
    for object in 1..=5000 {
        add(&os, &table, object);
    }
    for handle in (1..=5000).filter(|handle| ![1, 5, 9, 2048, 2049, 4999].contains(handle)) {
        table.lock().remove(handle, CONTEXT).unwrap();
    }
    let mut from = 0;
    let drained: Vec<(usize, u32)> = std::iter::from_fn(|| table.lock().drain_next(&mut from)).collect();
    assert_eq!(drained, [1, 5, 9, 2048, 2049, 4999].map(|object| (object, CONTEXT)));
}

#[test]
fn a_full_table_says_so_and_takes_what_is_freed() {
    let os = MockOs::new();
    let table = table(&os);
    for object in 1..=MAX_HANDLES {
        assert_eq!(add(&os, &table, object as usize), object);
    }
    assert_eq!(allocate(&table, &os, 1, CONTEXT), Err(VERR_NO_MORE_HANDLES));
    assert_eq!(table.lock().remove(777, CONTEXT), Some(777));
    assert_eq!(add(&os, &table, 1), 777);
    assert_eq!(allocate(&table, &os, 1, CONTEXT), Err(VERR_NO_MORE_HANDLES));
}

#[test]
fn a_table_that_cannot_grow_still_works() {
    let os = MockOs::new();
    let table = table(&os);
    os.fail_next(Call::HeapAlloc, VERR_NO_MEMORY);
    assert_eq!(allocate(&table, &os, 1, CONTEXT), Err(VERR_NO_MEMORY));
    for object in 1..=BLOCK_ENTRIES {
        add(&os, &table, object as usize);
    }
    os.fail_next(Call::HeapAlloc, VERR_NO_MEMORY);
    assert_eq!(allocate(&table, &os, 1, CONTEXT), Err(VERR_NO_MEMORY));
    assert_eq!(table.lock().lookup(BLOCK_ENTRIES, CONTEXT), Some(BLOCK_ENTRIES as usize));
    assert_eq!(add(&os, &table, 1), BLOCK_ENTRIES + 1);
}
