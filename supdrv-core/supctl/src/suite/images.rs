//! Images that check things from inside the kernel: objects that speak the protocol of `images/checks.h`.
//!
//! Such an image is a service, whose handler is `CheckService`, or stands in for VMMR0. Operation 0 is the number of its checks, operation 1
//! runs the one in the argument, puts its name into the packet, and returns 0 or the line of what was wrong.

use supdrv_core::abi::Status;

use super::{Check, Ctx, Outcome, Stop, Tally, ensure, fail, not_available};
use crate::client::{Client, FastCall, Vmmr0Call};
use crate::error::Error;
use crate::image::{EntryPoints, LinkError, LoadedImage, Loader, Module};
use crate::transport::Transport;

/// Handler of images that are services.
const SERVICE: &str = "CheckService";
/// An entry that only VMMR0 has.
const VMMR0: &str = "VMMR0EntryEx";
/// Exports of a driver that has no functions for modules: ten numbers.
const NUMBERS_ONLY: usize = 10;
/// Room for a check's name.
const NAME_BYTES: usize = 64;

/// Loads an image into the driver and runs its checks; `name` is its name there and in the titles that are reported.
pub fn run_image(
    transport: &dyn Transport,
    name: &str,
    object: &[u8],
    report: &mut dyn FnMut(&str, &Outcome),
) -> Tally {
    let mut tally = Tally::default();
    let mut count = |title: String, check: Check| {
        let outcome = match check {
            Ok(()) => Outcome::Pass,
            Err(Stop::Fail(reason)) => Outcome::Fail(reason),
            Err(Stop::NotAvailable(reason)) => Outcome::NotAvailable(reason),
        };
        tally.add(&outcome);
        report(&format!("image {name}: {title}"), &outcome);
    };
    let ctx = Ctx { transport };
    let before = transport.counters();
    match ctx.client() {
        Ok(client) => run_checks(&client, name, object, &mut count),
        Err(stop) => count("a session can be opened".into(), Err(stop)),
    }
    let clean = ctx.until(|| transport.counters() == before);
    let left = ensure(clean, || format!("{before:?}, now {:?}", transport.counters()));
    count("nothing is left behind".into(), left);
    tally
}

fn run_checks(client: &Client, name: &str, object: &[u8], count: &mut dyn FnMut(String, Check)) {
    let image = match load(client, name, object) {
        Ok(image) => image,
        Err(stop) => return count("is linked and loaded".into(), Err(stop)),
    };
    count("is linked and loaded".into(), Ok(()));
    let is_vmmr0 = image.module().offset_of(VMMR0).is_some();
    if is_vmmr0 {
        count("takes fast calls".into(), fast_calls(client));
    }
    let call = |operation: u32, arg: u64, payload: Option<&mut [u8]>| -> Result<Status, Error> {
        if is_vmmr0 {
            image.call_vmmr0(Vmmr0Call { operation, arg, ..Vmmr0Call::default() }, payload)
        } else {
            image.call(operation, arg, payload)
        }
    };
    let number = match call(0, 0, None) {
        Ok(status) => status.0.unsigned_abs(),
        Err(error) => return count("has checks".into(), Err(error.into())),
    };
    count("has checks".into(), ensure(number > 0, || "it has none".into()));
    for check in 0..number {
        let mut text = [0; NAME_BYTES];
        let result = call(1, check.into(), Some(&mut text));
        let title = text_or(&text, || format!("check {check}"));
        count(
            title,
            match result {
                Ok(Status(0)) => Ok(()),
                Ok(Status(line)) => fail(format!("line {line} of the image is wrong")),
                Err(error) => Err(error.into()),
            },
        );
    }
    let freed = image.free().map_err(Stop::from);
    count("is freed".into(), freed);
}

/// The name that a check has given itself.
fn text_or(field: &[u8], otherwise: impl FnOnce() -> String) -> String {
    let text = crate::client::text(field);
    if text.is_empty() { otherwise() } else { text }
}

fn load<'c>(client: &'c Client, name: &str, object: &[u8]) -> Check<LoadedImage<'c>> {
    let stop = |error: LinkError| Stop::Fail(error.to_string());
    let module = Module::parse(name, object).map_err(stop)?;
    let mut loader = Loader::new(client).map_err(stop)?;
    if client.session().function_count as usize <= NUMBERS_ONLY && !module.imports().is_empty() {
        return not_available("this driver has no functions for modules");
    }
    let entry_points = match module.offset_of(VMMR0) {
        Some(_) => EntryPoints::Vmmr0,
        None => EntryPoints::Service(SERVICE),
    };
    loader.load(name, object, entry_points).map_err(stop)
}

/// What the image's own check then looks for: three calls, the last one a no-operation, for virtual CPU 9.
fn fast_calls(client: &Client) -> Check {
    let vm = client.pages(1, true)?;
    client.set_vm_for_fast(vm.r0())?;
    let calls = [FastCall::RawRun, FastCall::HmRun, FastCall::Nop];
    let result = calls.into_iter().try_for_each(|call| client.fast(call, 9));
    client.set_vm_for_fast(0)?;
    Ok(result?)
}
