//! One machine at a time: the functions of the runtime know no other than the current one.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use supdrv_core::abi::Status;
use supdrv_core::abi::status::Result;
use supdrv_core::mock::{MockOs, replay::Replayed};
use supdrv_core::ring0::events;

pub mod exports {
    supdrv_core::ring0_exports!(supdrv_core::mock::MockOs, super::current());
}

static SERIAL: Mutex<()> = Mutex::new(());
static CURRENT: Mutex<Option<MockOs>> = Mutex::new(None);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the runtime runs on.
pub fn current() -> MockOs {
    locked(&CURRENT).clone().expect("a machine is current")
}

/// The current machine of one test.
pub struct Machine {
    os: MockOs,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    pub fn new() -> Self {
        Self::with_cpus(2)
    }

    pub fn with_cpus(cpus: usize) -> Self {
        let alone = locked(&SERIAL);
        let os = MockOs::with_cpus(cpus);
        *locked(&CURRENT) = Some(os.clone());
        Self { os, _alone: alone }
    }
}

/// What the end of the driver does.
fn stop() {
    if locked(&CURRENT).is_some() {
        events::gip_published::<exports::Runtime>(0);
    }
    *locked(&CURRENT) = None;
}

impl Drop for Machine {
    fn drop(&mut self) {
        stop();
    }
}

impl Deref for Machine {
    type Target = MockOs;

    fn deref(&self) -> &MockOs {
        &self.os
    }
}

/// As the mock's `replay`, with its machine as the current one.
pub fn replay(scenario: impl Fn(&MockOs) -> Result<()>) -> Replayed {
    let _alone = locked(&SERIAL);
    let replayed = supdrv_core::mock::replay(|os| {
        *locked(&CURRENT) = Some(os.clone());
        let result = scenario(os);
        stop();
        result
    });
    assert!(replayed.calls > 0, "the scenario calls nothing that can fail");
    replayed
}

/// A C status as a result.
pub fn ok(status: i32) -> Result<()> {
    Status(status).into_result()
}

/// The address of an export.
pub fn address(name: &str) -> usize {
    let found = exports::EXPORTS.iter().find(|export| export.name() == name);
    found.unwrap_or_else(|| panic!("{name} isn't exported")).address()
}

/// Calls an export by name: `call!(fn RTFoo(1, 2) -> i32 where (u32, u32))`.
#[macro_export]
macro_rules! import {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?;)*) => {
        $(
            #[allow(non_snake_case, clippy::too_many_arguments)]
            fn $name($($arg: $ty),*) $(-> $ret)? {
                let address = $crate::harness::address(stringify!($name));
                // SAFETY: the export has this signature: `table` compares them with the prototypes of C.
                let function = unsafe { std::mem::transmute::<usize, unsafe extern "C" fn($($ty),*) $(-> $ret)?>(address) };
                // SAFETY: the tests keep the contracts of the functions.
                unsafe { function($($arg),*) }
            }
        )*
    };
}
