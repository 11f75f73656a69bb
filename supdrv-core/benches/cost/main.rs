//! What requests and services cost, in instructions, and whether that grows with what is open.
//!
//! `cargo xtask bench` runs one case after the other under callgrind and prints the table; it asks this program for the list of cases.
//! Counts include the mock system's share (its locks, accounts and checks), which is the same whatever is open.

mod runtime;

use core::ffi::c_void;
use std::hint::black_box;

use supdrv_core::abi::ioctl::{
    COOKIE_MAGIC, DEVEXT_COOKIE, Encoding, FLAGS_DEFAULT, Function, INITIAL_COOKIE, IOC_VERSION, IOCTL_FLAG,
    SESSION_COOKIE,
};
use supdrv_core::abi::layout::WIDTH;
use supdrv_core::abi::packets::{self, packet};
use supdrv_core::abi::published::{DevExtView, SessionView};
use supdrv_core::abi::requests::RequestHeader;
use supdrv_core::mock::client::Image;
use supdrv_core::mock::{Client, Host, MockOs};
use supdrv_core::object::{ObjectId, Registration};
use supdrv_core::os::SessionKind;
use supdrv_core::{capi, dispatch};
use zerocopy::IntoBytes;

/// Operations that are counted in each case; no case has less to work on.
const OPERATIONS: usize = 8;

/// Turns the counting of instructions on and off. Outside of valgrind it does nothing.
struct Meter;

