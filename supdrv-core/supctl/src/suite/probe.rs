//! A ring-0 image for the suite: a few hundred bytes of machine code that work wherever they are put.
//!
//! It is service and VMMR0 module at once. As a service it does what its operation says ([`Operation`]); as VMMR0 it remembers
//! what it was called with ([`Vmmr0Operation`]).

use supdrv_core::abi::Status;
use supdrv_core::abi::ioctl::{LDR_ENTRY_NOTHING, LDR_ENTRY_SERVICE, LDR_ENTRY_VMMR0};

use super::{Check, Ctx, Stop};
use crate::client::{Client, LoadParameters, Vmmr0Call};
use crate::error::Error;
use crate::image::{BitsWithTables, SymbolTables};

/// What the probe does as a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Operation {
    /// Returns 85.
    Return85 = 0,
    /// Returns the low half of the argument.
    ReturnArgument = 1,
    /// Inverts the bytes of the payload.
    Invert = 2,
    /// Reads eight bytes at the kernel address in the argument, into the payload.
    Peek = 3,
    /// Writes eight bytes of the payload to the kernel address in the argument.
    Poke = 4,
    /// Returns how often the init function ran.
    InitCount = 5,
    /// Puts the session's address into the payload.
    Session = 6,
    /// Has the term function write [`TERM_MARK`] to the kernel address in the argument.
    SetTermTarget = 7,
    /// Returns 1 if there is no packet, else 0.
    HasNoPacket = 8,
    /// Counts down from the argument.
    Spin = 9,
    /// Calls the function in the argument, which takes no arguments, and returns what it returns.
    Call = 10,
}

/// What the probe does as VMMR0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Vmmr0Operation {
    /// Returns 1234.
    Return1234 = 0,
    /// Puts the arguments of the last fast call into the payload: VM, CPU, operation, count.
    LastFast = 1,
    /// Inverts the bytes of the payload.
    Invert = 2,
    /// Puts its own arguments into the payload: VM, CPU and operation, argument, session.
    Arguments = 3,
    /// Returns 1 if there is no packet, else 0.
    HasNoPacket = 4,
}

/// What the term function leaves behind.
pub(super) const TERM_MARK: u64 = 0x6d72_6574_6d72_6574;

/// What a load of the probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nothing,
    Service,
    Vmmr0,
}

/// The code has a result of the init function in it, which can be changed before it is uploaded.
#[cfg(target_arch = "x86_64")]
mod code {
    use core::arch::global_asm;

    /// Brings the arguments of a service handler into the same registers on all systems: operation eax, session r8,
    /// argument r10, packet r11.
    #[cfg(not(windows))]
    macro_rules! service_arguments {
        () => {
            "mov eax, esi\n mov r10, rdx\n mov r11, rcx\n mov r8, rdi\n"
        };
    }
    #[cfg(windows)]
    macro_rules! service_arguments {
        () => {
            "mov eax, edx\n mov r10, r8\n mov r11, r9\n mov r8, rcx\n"
        };
    }
    /// The same for a fast call: VM r10, CPU r11d, operation eax.
    #[cfg(not(windows))]
    macro_rules! fast_arguments {
        () => {
            "mov r10, rdi\n mov r11d, esi\n mov eax, edx\n"
        };
    }
    #[cfg(windows)]
    macro_rules! fast_arguments {
        () => {
            "mov r10, rcx\n mov r11d, edx\n mov eax, r8d\n"
        };
    }
    /// The same for a VMMR0 call: VM r10, CPU edx, operation eax, packet r11, argument r8, session r9.
    #[cfg(not(windows))]
    macro_rules! vmmr0_arguments {
        () => {
            "mov eax, edx\n mov edx, esi\n mov r10, rdi\n mov r11, rcx\n"
        };
    }
    #[cfg(windows)]
    macro_rules! vmmr0_arguments {
        () => {
            "mov eax, r8d\n mov r10, rcx\n mov r11, r9\n mov r8, [rsp + 40]\n mov r9, [rsp + 48]\n"
        };
    }

