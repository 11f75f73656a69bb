//! Every VTG sample through a driver: registered by an image, by a sibling driver, by a process.

mod tracer_support;
mod vtg_samples;

use supdrv_core::abi::status::{Result, VINF_SUCCESS};
use supdrv_core::mock::Host;
use supdrv_core::os::SessionKind;
use supdrv_core::tracer::{TracerCounters, UmodRequest};
use tracer_support::{FakeImage, KernelObject, UserModule};
use vtg_samples::{Entry, Sample, all};

const HOST: &str = if cfg!(target_pointer_width = "64") { "amd64" } else { "i386" };

/// Registers a sample the way it is meant to be, and takes it away again.
fn register(host: &Host, sample: &Sample) -> Result<()> {
    match sample.entry {
        Entry::KernelImage => {
            let object = KernelObject::place(sample);
            let image = FakeImage::of(&object);
            let result = image.in_init(host, || image.register(host, object.header));
            let unfinished = [object.word(0x48), object.word(0x4c)];
            if result.is_err() && sample.memory[sample.header_offset + 0x48..][..8] == [0; 8] {
                assert_eq!(unfinished, [0, 0], "{}: nothing is written before all is good", sample.name);
            }
            host.driver().tracer_module_unloading(image.handle());
            result
        }
        Entry::KernelDriver => {
            let object = KernelObject::place(sample);
            let driver = host.open_as(SessionKind::Kernel)?;
            object.register_driver(&driver)
        }
        Entry::UserModule => {
            let module = UserModule::place(host.os(), sample);
            if sample.user.kernel_session {
                let driver = host.open_as(SessionKind::Kernel)?;
                return driver.session().tracer_umod_register(&UmodRequest {
                    header_r3: module.request.header_r3,
                    header_address: module.request.header_address,
                    strings_r3: module.request.strings_r3,
                    strings_bytes: module.request.strings_bytes,
                    name: b"smpmod.so",
                    flags: module.request.flags,
                });
            }
            let client = host.open();
            let before = (host.os().live_all(), host.driver().tracer().counters());
            let bytes = module.memory.to_vec();
            let result = module.register(&client);
            if result.is_err() {
                let after = (host.os().live_all(), host.driver().tracer().counters());
                assert_eq!(before, after, "{}: nothing is locked, mapped or kept", sample.name);
                let untouched = module.memory[..] == bytes[..];
                assert!(untouched, "{}: the process's memory is untouched", sample.name);
            }
            result.map(drop)
        }
    }
}

#[test]
fn every_sample_has_its_status_and_leaves_nothing() {
    let host = Host::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for sample in all() {
        let Some(expected) = sample.expected(HOST) else { continue };
        let status = register(&host, sample).map_or_else(|status| status, |()| VINF_SUCCESS);
        count += 1;
        if status.0 != expected {
            wrong.push(format!("{}: expected {expected}, is {status:?}", sample.name));
        }
        assert_eq!(host.driver().tracer().counters(), TracerCounters::default(), "{}", sample.name);
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 300, "most samples are defined here ({count})");
}
