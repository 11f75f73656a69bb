//! The parser of VTG objects, on its own: no driver, no system.

mod vtg_samples;

use supdrv_core::abi::Status;
use supdrv_core::abi::status::{
    self, VERR_SUPDRV_TRACER_BAD_ARG_FLAGS, VERR_SUPDRV_VTG_BAD_ARGLIST, VERR_SUPDRV_VTG_BAD_HDR_MISC,
    VERR_SUPDRV_VTG_BAD_HDR_PTR, VERR_SUPDRV_VTG_BAD_PROBE, VERR_SUPDRV_VTG_BAD_PROBE_ENABLED,
    VERR_SUPDRV_VTG_BAD_PROVIDER, VERR_SUPDRV_VTG_MAGIC, VINF_SUCCESS,
};
use supdrv_core::abi::vtg::{MAX_STRING, ObjectHeader};
use supdrv_core::tracer::vtg::{Bitness, Bounds, Header, Host, Object, Origin};
use vtg_samples::{Entry, Sample, all, named};
use zerocopy::FromBytes;

const HOSTS: [(&str, Bitness); 2] = [("amd64", Bitness::Bits64), ("i386", Bitness::Bits32)];

fn host(bitness: Bitness) -> Host {
    Host { bitness, keeps_link_addresses: false }
}

/// The plausibility of pointers, for hosts of a width.
fn plausible(bitness: Bitness) -> impl Fn(u64) -> bool {
    move |address| match bitness {
        Bitness::Bits64 => address.wrapping_add(0x1000) >= 0x2000 && matches!(address >> 47, 0 | 0x1_ffff),
        Bitness::Bits32 => (address as u32).wrapping_add(0x1000) >= 0x2000,
    }
}

fn is_terminated_name(bytes: &[u8]) -> bool {
    bytes.iter().take(MAX_STRING + 1).any(|byte| *byte == 0)
}

/// What the driver does with an object of the kernel: place, header, slices, content.
fn parse_kernel(sample: &Sample, memory: &[u8], host: Host) -> Result<Object, Status> {
    let (base, address) = (sample.base, sample.header_address());
    let is_image = sample.entry == Entry::KernelImage;
    let plausible = plausible(host.bitness);
    let bounds = if is_image {
        Bounds::Within { base, end: base + memory.len() as u64 }
    } else {
        Bounds::Plausible(&plausible)
    };
    let origin = Origin::Kernel(bounds);
    Header::check_place(address, &origin)?;
    let at = |offset: u64| memory.get(offset as usize..).unwrap_or(&[]);
    let (raw, _) = ObjectHeader::read_from_prefix(at(address - base)).expect("H0 said that it is inside");
    let header = Header::parse(&raw, address, &origin, host)?;
    let locations = address.wrapping_add_signed(header.locations_offset().into()) - base;
    let function_name = |name: u64| {
        if is_image {
            name.checked_sub(base).is_some_and(|offset| is_terminated_name(at(offset)))
        } else {
            plausible(name)
        }
    };
    let object = &memory[sample.header_offset..][..header.object_bytes() as usize];
    Object::parse(header, object, &memory[locations as usize..], function_name)
}

fn status_of<T>(result: &Result<T, Status>) -> Status {
    result.as_ref().map_or_else(|status| *status, |_| VINF_SUCCESS)
}

fn parse(sample: &Sample, memory: &[u8]) -> Result<Object, Status> {
    parse_kernel(sample, memory, host(Bitness::Bits64))
}