    global_asm!(concat!(
        r#"
            .balign 16
            .globl supctl_probe_start, supctl_probe_end, supctl_probe_init, supctl_probe_term, supctl_probe_service
            .globl supctl_probe_int, supctl_probe_fast, supctl_probe_ex, supctl_probe_result, supctl_probe_data
        supctl_probe_start:
        supctl_probe_data:
            .ascii "supctl probe\0\0\0\0"
        supctl_probe_result:
            .long 0
        101:
            .long 0                 # runs of init
        102:
            .quad 0                 # where term leaves its mark
        103:
            .quad 0, 0, 0, 0        # last fast call: VM, CPU, operation, count

        supctl_probe_init:
            endbr64
            inc dword ptr [rip + 101b]
            mov eax, dword ptr [rip + supctl_probe_result]
            ret

        supctl_probe_term:
            endbr64
            mov rcx, qword ptr [rip + 102b]
            test rcx, rcx
            jz 3f
            mov rax, 0x6d7265746d726574
            mov qword ptr [rcx], rax
        3:  ret

        supctl_probe_service:
            endbr64
            "#,
        service_arguments!(),
        r"
            cmp eax, 0
            jne 3f
            mov eax, 85
            ret
        3:  cmp eax, 1
            jne 3f
            mov eax, r10d
            ret
        3:  cmp eax, 2
            je 104f
            cmp eax, 3
            jne 3f
            mov rax, qword ptr [r10]
            mov qword ptr [r11 + 8], rax
            xor eax, eax
            ret
        3:  cmp eax, 4
            jne 3f
            mov rax, qword ptr [r11 + 8]
            mov qword ptr [r10], rax
            xor eax, eax
            ret
        3:  cmp eax, 5
            jne 3f
            mov eax, dword ptr [rip + 101b]
            ret
        3:  cmp eax, 6
            jne 3f
            mov qword ptr [r11 + 8], r8
            xor eax, eax
            ret
        3:  cmp eax, 7
            jne 3f
            mov qword ptr [rip + 102b], r10
            xor eax, eax
            ret
        3:  cmp eax, 8
            je 105f
            cmp eax, 9
            jne 3f
        2:  dec r10
            jg 2b
            xor eax, eax
            ret
        3:  cmp eax, 10
            jne 106f
            sub rsp, 40
            call r10
            add rsp, 40
            ret

        104:                        # inverts the payload of the packet at r11
            mov ecx, dword ptr [r11 + 4]
            sub ecx, 8
            jbe 3f
        2:  not byte ptr [r11 + rcx + 7]
            dec ecx
            jnz 2b
        3:  xor eax, eax
            ret

        105:                        # is there no packet at r11?
            xor eax, eax
            test r11, r11
            sete al
            ret

        106:
            mov eax, -36
            ret

        supctl_probe_int:
            endbr64
            xor eax, eax
            ret

        supctl_probe_fast:
            endbr64
            ",
        fast_arguments!(),
        r"
            mov qword ptr [rip + 103b], r10
            mov qword ptr [rip + 103b + 8], r11
            mov qword ptr [rip + 103b + 16], rax
            inc qword ptr [rip + 103b + 24]
            ret

        supctl_probe_ex:
            endbr64
            ",
        vmmr0_arguments!(),
        r"
            cmp eax, 0
            jne 3f
            mov eax, 1234
            ret
        3:  cmp eax, 1
            jne 3f
            mov rax, qword ptr [rip + 103b]
            mov qword ptr [r11 + 8], rax
            mov rax, qword ptr [rip + 103b + 8]
            mov qword ptr [r11 + 16], rax
            mov rax, qword ptr [rip + 103b + 16]
            mov qword ptr [r11 + 24], rax
            mov rax, qword ptr [rip + 103b + 24]
            mov qword ptr [r11 + 32], rax
            xor eax, eax
            ret
        3:  cmp eax, 2
            je 104b
            cmp eax, 3
            jne 3f
            mov qword ptr [r11 + 8], r10
            mov dword ptr [r11 + 16], edx
            mov dword ptr [r11 + 20], eax
            mov qword ptr [r11 + 24], r8
            mov qword ptr [r11 + 32], r9
            xor eax, eax
            ret
        3:  cmp eax, 4
            je 105b
            jmp 106b
        supctl_probe_end:
            "
    ));

    unsafe extern "C" {
        static supctl_probe_start: u8;
        static supctl_probe_end: u8;
        static supctl_probe_init: u8;
        static supctl_probe_term: u8;
        static supctl_probe_service: u8;
        static supctl_probe_int: u8;
        static supctl_probe_fast: u8;
        static supctl_probe_ex: u8;
        static supctl_probe_result: u8;
        static supctl_probe_data: u8;
    }

    fn offset_of(label: *const u8) -> usize {
        label.addr() - (&raw const supctl_probe_start).addr()
    }

