//! `RTNet*`, against packets whose checksums are known, and against a sum that adds bytes one by one.

use std::ffi::c_void;
use std::ptr::null;

use crate::import;

import! {
    fn RTNetIPv4AddDataChecksum(data: *const c_void, bytes: usize, sum: u32, odd: *mut bool) -> u32;
    fn RTNetIPv4FinalizeChecksum(sum: u32) -> u16;
    fn RTNetIPv4HdrChecksum(ip: *const u8) -> u16;
    fn RTNetIPv4IsHdrValid(ip: *const u8, header_max: usize, packet_max: usize, checksum: bool) -> bool;
    fn RTNetIPv4PseudoChecksum(ip: *const u8) -> u32;
    fn RTNetIPv4PseudoChecksumBits(source: u32, destination: u32, protocol: u8, bytes: u16) -> u32;
    fn RTNetIPv4AddUDPChecksum(udp: *const u8, sum: u32) -> u32;
    fn RTNetIPv4AddTCPChecksum(tcp: *const u8, sum: u32) -> u32;
    fn RTNetIPv4UDPChecksum(ip: *const u8, udp: *const u8, data: *const c_void) -> u16;
    fn RTNetIPv4TCPChecksum(ip: *const u8, tcp: *const u8, data: *const c_void) -> u16;
    fn RTNetUDPChecksum(sum: u32, udp: *const u8) -> u16;
    fn RTNetTCPChecksum(sum: u32, tcp: *const u8, data: *const c_void, bytes: usize) -> u16;
    fn RTNetIPv4IsUDPSizeValid(ip: *const u8, udp: *const u8, packet_max: usize) -> bool;
    fn RTNetIPv4IsUDPValid(ip: *const u8, udp: *const u8, data: *const c_void, packet_max: usize, checksum: bool) -> bool;
    fn RTNetIPv4IsTCPSizeValid(ip: *const u8, tcp: *const u8, header_max: usize, packet_max: usize) -> bool;
    fn RTNetIPv4IsTCPValid(ip: *const u8, tcp: *const u8, header_max: usize, data: *const c_void, packet_max: usize, checksum: bool) -> bool;
    fn RTNetIPv4IsDHCPValid(udp: *const u8, dhcp: *const u8, bytes: usize, message_type: *mut u8) -> bool;
    fn RTNetIPv6PseudoChecksum(ip: *const u8) -> u32;
    fn RTNetIPv6PseudoChecksumBits(source: *const u8, destination: *const u8, protocol: u8, bytes: u16) -> u32;
    fn RTNetIPv6PseudoChecksumEx(ip: *const u8, protocol: u8, bytes: u16) -> u32;
}

