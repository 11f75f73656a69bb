//! Internet checksums and sanity checks of packets: `RTNet*`.
//!
//! A running sum adds up the 16-bit words of a packet as they lie in memory, in 32 bits. The result of folding is a word in memory order again,
//! whatever the CPU's order.

use core::ffi::c_void;

use super::types::CBool;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const IPV4_MIN_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
const TCP_MIN_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
/// Where the checksums are.
const IPV4_CHECKSUM: usize = 10;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// A word of a packet, in memory order.
fn word(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..) {
        Some([low, high, ..]) => u16::from_ne_bytes([*low, *high]),
        _ => 0,
    }
}

/// A number of a packet, which is in network order.
fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be(word(bytes, at))
}

/// The sum of all words; an odd last byte is padded with zero.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum: u32, chunk| {
        let high = chunk.get(1).copied().unwrap_or(0);
        sum.wrapping_add(u32::from(u16::from_ne_bytes([chunk.first().copied().unwrap_or(0), high])))
    })
}

/// As [`sum`] without the word at `except`.
fn sum_except(bytes: &[u8], except: usize) -> u32 {
    sum(bytes).wrapping_sub(u32::from(word(bytes, except)))
}

fn finalize(sum: u32) -> u16 {
    let folded = (sum >> 16) + (sum & 0xffff);
    !((folded + (folded >> 16)) as u16)
}

/// A byte as the second one of a word in memory.
const fn second_byte(byte: u8) -> u32 {
    u16::from_ne_bytes([0, byte]) as u32
}

fn header_bytes(header: &[u8]) -> usize {
    usize::from(header.first().copied().unwrap_or(0) & 15) * 4
}

/// Bytes behind the header, as the header says.
fn payload_bytes(header: &[u8]) -> u16 {
    number(header, 2).wrapping_sub(header_bytes(header) as u16)
}

fn ipv4_pseudo(header: &[u8]) -> u32 {
    let addresses = sum(header.get(12..20).unwrap_or(&[]));
    let protocol = header.get(9).copied().unwrap_or(0);
    addresses + second_byte(protocol) + u32::from(payload_bytes(header).to_be())
}

/// The bytes of a header whose size is known.
///
/// # Safety
/// `bytes` at `pointer` are readable.
unsafe fn at<'a>(pointer: *const u8, bytes: usize) -> &'a [u8] {
    if bytes == 0 {
        return &[];
    }
    // SAFETY: condition of the function.
    unsafe { core::slice::from_raw_parts(pointer, bytes) }
}

/// An IPv4 header with its options.
///
/// # Safety
/// It is readable.
unsafe fn ipv4<'a>(header: *const u8) -> &'a [u8] {
    // SAFETY: condition of the function.
    unsafe { at(header, header_bytes(at(header, 1)).max(IPV4_MIN_BYTES)) }
}

fn tcp_header_bytes(header: &[u8]) -> usize {
    usize::from(header.get(12).copied().unwrap_or(0) >> 4) * 4
}

/// The checksum of an IPv4 header. Any context, as everything here.
pub unsafe fn ipv4_hdr_checksum(header: *const u8) -> u16 {
    // SAFETY: the caller keeps the contract of the C function.
    let header = unsafe { at(header, header_bytes(at(header, 1))) };
    finalize(sum_except(header, IPV4_CHECKSUM))
}

/// The sum of the pseudo header that belongs to an IPv4 header.
pub unsafe fn ipv4_pseudo_checksum(header: *const u8) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    ipv4_pseudo(unsafe { at(header, IPV4_MIN_BYTES) })
}

/// The same from its parts. Unlike there, the words of the addresses are swapped: callers know it that way.
pub unsafe fn ipv4_pseudo_checksum_bits(source: u32, destination: u32, protocol: u8, bytes: u16) -> u32 {
    let words =
        [source, destination].into_iter().flat_map(|address| [address as u16, (address >> 16) as u16]);
    let addresses = words.fold(0, |sum, word| sum + u32::from(word.to_be()));
    addresses + second_byte(protocol) + u32::from(bytes.to_be())
}

/// Adds a TCP header, but for its checksum.
pub unsafe fn ipv4_add_tcp_checksum(header: *const u8, sum: u32) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    let header = unsafe { at(header, tcp_header_bytes(at(header, TCP_MIN_BYTES)).max(TCP_MIN_BYTES)) };
    sum.wrapping_add(sum_except(header, TCP_CHECKSUM))
}

/// Adds a UDP header, but for its checksum.
pub unsafe fn ipv4_add_udp_checksum(header: *const u8, sum: u32) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    sum.wrapping_add(sum_except(unsafe { at(header, UDP_BYTES) }, UDP_CHECKSUM))
}

/// Adds a piece of payload; `*odd` says whether the last piece ended within a word.
pub unsafe fn ipv4_add_data_checksum(data: *const c_void, bytes: usize, running: u32, odd: *mut bool) -> u32 {
    if bytes == 0 {
        return running;
    }
    // SAFETY: the caller keeps the contract of the C function.
    let (mut data, odd) = unsafe { (at(data.cast(), bytes), &mut *odd) };
    let mut running = running;
    if *odd && let Some((first, rest)) = data.split_first() {
        running = running.wrapping_add(second_byte(*first));
        data = rest;
    }
    *odd = !data.len().is_multiple_of(2);
    running.wrapping_add(sum(data))
}