#[test]
fn every_kernel_sample_has_its_status_on_every_host_it_is_defined_for() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for sample in all().iter().filter(|sample| sample.entry != Entry::UserModule) {
        for (name, bitness) in HOSTS {
            let Some(expected) = sample.expected(name) else { continue };
            let found = status_of(&parse_kernel(sample, &sample.memory, host(bitness)));
            count += 1;
            if found.0 != expected {
                wrong.push(format!("{} on {name}: expected {expected}, is {found:?}", sample.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, 201);
}

/// The header alone decides about a user-mode module before its memory is touched.
#[test]
fn the_header_of_a_user_sample_is_good_or_has_the_status_of_the_sample() {
    for sample in all().iter().filter(|sample| sample.entry == Entry::UserModule) {
        let raw =
            sample.user.header_r3.checked_sub(sample.base).and_then(|at| sample.memory.get(at as usize..));
        let Some(raw) = raw else { continue };
        let (raw, _) = ObjectHeader::read_from_prefix(raw).expect("room for a header");
        for (name, bitness) in HOSTS {
            let origin: Origin<fn(u64) -> bool> = Origin::User;
            let place = Header::check_place(sample.user.header_r3, &origin);
            let result =
                place.and_then(|()| Header::parse(&raw, sample.user.header_address, &origin, host(bitness)));
            if let Err(status) = result {
                // What is checked before the header is read.
                let earlier = ["-flags-0", "-flags-3", "-flags-6", "-cbstrtab-1", "-kernel-session"];
                assert!(!earlier.iter().any(|end| sample.name.ends_with(end)), "{}: {status:?}", sample.name);
                assert_eq!(Some(status.0), sample.expected(name), "{} on {name}", sample.name);
            }
        }
    }
}

#[test]
fn a_valid_object_is_described_as_it_is() {
    let sample = named("k64-valid");
    let object = parse(&sample, &sample.memory).expect("valid");
    let header = object.header();
    assert_eq!((header.locations_offset(), header.locations_bytes()), (0x140, 0x60));
    assert_eq!((header.location_count(), header.probe_count()), (3, 2));
    assert_eq!(header.raw().locations_bytes, 0x60, "filled in, where the tracer looks");
    let [provider] = object.providers() else { panic!("one provider") };
    let name = sample.header_offset + provider.name_offset as usize;
    assert_eq!(&sample.memory[name..][..usize::from(provider.name_len)], b"vbxtest");
    assert_eq!((provider.offset, provider.first_probe, provider.probes), (0x100, 0, 2));
}

/// Puts bytes at offsets from the header.
fn patched(sample: &Sample, patches: &[(usize, &[u8])]) -> Vec<u8> {
    let mut memory = sample.memory.clone();
    for (at, bytes) in patches {
        memory[sample.header_offset + at..][..bytes.len()].copy_from_slice(bytes);
    }
    memory
}

#[test]
fn of_two_defects_the_earlier_rule_is_reported() {
    let sample = named("k64-valid");
    let status = |patches: &[(usize, &[u8])]| status_of(&parse(&sample, &patched(&sample, patches)));
    assert_eq!(status(&[(0x15, b"4"), (0x18, &[16])]), VERR_SUPDRV_VTG_MAGIC, "magic before bits");
    assert_eq!(
        status(&[(0x78, &[1]), (0x20, &[0xf4])]),
        VERR_SUPDRV_VTG_BAD_HDR_MISC,
        "reserved before areas"
    );
    assert_eq!(
        status(&[(0x117, &[1]), (0xf8, &[0])]),
        VERR_SUPDRV_VTG_BAD_PROVIDER,
        "providers before probes"
    );
    // Probe 1's list has a bad flag; probe 0's own index is wrong.
    assert_eq!(status(&[(0xcd, &[2]), (0xe8, &[1])]), VERR_SUPDRV_VTG_BAD_ARGLIST, "last probe first");
    // Probe 1's own index is wrong; probe 0's list has bad flags.
    assert_eq!(status(&[(0xf8, &[0]), (0xc9, &[0x11])]), VERR_SUPDRV_VTG_BAD_PROBE, "last probe first");
    assert_eq!(status(&[(0xc9, &[0x11])]), VERR_SUPDRV_TRACER_BAD_ARG_FLAGS);
    assert_eq!(status(&[(0x124, &[1]), (0x144, &[7])]), VERR_SUPDRV_VTG_BAD_PROBE_ENABLED, "counters first");
}

/// All statuses that reading an object can have.
fn is_vtg_status(status: Status) -> bool {
    status == VINF_SUCCESS
        || (status.0 <= VERR_SUPDRV_VTG_MAGIC.0 && status.0 >= status::VERR_SUPDRV_VTG_BAD_PROBE_LOC.0)
        || status == VERR_SUPDRV_TRACER_BAD_ARG_FLAGS
        || status == status::VERR_SUPDRV_TRACER_TOO_LARGE
}

#[test]
fn every_value_of_every_byte_gives_success_or_a_status_of_the_format() {
    for (name, bitness) in [("k64-valid", Bitness::Bits64), ("k32-valid", Bitness::Bits32)] {
        let sample = named(name);
        for at in 0..sample.memory.len() {
            for value in 0..=u8::MAX {
                let mut memory = sample.memory.clone();
                memory[at] = value;
                let status = status_of(&parse_kernel(&sample, &memory, host(bitness)));
                assert!(is_vtg_status(status), "{name}: byte {at:#x} = {value:#x}: {status:?}");
            }
        }
    }
}

/// A small generator, the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[test]
fn random_bytes_behind_a_good_magic_give_a_status_of_the_format() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut sample = named("k64-valid");
    sample.header_offset = 0;
    for _ in 0..10_000 {
        let mut memory = vec![0; 512];
        memory.fill_with(|| random.next() as u8);
        memory[..24].copy_from_slice(b"VTG Object Header v1.5\0\0");
        assert!(is_vtg_status(status_of(&parse(&sample, &memory))));
    }
}

/// Mutations of all samples: several interesting values at once, at aligned places, where the format has its numbers.
#[test]
fn random_mutations_of_samples_give_a_status_of_the_format() {
    const VALUES: [u32; 10] = [0, 1, 4, 0x7f, 0x80, 0x128, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, u32::MAX];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let samples: Vec<&Sample> = all()
        .iter()
        .filter(|sample| sample.entry != Entry::UserModule && sample.memory.len() < 0x1000)
        .collect();
    let mut good = 0;
    for _ in 0..20_000 {
        let sample = samples[random.below(samples.len())];
        let mut memory = sample.memory.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(memory.len() / 4) * 4;
            let value =
                if random.below(2) == 0 { VALUES[random.below(VALUES.len())] } else { random.next() as u32 };
            memory[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let bitness = if sample.name.contains("64") { Bitness::Bits64 } else { Bitness::Bits32 };
        let status = status_of(&parse_kernel(sample, &memory, host(bitness)));
        assert!(is_vtg_status(status), "{}: {status:?}", sample.name);
        good += usize::from(status == VINF_SUCCESS);
    }
    assert!(good > 100, "mutations reach the end of the parser too ({good})");
}

#[test]
fn fewer_bytes_than_the_header_says_are_refused() {
    let sample = named("k64-valid");
    let object = parse(&sample, &sample.memory).expect("valid");
    let bytes = &sample.memory[sample.header_offset..];
    let again = |object_bytes: usize, location_bytes: usize| {
        Object::parse(*object.header(), &bytes[..object_bytes], &bytes[0x140..][..location_bytes], |_| true)
    };
    assert!(again(0x128, 0x60).is_ok());
    assert_eq!(status_of(&again(0x127, 0x60)), VERR_SUPDRV_VTG_BAD_HDR_PTR);
    assert_eq!(status_of(&again(0x128, 0x5f)), VERR_SUPDRV_VTG_BAD_HDR_PTR);
}

/// An object whose linker left link-time addresses in it, as it happens on Darwin.
#[test]
fn link_time_addresses_are_corrected_where_the_loader_keeps_them() {
    let mut sample = named("k64-valid");
    let (link_base, load_base) = (0x1000_u64, 0xffff_ff7f_8000_0000);
    sample.relocate(link_base.wrapping_sub(sample.base));
    sample.base = load_base;
    let section = link_base + sample.header_offset as u64;
    sample.memory = patched(&sample, &[(0x70, &section.to_le_bytes())]);
    let darwin = Host { bitness: Bitness::Bits64, keeps_link_addresses: true };
    let object = parse_kernel(&sample, &sample.memory, darwin).expect("corrected");
    let header = object.header();
    assert_eq!(header.locations_offset(), 0x140);
    assert_eq!(header.raw().locations - load_base, sample.header_offset as u64 + 0x140);
    let probe = section + 0xe0;
    let (probe, function) = header.relocated(probe, section + 0x1a0);
    assert_eq!(probe, sample.header_address() + 0xe0);
    assert_eq!(function, sample.header_address() + 0x1a0);
    assert_eq!(
        status_of(&parse(&sample, &sample.memory)),
        VERR_SUPDRV_VTG_BAD_HDR_PTR,
        "elsewhere they are wrong"
    );
}
