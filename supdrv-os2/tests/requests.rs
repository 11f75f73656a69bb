//! Request packets and the clock.

use supdrv_os2::clock::Clock;
use supdrv_os2::packet::{FarPointer, GENERAL_FAILURE, Ioctl, Request, UNKNOWN_COMMAND};

fn packet(command: u8, fields: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 0x0d];
    packet[2] = command;
    packet.extend_from_slice(fields);
    packet
}

const IOCTL: [u8; 16] = [0xc0, 1, 0x10, 0x20, 0x57, 1, 0, 0, 3, 0, 24, 0, 24, 0, 0, 0];

fn cookie() -> Ioctl {
    let mut fields = IOCTL;
    fields[10..12].copy_from_slice(&5_u16.to_le_bytes());
    match Request::parse(&packet(0x10, &fields)) {
        Ok(Request::Ioctl(ioctl)) => ioctl,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ioctl_packet_has_all_its_fields() {
    let ioctl = cookie();
    assert_eq!((ioctl.category, ioctl.function, ioctl.sfn), (0xc0, 1, 5));
    assert_eq!(ioctl.parameter, FarPointer { offset: 0x2010, selector: 0x0157 });
    assert_eq!((ioctl.parameter_bytes, ioctl.data_bytes), (24, 0));
    assert_eq!(ioctl.check_ordinary(), Ok(()));
}

#[test]
fn an_ordinary_ioctl_has_exactly_a_header_and_no_data() {
    for parameter_bytes in [0, 23, 25] {
        assert_eq!(Ioctl { parameter_bytes, ..cookie() }.check_ordinary(), Err(GENERAL_FAILURE));
    }
    let data = FarPointer { offset: 0, selector: 4 };
    assert_eq!(Ioctl { data, ..cookie() }.check_ordinary(), Err(GENERAL_FAILURE));
    let parameter = FarPointer { offset: 0x2010, selector: 3 };
    assert_eq!(Ioctl { parameter, ..cookie() }.check_ordinary(), Err(GENERAL_FAILURE));
    assert_eq!(Ioctl { category: 0xc2, ..cookie() }.check_ordinary(), Err(UNKNOWN_COMMAND));
}

#[test]
fn open_close_read_and_shutdown_are_known() {
    assert_eq!(Request::parse(&packet(0x0d, &[5, 1])), Ok(Request::Open(0x105)));
    assert_eq!(Request::parse(&packet(0x0e, &[5, 1])), Ok(Request::Close(0x105)));
    let read = packet(4, &[0, 0x78, 0x56, 0x34, 0x12, 100, 0]);
    assert_eq!(Request::parse(&read), Ok(Request::Read { phys: 0x1234_5678, bytes: 100 }));
    assert_eq!(Request::parse(&packet(0x1c, &[])), Ok(Request::Shutdown));
}

#[test]
fn other_commands_and_short_packets_are_unknown() {
    assert_eq!(Request::parse(&packet(8, &[0; 32])), Err(UNKNOWN_COMMAND));
    let whole = packet(0x10, &IOCTL);
    for length in 0..whole.len() {
        assert_eq!(Request::parse(&whole[..length]), Err(UNKNOWN_COMMAND), "{length} bytes");
    }
}

#[test]
fn time_goes_on_when_the_counter_wraps() {
    let mut clock = Clock::new();
    let before = clock.nanoseconds(|| 0xffff_fff0);
    assert_eq!(clock.nanoseconds(|| 0x10) - before, 32_000_000);
    assert_eq!(clock.nanoseconds(|| 0x10) - before, 32_000_000);
}