impl Meter {
    /// A request to the tool that watches this program.
    #[cfg(target_arch = "x86_64")]
    fn request(number: u64) {
        let arguments = [number, 0, 0, 0, 0, 0];
        // SAFETY: valgrind knows this sequence and looks at the block behind RAX; a processor just rotates RDI by 128 bits in all and
        // exchanges RBX with itself.
        unsafe {
            core::arch::asm!(
                "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
                in("rax") arguments.as_ptr(), inout("rdx") 0u64 => _,
            );
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn request(_number: u64) {}

    fn count(mut operation: impl FnMut(usize)) {
        /// Callgrind's requests begin here.
        const BASE: u64 = (b'C' as u64) << 24 | (b'T' as u64) << 16;
        Self::request(BASE + 4);
        for number in 0..OPERATIONS {
            operation(number);
        }
        Self::request(BASE + 5);
    }
}

/// `OPERATIONS` different numbers below `size`, all over the place.
fn spread(size: usize) -> impl Fn(usize) -> usize {
    move |number| (number * size / OPERATIONS + size / (2 * OPERATIONS)).min(size - 1)
}

const FEW_TO_MANY: &[usize] = &[10, 1_000, 100_000, 1_000_000];
const FEW_TO_100_000: &[usize] = &[10, 1_000, 100_000];
const FEW_TO_ALL_HANDLES: &[usize] = &[10, 1_000, 32_000];

struct Case {
    name: &'static str,
    /// What exists while it is measured; 1 where nothing is open.
    sizes: &'static [usize],
    run: fn(usize),
}

const CASES: &[Case] = &[
    Case { name: "nothing", sizes: &[1], run: |_| Meter::count(|number| _ = black_box(number)) },
    Case { name: "ioctl COOKIE", sizes: &[1], run: |_| request(|client| _ = client.cookie()) },
    Case { name: "ioctl GET_PAGING_MODE", sizes: &[1], run: |_| request(|client| _ = client.paging_mode()) },
    Case { name: "ioctl VT_CAPS", sizes: &[1], run: |_| request(|client| _ = client.vt_caps()) },
    Case {
        name: "ioctl SET_VM_FOR_FAST",
        sizes: &[1],
        run: |_| request(|client| _ = client.set_vm(0x10_0000)),
    },
    Case { name: "the core's COOKIE from Rust", sizes: &[1], run: |_| call(Function::Cookie, false) },
    Case { name: "the core's COOKIE from C", sizes: &[1], run: |_| call(Function::Cookie, true) },
    Case {
        name: "the core's SET_VM_FOR_FAST from Rust",
        sizes: &[1],
        run: |_| call(Function::SetVmForFast, false),
    },
    Case {
        name: "the core's SET_VM_FOR_FAST from C",
        sizes: &[1],
        run: |_| call(Function::SetVmForFast, true),
    },
    Case { name: "the core's VT_CAPS from Rust", sizes: &[1], run: |_| call(Function::VtCaps, false) },
    Case { name: "the core's VT_CAPS from C", sizes: &[1], run: |_| call(Function::VtCaps, true) },
    Case { name: "free one of n page allocations", sizes: FEW_TO_MANY, run: free_memory },
    Case { name: "find one of n page allocations", sizes: FEW_TO_MANY, run: find_memory },
    Case { name: "allocate one page beside n", sizes: FEW_TO_MANY, run: allocate_memory },
    Case { name: "reference one of n objects", sizes: FEW_TO_MANY, run: reference_object },
    Case { name: "release one of n objects", sizes: FEW_TO_MANY, run: release_object },
    Case { name: "signal one of n semaphores", sizes: FEW_TO_ALL_HANDLES, run: signal },
    Case { name: "close one of n semaphores", sizes: FEW_TO_ALL_HANDLES, run: close_semaphore },
    Case { name: "find one of n sessions", sizes: FEW_TO_100_000, run: find_session },
    Case { name: "open a session beside n", sizes: FEW_TO_100_000, run: open_session },
    Case { name: "find one of n images", sizes: FEW_TO_100_000, run: find_image },
    Case { name: "open one of n images again", sizes: FEW_TO_100_000, run: open_image },
    Case { name: "RTSpinlockAcquire and Release", sizes: &[1], run: runtime::spinlock },
    Case { name: "RTSemEventSignal and Wait", sizes: &[1], run: runtime::event },
    Case { name: "map one of n memory objects, unmap", sizes: FEW_TO_100_000, run: runtime::map_object },
    Case { name: "RTTimerStart and Stop", sizes: &[1], run: runtime::timer },
    Case { name: "look up one of n handles", sizes: FEW_TO_MANY, run: runtime::handle },
];

/// A driver that is never taken down: not one by one, when a million things are open.
fn host() -> &'static Host {
    Box::leak(Box::new(Host::new()))
}

fn request(send: impl Fn(&Client<'_>)) {
    let host = host();
    let client = host.open();
    send(&client);
    Meter::count(|_| send(&client));
    core::mem::forget(client);
}

/// The C entry point, for the mock system.
///
/// # Safety
/// As for [`capi::ioctl`].
#[inline(never)]
unsafe extern "C" fn c_ioctl(
    code: usize,
    dev_ext: *mut DevExtView,
    session: *mut SessionView,
    packet: *mut RequestHeader,
) -> i32 {
    // SAFETY: conditions of the function.
    unsafe { capi::ioctl::<MockOs>(code, dev_ext, session, packet) }
}

/// A request to the core alone, without a shell, by either entry: what is the price of being called from C?
fn call(function: Function, from_c: bool) {
    let host = host();
    let client = host.open();
    let sizes = packet(function).expect("a request with a packet");
    let bytes = |size: packets::Size| size.bytes(WIDTH, 0).expect("a size");
    let (input, output) = (bytes(sizes.input), bytes(sizes.output));
    let code = Encoding::Linux.code(function, input.max(output) as u32, IOCTL_FLAG);
    let mut words = [0_u64; 16];
    let header = RequestHeader {
        cookie: if function == Function::Cookie { INITIAL_COOKIE } else { DEVEXT_COOKIE },
        session_cookie: SESSION_COOKIE,
        in_bytes: input as u32,
        out_bytes: output as u32,
        flags: FLAGS_DEFAULT,
        rc: 0,
    };
    let request = words.as_mut_bytes();
    let (head, body) = request.split_at_mut(size_of::<RequestHeader>());
    header.write_to(head).expect("a header");
    if function == Function::Cookie {
        let (magic, versions) = body.split_at_mut(16);
        magic.copy_from_slice(&COOKIE_MAGIC);
        versions[..8].copy_from_slice([IOC_VERSION; 2].as_bytes());
    }
    let request = &mut request[..input.max(output)];
    let (view, session) = (host.driver().view().as_ptr(), client.session().view().as_ptr());
    let template = request.to_vec();
    // Output overwrites input: each call gets its packet anew.
    let mut once = || {
        request.copy_from_slice(&template);
        if from_c {
            // SAFETY: both objects live, and the packet is as long as its header says.
            unsafe { c_ioctl(code as usize, view, session, request.as_mut_ptr().cast()) }
        } else {
            dispatch::ioctl(client.session(), code, request).map_or_else(|status| status.0, |()| 0)
        }
    };
    assert_eq!(once(), 0, "{function:?}");
    Meter::count(|_| _ = black_box(once()));
    core::mem::forget(client);
}

fn with_memory(size: usize, operation: impl Fn(&Client<'_>, &[usize])) {
    let host = host();
    host.os().set_fictional_memory();
    let client = host.open();
    let memory: Vec<usize> =
        (0..size).map(|_| client.page_alloc(1, true).expect("fictional memory is endless").r3).collect();
    operation(&client, &memory);
    core::mem::forget(client);
}

fn free_memory(size: usize) {
    let at = spread(size);
    with_memory(size, |client, memory| Meter::count(|number| client.page_free(memory[at(number)]).unwrap()));
}

fn find_memory(size: usize) {
    let at = spread(size);
    with_memory(size, |client, memory| {
        Meter::count(|number| client.page_protect(memory[at(number)], 0, 0, 0x1000, 3).unwrap());
    });
}

fn allocate_memory(size: usize) {
    with_memory(size, |client, _| Meter::count(|_| _ = black_box(client.page_alloc(1, true))));
}

unsafe extern "C" fn no_destructor(_: *mut c_void, _: *mut c_void, _: *mut c_void) {}

fn with_objects(size: usize, operation: impl Fn(&Client<'_>, &[ObjectId])) {
    let host = host();
    let client = host.open();
    let session = client.session();
    let what = Registration {
        object_type: 1,
        destructor: no_destructor,
        user1: core::ptr::null_mut(),
        user2: core::ptr::null_mut(),
    };
    let objects = host.driver().objects();
    let ids: Vec<ObjectId> = (0..size)
        .map(|_| objects.register(session.key(), &session.creator(), session.ext(), &what).unwrap())
        .collect();
    operation(&client, &ids);
    core::mem::forget(client);
}

fn reference_object(size: usize) {
    let at = spread(size);
    with_objects(size, |client, ids| {
        let (objects, key) = (client.host().driver().objects(), client.session().key());
        // SAFETY: the session references all of them.
        Meter::count(|number| unsafe { objects.add_ref(key, ids[at(number)]) }.unwrap());
    });
}

fn release_object(size: usize) {
    let at = spread(size);
    with_objects(size, |client, ids| {
        let (objects, key) = (client.host().driver().objects(), client.session().key());
        // SAFETY: the session references all of them, and each is released once.
        Meter::count(|number| _ = unsafe { objects.release(key, ids[at(number)]) }.unwrap());
    });
}

fn with_semaphores(size: usize, operation: impl Fn(&Client<'_>, &[u32])) {
    let host = host();
    let client = host.open();
    let handles: Vec<u32> = (0..size).map(|_| client.sem_op3(0, 0, 0).unwrap()).collect();
    operation(&client, &handles);
    core::mem::forget(client);
}

fn signal(size: usize) {
    let at = spread(size);
    with_semaphores(size, |client, handles| {
        Meter::count(|number| _ = client.sem_op2(0, handles[at(number)], 3, 0).unwrap());
    });
}

fn close_semaphore(size: usize) {
    let at = spread(size);
    with_semaphores(size, |client, handles| {
        Meter::count(|number| _ = client.sem_op2(0, handles[at(number)], 5, 0).unwrap());
    });
}

fn find_session(size: usize) {
    let host = host();
    let clients: Vec<Client<'_>> = (0..size).map(|_| host.open_as(SessionKind::Kernel).unwrap()).collect();
    let keys: Vec<usize> = clients.iter().map(|client| client.session().key()).collect();
    let at = spread(size);
    Meter::count(|number| drop(host.driver().kernel_session(keys[at(number)])));
    core::mem::forget(clients);
}

fn open_session(size: usize) {
    let host = host();
    let clients: Vec<Client<'_>> = (0..size).map(|_| host.open()).collect();
    Meter::count(|_| host.open().close());
    core::mem::forget(clients);
}

/// Images that a session opens; the loader allows it twice as many.
const IMAGES_PER_SESSION: usize = 128;

fn with_images(size: usize, operation: impl Fn(&Client<'_>, &Image, usize)) {
    let host = host();
    host.os().set_fictional_memory();
    let clients: Vec<Client<'_>> = (0..size.div_ceil(IMAGES_PER_SESSION)).map(|_| host.open()).collect();
    let load = |number: usize| {
        let mut image = Image::new(&format!("image {number}"), &[0xc3; 16]);
        image.symbols.push(("symbol".into(), 3));
        let base = clients[number / IMAGES_PER_SESSION].load(&image).unwrap();
        (image, base)
    };
    let images: Vec<(Image, usize)> = (0..size).map(load).collect();
    let at = spread(size);
    Meter::count(|number| {
        let (image, base) = &images[at(number)];
        operation(&clients[at(number) / IMAGES_PER_SESSION], image, *base);
    });
    core::mem::forget(clients);
}

fn find_image(size: usize) {
    with_images(size, |client, _, base| _ = client.ldr_get_symbol(base, "symbol").unwrap());
}

fn open_image(size: usize) {
    with_images(size, |client, image, _| _ = client.ldr_open(image, "/image").unwrap());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            println!("operations\t{OPERATIONS}");
            for case in CASES {
                for size in case.sizes {
                    println!("{}\t{size}", case.name);
                }
            }
        }
        ["run", name, size] => {
            let case = CASES.iter().find(|case| case.name == name).expect("a case of the list");
            (case.run)(size.parse().expect("a number"));
        }
        _ => println!("skipped: instructions are counted by `cargo xtask bench`"),
    }
}
