//! The memory services.

pub mod freeing;
pub mod mapping;
pub mod pages;

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::Function;
use supdrv_core::abi::requests as r;
use zerocopy::{Immutable, IntoBytes};

use super::{Check, Ctx, same};
use crate::client::Client;
use crate::packet::Packet;

const GROUP: &str = "memory";

/// A packet of an allocating request for `pages` pages with the right sizes for `sized_for` of them.
fn table_packet<I: IntoBytes + Immutable, O>(
    ctx: &Ctx<'_>,
    function: Function,
    input: &I,
    sized_for: u64,
) -> Packet {
    let out_bytes = size_of::<O>() as u64 + 8 * sized_for;
    ctx.packet(function, input, usize::try_from(out_bytes).unwrap_or(usize::MAX))
}

/// Ends with a status, and nothing but the header comes back.
fn header_only(ctx: &Ctx<'_>, client: &Client, mut packet: Packet, status: Status) -> Check {
    let end = packet.bytes().len();
    let start = packet.header().in_bytes as usize;
    packet.put(start, &vec![0xcc; end.saturating_sub(start)]);
    let body = packet.bytes().get(r::HEADER_BYTES..).map(<[u8]>::to_vec);
    ctx.answers(client.device(), &mut packet, status)?;
    same("the output size", packet.header().out_bytes as usize, r::HEADER_BYTES)?;
    same("what follows the header", packet.bytes().get(r::HEADER_BYTES..).map(<[u8]>::to_vec), body)
}
