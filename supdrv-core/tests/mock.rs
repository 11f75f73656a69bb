//! The mock system keeps its own promises.

use supdrv_core::mock::{Host, replay};

#[test]
fn a_driver_comes_up_and_goes_away() {
    let host = Host::new();
    let client = host.open();
    assert_eq!({ client.cookie().unwrap().session }, client.session().key());
    drop(client);
    drop(host);
}

#[test]
fn init_survives_every_failure() {
    let replayed = replay(|os| Host::on(os).map(drop));
    assert!(replayed.calls > 10, "{replayed:?}");
}