/// Folds a running sum into a checksum.
pub unsafe fn ipv4_finalize_checksum(sum: u32) -> u16 {
    finalize(sum)
}

/// The checksum of a UDP packet over IPv4, with its data.
pub unsafe fn ipv4_udp_checksum(ip: *const u8, udp: *const u8, data: *const c_void) -> u16 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        let running = ipv4_add_udp_checksum(udp, ipv4_pseudo_checksum(ip));
        let bytes = usize::from(number(at(udp, UDP_BYTES), 4)).saturating_sub(UDP_BYTES);
        finalize(ipv4_add_data_checksum(data, bytes, running, &mut false))
    }
}

/// The checksum of a UDP packet whose data follows its header, given the sum of the pseudo header.
pub unsafe fn udp_checksum(sum: u32, udp: *const u8) -> u16 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        let running = ipv4_add_udp_checksum(udp, sum);
        let bytes = usize::from(number(at(udp, UDP_BYTES), 4)).saturating_sub(UDP_BYTES);
        finalize(ipv4_add_data_checksum(udp.add(UDP_BYTES).cast(), bytes, running, &mut false))
    }
}

/// The checksum of a TCP packet over IPv4; null data follows the header.
pub unsafe fn ipv4_tcp_checksum(ip: *const u8, tcp: *const u8, data: *const c_void) -> u16 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        let header = tcp_header_bytes(at(tcp, TCP_MIN_BYTES));
        let bytes = usize::from(payload_bytes(at(ip, IPV4_MIN_BYTES))).saturating_sub(header);
        tcp_checksum(ipv4_pseudo_checksum(ip), tcp, data, bytes)
    }
}

/// The checksum of a TCP packet, given the sum of the pseudo header; null data follows the header.
pub unsafe fn tcp_checksum(sum: u32, tcp: *const u8, data: *const c_void, bytes: usize) -> u16 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        let running = ipv4_add_tcp_checksum(tcp, sum);
        let data =
            if data.is_null() { tcp.add(tcp_header_bytes(at(tcp, TCP_MIN_BYTES))).cast() } else { data };
        finalize(ipv4_add_data_checksum(data, bytes, running, &mut false))
    }
}

/// The sum of the pseudo header that belongs to an IPv6 header.
pub unsafe fn ipv6_pseudo_checksum(header: *const u8) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    let header = unsafe { at(header, IPV6_HEADER_BYTES) };
    let next = header.get(6).copied().unwrap_or(0);
    sum(header.get(8..).unwrap_or(&[])) + u32::from(word(header, 4)) + second_byte(next)
}

/// The same with another protocol and length than the header's.
pub unsafe fn ipv6_pseudo_checksum_ex(header: *const u8, protocol: u8, bytes: u16) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { ipv6_pseudo_checksum_bits(header.add(8), header.add(24), protocol, bytes) }
}

/// The same from its parts.
pub unsafe fn ipv6_pseudo_checksum_bits(
    source: *const u8,
    destination: *const u8,
    protocol: u8,
    bytes: u16,
) -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    let addresses = unsafe { sum(at(source, 16)) + sum(at(destination, 16)) };
    addresses + u32::from(bytes.to_be()) + second_byte(protocol)
}

/// Whether an IPv4 header makes sense: `header_max` bytes of it are there, of a packet of at most `packet_max`.
pub unsafe fn ipv4_is_hdr_valid(
    header: *const u8,
    header_max: usize,
    packet_max: usize,
    checksum: CBool,
) -> bool {
    if header_max < IPV4_MIN_BYTES {
        return false;
    }
    // SAFETY: the caller keeps the contract of the C function.
    let start = unsafe { at(header, IPV4_MIN_BYTES) };
    let (bytes, total) = (header_bytes(start), usize::from(number(start, 2)));
    let version = start.first().copied().unwrap_or(0) >> 4;
    if version != 4 || bytes < IPV4_MIN_BYTES || bytes > header_max || bytes > total || total > packet_max {
        return false;
    }
    // SAFETY: as above; that many bytes are there.
    checksum == 0 || unsafe { ipv4_hdr_checksum(header) } == word(start, IPV4_CHECKSUM)
}

/// Whether the sizes of a TCP packet over IPv4 make sense: `header_max` bytes of its header are there, of a packet of at most `packet_max`.
pub unsafe fn ipv4_is_tcp_size_valid(
    ip: *const u8,
    tcp: *const u8,
    header_max: usize,
    packet_max: usize,
) -> bool {
    if header_max < TCP_MIN_BYTES || packet_max < TCP_MIN_BYTES {
        return false;
    }
    // SAFETY: the caller keeps the contract of the C function.
    let (ip, tcp) = unsafe { (ipv4(ip), at(tcp, TCP_MIN_BYTES)) };
    let (header, total) = (tcp_header_bytes(tcp), usize::from(payload_bytes(ip)));
    let is_tcp = ip.get(9).copied() == Some(PROTOCOL_TCP);
    is_tcp && header >= TCP_MIN_BYTES && header <= header_max && header <= total && total <= packet_max
}