    pub fn symbols() -> [(&'static str, usize); 8] {
        [
            ("ProbeData", offset_of(&raw const supctl_probe_data)),
            ("ModuleInit", offset_of(&raw const supctl_probe_init)),
            ("ModuleTerm", offset_of(&raw const supctl_probe_term)),
            ("ProbeService", offset_of(&raw const supctl_probe_service)),
            ("ProbeEntryInt", offset_of(&raw const supctl_probe_int)),
            ("ProbeEntryFast", offset_of(&raw const supctl_probe_fast)),
            ("ProbeEntryEx", offset_of(&raw const supctl_probe_ex)),
            ("ProbeInitResult", offset_of(&raw const supctl_probe_result)),
        ]
    }

    pub fn bits() -> &'static [u8] {
        let start = &raw const supctl_probe_start;
        let bytes = offset_of(&raw const supctl_probe_end);
        // SAFETY: the code between both labels, which is readable and never changes.
        unsafe { core::slice::from_raw_parts(start, bytes) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod code {
    pub fn symbols() -> [(&'static str, usize); 8] {
        [("", 0); 8]
    }

    pub fn bits() -> &'static [u8] {
        &[]
    }
}

/// The probe, ready to be opened and uploaded.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub name: String,
    pub kind: Kind,
    pub image: Vec<u8>,
    pub all: BitsWithTables,
}

impl Probe {
    /// `tag` tells images of one case apart.
    pub fn new(ctx: &Ctx<'_>, tag: &str, kind: Kind) -> Check<Self> {
        if code::bits().is_empty() {
            return super::not_available("there is no test image for this CPU");
        }
        let image = code::bits().to_vec();
        let all = tables().append_to(&image);
        Ok(Self { name: ctx.image_name(tag), kind, image, all })
    }

    /// Has the init function return something else.
    pub fn with_init_result(mut self, result: i32) -> Self {
        let offset = offset("ProbeInitResult");
        for (to, from) in self.image.iter_mut().skip(offset).zip(result.to_le_bytes()) {
            *to = from;
        }
        self.all = tables().append_to(&self.image);
        self
    }

    pub fn open(&self, client: &Client) -> Result<crate::client::OpenedImage, Error> {
        client.ldr_open(&self.name, self.all.bits.len() as u32, self.image.len() as u32, "")
    }

    /// What to upload at a base.
    pub fn parameters(&self, base: usize) -> LoadParameters<'_> {
        let at = |name| base + offset(name);
        let (entry_point_type, entry_points) = match self.kind {
            Kind::Nothing => (LDR_ENTRY_NOTHING, [0; 4]),
            Kind::Service => (LDR_ENTRY_SERVICE, [at("ProbeService"), 0, 0, 0]),
            Kind::Vmmr0 => {
                (LDR_ENTRY_VMMR0, [base, at("ProbeEntryInt"), at("ProbeEntryFast"), at("ProbeEntryEx")])
            }
        };
        LoadParameters {
            base,
            init: at("ModuleInit"),
            term: at("ModuleTerm"),
            entry_point_type,
            entry_points,
            image_bytes: self.image.len() as u32,
            symbols_offset: self.all.symbols_offset,
            symbol_count: self.all.symbol_count,
            strings_offset: self.all.strings_offset,
            strings_bytes: self.all.strings_bytes,
            bits: &self.all.bits,
        }
    }

    /// Opens and uploads; the image is freed with the result.
    pub fn load<'c>(&self, client: &'c Client) -> Check<Loaded<'c>> {
        let opened = self.open(client)?;
        let loaded = Loaded { client, name: self.name.clone(), base: opened.base };
        client.ldr_load(&self.parameters(opened.base))?;
        Ok(loaded)
    }
}

fn tables() -> SymbolTables {
    let mut tables = SymbolTables::default();
    for (name, offset) in code::symbols() {
        tables.add(name, offset as u32);
    }
    tables
}

/// Offset of one of the probe's symbols.
pub(super) fn offset(name: &str) -> usize {
    code::symbols().iter().find(|(symbol, _)| *symbol == name).map_or(0, |(_, offset)| *offset)
}

/// The probe in the kernel; freed on drop.
pub(super) struct Loaded<'c> {
    client: &'c Client,
    pub name: String,
    pub base: usize,
}

impl Loaded<'_> {
    /// Calls it as a service, with up to 64 bytes of payload.
    pub fn call(&self, operation: Operation, arg: u64, payload: Option<&mut [u8]>) -> Result<Status, Error> {
        self.client.call_service(&self.name, operation as u32, arg, payload)
    }

    /// Reads eight bytes of kernel memory.
    pub fn peek(&self, address: usize) -> Check<u64> {
        let mut payload = [0; 8];
        self.call(Operation::Peek, address as u64, Some(&mut payload))?;
        Ok(u64::from_le_bytes(payload))
    }

    /// Writes eight bytes of kernel memory.
    pub fn poke(&self, address: usize, value: u64) -> Check {
        self.call(Operation::Poke, address as u64, Some(&mut value.to_le_bytes()))?;
        Ok(())
    }

    /// Calls it as VMMR0.
    pub fn call_vmmr0(
        &self,
        operation: Vmmr0Operation,
        vm: usize,
        payload: Option<&mut [u8]>,
    ) -> Result<Status, Error> {
        let call = Vmmr0Call { vm, cpu_id: 7, operation: operation as u32, arg: 0x1122_3344_5566_7788 };
        self.client.call_vmmr0(call, payload)
    }

    /// Frees it now, and says whether that worked.
    pub fn free(self) -> Check {
        let (client, base) = (self.client, self.base);
        core::mem::forget(self);
        client.ldr_free(base).map_err(Stop::from)
    }
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        let _gone_with_the_session_otherwise = self.client.ldr_free(self.base);
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_small_and_its_labels_are_inside() {
        let bits = code::bits();
        assert!(bits.starts_with(b"supctl probe\0") && bits.len() < 1024, "{} bytes", bits.len());
        assert!(code::symbols().iter().all(|(_, offset)| *offset < bits.len()));
        assert_eq!(offset("ProbeInitResult"), 16);
    }
}
