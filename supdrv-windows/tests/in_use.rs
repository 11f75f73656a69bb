//! An unload routine that is called too early, which the I/O manager doesn't do: what is still in use is leaked, and the machine goes on.

use supdrv_windows::fake::{Config, Machine};

#[test]
fn what_is_in_use_at_unload_is_leaked_and_can_still_be_closed() {
    let machine = Machine::new(Config::default());
    let driver = machine.load().unwrap();
    let file = driver.open("VBoxDrv").unwrap();
    driver.unload_in_use();
    assert!(machine.log().contains("sessions at unload"), "{}", machine.log());
    machine.account(|account| {
        assert!(account.links.is_empty() && account.callbacks.is_empty() && account.process_notify.is_none());
        assert_eq!(account.devices.len(), 1, "the extension of the unrestricted device is in use");
    });
    assert!(file.control(0x0022_8204, &mut [0; 56], 48, 56).is_err());
    file.cleanup();
    drop(file);
    assert_eq!(machine.context(), (0, true));
}