/// As [`ipv4_is_tcp_size_valid`], and the checksum if it is wanted.
pub unsafe fn ipv4_is_tcp_valid(
    ip: *const u8,
    tcp: *const u8,
    header_max: usize,
    data: *const c_void,
    packet_max: usize,
    checksum: CBool,
) -> bool {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        ipv4_is_tcp_size_valid(ip, tcp, header_max, packet_max)
            && (checksum == 0
                || ipv4_tcp_checksum(ip, tcp, data) == word(at(tcp, TCP_MIN_BYTES), TCP_CHECKSUM))
    }
}

/// Whether the sizes of a UDP packet over IPv4 make sense: at most `packet_max` bytes.
pub unsafe fn ipv4_is_udp_size_valid(ip: *const u8, udp: *const u8, packet_max: usize) -> bool {
    if packet_max < UDP_BYTES {
        return false;
    }
    // SAFETY: the caller keeps the contract of the C function.
    let (ip, udp) = unsafe { (ipv4(ip), at(udp, UDP_BYTES)) };
    let total = usize::from(number(udp, 4));
    let is_udp = ip.get(9).copied() == Some(PROTOCOL_UDP);
    is_udp && total >= UDP_BYTES && total <= packet_max && total <= usize::from(payload_bytes(ip))
}

/// As [`ipv4_is_udp_size_valid`], and the checksum if it is wanted and the packet has one.
pub unsafe fn ipv4_is_udp_valid(
    ip: *const u8,
    udp: *const u8,
    data: *const c_void,
    packet_max: usize,
    checksum: CBool,
) -> bool {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        if !ipv4_is_udp_size_valid(ip, udp, packet_max) {
            return false;
        }
        let found = word(at(udp, UDP_BYTES), UDP_CHECKSUM);
        checksum == 0 || found == 0 || ipv4_udp_checksum(ip, udp, data) == found
    }
}

/// Offsets and values of BOOTP and DHCP.
mod dhcp {
    pub const FLAGS: usize = 10;
    pub const COOKIE_AT: usize = 236;
    pub const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
    pub const OPTIONS: usize = 240;
    pub const OPTION_PAD: u8 = 0;
    pub const OPTION_MESSAGE_TYPE: u8 = 53;
    pub const OPTION_END: u8 = 255;
    pub const ETHERNET: u8 = 1;
    pub const ETHERNET_BYTES: u8 = 6;
    /// Only the broadcast flag is defined.
    pub const FLAG_BROADCAST: u16 = 0x8000;
}

/// The message type among the options. `None`: nonsense, or no type before the end.
fn dhcp_message_type(options: &[u8]) -> Option<u8> {
    let mut rest = options;
    loop {
        match rest {
            [dhcp::OPTION_PAD, behind @ ..] => rest = behind,
            [dhcp::OPTION_MESSAGE_TYPE, length, kind, ..] if *length >= 1 => return Some(*kind),
            [] | [_] | [dhcp::OPTION_END | dhcp::OPTION_MESSAGE_TYPE, ..] => return None,
            [_, length, behind @ ..] => rest = behind.get(usize::from(*length)..)?,
        }
    }
}

/// `None`: the packet ends before that can be told.
fn dhcp_is_valid(packet: &[u8], message_type: &mut u8) -> Option<bool> {
    let (operation, hardware, length) = (packet.first()?, packet.get(1)?, packet.get(2)?);
    if !matches!(operation, 1 | 2) || *hardware != dhcp::ETHERNET || *length != dhcp::ETHERNET_BYTES {
        return Some(false);
    }
    packet.get(dhcp::FLAGS + 1)?;
    if number(packet, dhcp::FLAGS) & !dhcp::FLAG_BROADCAST != 0 {
        return Some(false);
    }
    if packet.get(dhcp::COOKIE_AT..dhcp::OPTIONS)? != dhcp::COOKIE {
        return Some(false);
    }
    let options = packet.get(dhcp::OPTIONS..).filter(|options| !options.is_empty())?;
    let kind = dhcp_message_type(options);
    *message_type = kind.unwrap_or(0);
    Some(kind.is_some())
}

/// Whether a DHCP packet of `bytes` makes sense; a truncated one does as far as it goes. `*message_type` (may be null) is 0 if there is none.
pub unsafe fn ipv4_is_dhcp_valid(
    _udp: *const u8,
    packet: *const u8,
    bytes: usize,
    message_type: *mut u8,
) -> bool {
    let mut kind = 0;
    // SAFETY: the caller keeps the contract of the C function.
    let valid = dhcp_is_valid(unsafe { at(packet, bytes) }, &mut kind).unwrap_or(true);
    // SAFETY: as above.
    if let Some(message_type) = unsafe { message_type.as_mut() } {
        *message_type = kind;
    }
    valid
}