/// The checksum of RFC 1071, as the bytes of the field.
fn reference(pieces: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0u64;
    for (index, byte) in pieces.concat().iter().enumerate() {
        sum += u64::from(*byte) << if index % 2 == 0 { 8 } else { 0 };
    }
    while sum >> 16 != 0 {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The well-known example header, whose checksum is 0xb861.
const HEADER: [u8; 20] =
    [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];

/// A packet over IPv4: header, then transport header and data together.
fn packet(protocol: u8, transport: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut ip = HEADER.to_vec();
    ip[2..4].copy_from_slice(&(20 + transport.len() as u16).to_be_bytes());
    ip[9] = protocol;
    (ip, transport.to_vec())
}

fn pseudo(ip: &[u8], protocol: u8, bytes: usize) -> Vec<u8> {
    let mut pseudo = ip[12..20].to_vec();
    pseudo.extend([0, protocol]);
    pseudo.extend((bytes as u16).to_be_bytes());
    pseudo
}

fn udp(data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut udp = vec![0x12, 0x34, 0x00, 0x35];
    udp.extend((8 + data.len() as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(data);
    let (ip, mut udp) = packet(17, &udp);
    let checksum = reference(&[&pseudo(&ip, 17, udp.len()), &udp]);
    udp[6..8].copy_from_slice(&checksum);
    (ip, udp)
}

fn tcp(data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut tcp = vec![0; 24];
    tcp[..4].copy_from_slice(&[1, 2, 3, 4]);
    (tcp[12], tcp[13], tcp[20]) = (0x60, 0x18, 2);
    tcp.extend(data);
    let (ip, mut tcp) = packet(6, &tcp);
    let checksum = reference(&[&pseudo(&ip, 6, tcp.len()), &tcp]);
    tcp[16..18].copy_from_slice(&checksum);
    (ip, tcp)
}

#[test]
fn the_header_s_checksum_is_known() {
    assert_eq!(RTNetIPv4HdrChecksum(HEADER.as_ptr()).to_ne_bytes(), [0xb8, 0x61]);
    assert!(RTNetIPv4IsHdrValid(HEADER.as_ptr(), 20, 0x73, true));
}

#[test]
fn a_header_that_makes_no_sense_is_refused() {
    let valid = |change: fn(&mut [u8; 20]), header_max, packet_max, checksum| {
        let mut header = HEADER;
        change(&mut header);
        RTNetIPv4IsHdrValid(header.as_ptr(), header_max, packet_max, checksum)
    };
    assert!(
        valid(|_| {}, 20, 1500, true) && !valid(|_| {}, 19, 1500, false) && !valid(|_| {}, 20, 0x72, false)
    );
    assert!(!valid(|h| h[0] = 0x65, 20, 1500, false) && !valid(|h| h[0] = 0x44, 20, 1500, false));
    assert!(!valid(|h| h[0] = 0x46, 20, 1500, false), "options beyond what is there");
    assert!(!valid(|h| h[2..4].copy_from_slice(&[0, 19]), 20, 1500, false));
    assert!(!valid(|h| h[11] ^= 1, 20, 1500, true) && valid(|h| h[11] ^= 1, 20, 1500, false));
}

#[test]
fn packets_have_their_checksums() {
    for data in [&b""[..], b"x", b"hello", b"even number of bytes", &[0xff; 1001]] {
        let (ip, packet) = udp(data);
        let (header, payload) = packet.split_at(8);
        let found: [u8; 2] = packet[6..8].try_into().unwrap();
        assert_eq!(
            RTNetIPv4UDPChecksum(ip.as_ptr(), header.as_ptr(), payload.as_ptr().cast()).to_ne_bytes(),
            found
        );
        assert_eq!(
            RTNetUDPChecksum(RTNetIPv4PseudoChecksum(ip.as_ptr()), packet.as_ptr()).to_ne_bytes(),
            found
        );
        let (ip, packet) = tcp(data);
        let (header, payload) = packet.split_at(24);
        let found: [u8; 2] = packet[16..18].try_into().unwrap();
        assert_eq!(
            RTNetIPv4TCPChecksum(ip.as_ptr(), header.as_ptr(), payload.as_ptr().cast()).to_ne_bytes(),
            found
        );
        assert_eq!(RTNetIPv4TCPChecksum(ip.as_ptr(), packet.as_ptr(), null()).to_ne_bytes(), found);
        let sum = RTNetIPv4PseudoChecksum(ip.as_ptr());
        assert_eq!(RTNetTCPChecksum(sum, packet.as_ptr(), null(), data.len()).to_ne_bytes(), found);
        assert_eq!(
            RTNetIPv4AddTCPChecksum(header.as_ptr(), 0) & 0xffff,
            RTNetIPv4AddTCPChecksum(packet.as_ptr(), 0) & 0xffff
        );
    }
}

#[test]
fn a_result_of_zero_stays_zero() {
    assert_eq!(
        (
            RTNetIPv4FinalizeChecksum(0xffff),
            RTNetIPv4FinalizeChecksum(0),
            RTNetIPv4FinalizeChecksum(0x1_fffe)
        ),
        (0, 0xffff, 0)
    );
}

#[test]
fn payload_can_be_added_in_pieces() {
    let data: Vec<u8> = (0..200).map(|n: u32| (n * 7 + 3) as u8).collect();
    let whole = RTNetIPv4FinalizeChecksum(RTNetIPv4AddDataChecksum(
        data.as_ptr().cast(),
        data.len(),
        0,
        false_flag(),
    ));
    assert_eq!(whole.to_ne_bytes(), reference(&[&data]));
    for size in [1, 2, 3, 7, 50, 199] {
        let (mut sum, mut odd) = (0, false);
        for piece in data.chunks(size) {
            sum = RTNetIPv4AddDataChecksum(piece.as_ptr().cast(), piece.len(), sum, &raw mut odd);
            sum = RTNetIPv4AddDataChecksum(piece.as_ptr().cast(), 0, sum, &raw mut odd);
        }
        assert_eq!((RTNetIPv4FinalizeChecksum(sum), odd), (whole, false), "pieces of {size}");
    }
}

/// A place for the flag of one call.
fn false_flag() -> &'static mut bool {
    Box::leak(Box::new(false))
}

#[test]
fn sizes_and_checksums_of_packets_are_validated() {
    let (ip, mut packet) = udp(b"hello");
    let valid = |packet: &[u8], max, checksum| {
        RTNetIPv4IsUDPValid(ip.as_ptr(), packet.as_ptr(), packet[8..].as_ptr().cast(), max, checksum)
    };
    assert!(
        valid(&packet, 13, true)
            && !valid(&packet, 12, true)
            && !RTNetIPv4IsUDPSizeValid(ip.as_ptr(), packet.as_ptr(), 7)
    );
    packet[9] ^= 1;
    assert!(!valid(&packet, 13, true) && valid(&packet, 13, false));
    packet[6..8].fill(0);
    assert!(valid(&packet, 13, true), "without a checksum nothing is checked");
    packet[5] = 14;
    assert!(!valid(&packet, 100, false), "longer than the header says");
    packet[5] = 7;
    assert!(!valid(&packet, 100, false));
    assert_ne!(RTNetIPv4AddUDPChecksum(packet.as_ptr(), 0), 0);

    let (ip, mut packet) = tcp(b"hello");
    let valid = |packet: &[u8], header, max, checksum| {
        RTNetIPv4IsTCPValid(ip.as_ptr(), packet.as_ptr(), header, packet[24..].as_ptr().cast(), max, checksum)
    };
    assert!(
        valid(&packet, 24, 29, true)
            && !valid(&packet, 23, 29, true)
            && !valid(&packet, 24, 28, true)
            && !valid(&packet, 19, 99, false)
    );
    assert!(RTNetIPv4IsTCPSizeValid(ip.as_ptr(), packet.as_ptr(), 60, 1500));
    packet[25] ^= 1;
    assert!(!valid(&packet, 24, 29, true) && valid(&packet, 24, 29, false));
    let (mut other, _) = udp(b"");
    other[2..4].copy_from_slice(&[0, 100]);
    assert!(!RTNetIPv4IsTCPSizeValid(other.as_ptr(), packet.as_ptr(), 60, 1500), "not TCP");
}

#[test]
fn pseudo_headers_of_both_families() {
    let (source, destination) =
        (u32::from_ne_bytes([192, 168, 0, 1]), u32::from_ne_bytes([192, 168, 0, 199]));
    let swapped = |bytes: [u8; 4]| [bytes[1], bytes[0], bytes[3], bytes[2]];
    let mut as_if = swapped([192, 168, 0, 1]).to_vec();
    as_if.extend(swapped([192, 168, 0, 199]));
    as_if.extend([0, 17, 0, 95]);
    let sum = RTNetIPv4PseudoChecksumBits(source, destination, 17, 95);
    assert_eq!(
        RTNetIPv4FinalizeChecksum(sum).to_ne_bytes(),
        reference(&[&as_if]),
        "words of addresses are swapped"
    );

    let mut ip = vec![0x60, 0, 0, 0, 0x12, 0x34, 58, 64];
    ip.extend((0..32).map(|n| n * 5 + 1));
    let expected = |protocol, bytes: [u8; 2]| reference(&[&ip[8..], &bytes, &[0, protocol]]);
    assert_eq!(
        RTNetIPv4FinalizeChecksum(RTNetIPv6PseudoChecksum(ip.as_ptr())).to_ne_bytes(),
        expected(58, [0x12, 0x34])
    );
    assert_eq!(
        RTNetIPv4FinalizeChecksum(RTNetIPv6PseudoChecksumEx(ip.as_ptr(), 6, 0x2021)).to_ne_bytes(),
        expected(6, [0x20, 0x21])
    );
    let bits = RTNetIPv6PseudoChecksumBits(ip[8..].as_ptr(), ip[24..].as_ptr(), 17, 0x0102);
    assert_eq!(RTNetIPv4FinalizeChecksum(bits).to_ne_bytes(), expected(17, [1, 2]));
}

#[test]
fn dhcp_packets_are_checked_as_far_as_they_go() {
    let mut dhcp = vec![0; 240];
    (dhcp[0], dhcp[1], dhcp[2]) = (1, 1, 6);
    dhcp[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    dhcp.extend([0, 12, 3, b'a', b'b', b'c', 53, 1, 3, 255]);
    let check = |packet: &[u8]| {
        let mut kind = 99;
        (RTNetIPv4IsDHCPValid(null(), packet.as_ptr(), packet.len(), &raw mut kind), kind)
    };
    assert_eq!(check(&dhcp), (true, 3));
    assert_eq!(
        (check(&dhcp[..1]), check(&dhcp[..11]), check(&dhcp[..238])),
        ((true, 0), (true, 0), (true, 0))
    );
    let broken = |at: usize, value| {
        let mut packet = dhcp.clone();
        packet[at] = value;
        check(&packet).0
    };
    assert!(
        !broken(0, 3)
            && !broken(1, 2)
            && !broken(2, 7)
            && !broken(236, 0)
            && !broken(10, 0x40)
            && broken(10, 0x80)
    );
    assert!(!broken(246, 255), "no message type before the end");
    assert!(RTNetIPv4IsDHCPValid(null(), dhcp.as_ptr(), dhcp.len(), std::ptr::null_mut()));
}
