//! The main job, shown: the driver in a real kernel, a client talking to it.

use std::path::PathBuf;

use crate::kernel::{Kernel, Other};
use crate::qemu::{self, Machine, Step};
use crate::report::{Result, Tally};
use crate::{images, linux, tools};

const SCRIPT: &str = r#"
counters() { cat /sys/kernel/debug/vboxdrv/counters; }
step load insmod /vboxdrv.ko
step counters-at-rest counters
step nodes ls -l /dev/vboxdrv /dev/vboxdrvu
step info /supctl info
step selftest /supctl selftest
step images /supctl selftest --image /exports.o --image /VMMR0.r0.o --image /rust.o --image /tracer.o
step client32 /client32
step gip /supctl gip --count 5
step bench /supctl bench --short
/supctl hold > /tmp/hold &
holder=$!
for i in $(seq 100); do grep -q holding /tmp/hold && break; sleep 0.1; done
step held cat /tmp/hold
step counters-while-held counters
step busy rmmod vboxdrv
kill -9 $holder; wait $holder 2>/dev/null; sleep 0.3
step counters-after-kill counters
step unload rmmod vboxdrv
step wrong-parameter insmod /vboxdrv.ko ibt=sometimes
step reload insmod /vboxdrv.ko lockdown=refuse ibt=disable
step image-open /supctl selftest --image /rust.o
mount -t securityfs security /sys/kernel/security
lock() { echo integrity > /sys/kernel/security/lockdown; }
step lock lock
step image-locked /supctl selftest --image /rust.o
step unload-again rmmod vboxdrv
step taint cat /proc/sys/kernel/tainted
step kernel-log dmesg
"#;

/// A sibling driver, and what happens to a machine while a client uses the driver: CPUs that go and come, sleep. On a CPU with five-level
/// paging.
const EVENTS: &str = r#"
counters() { cat /sys/kernel/debug/vboxdrv/counters; }
step load insmod /vboxdrv.ko
step counters-at-rest counters
step sibling insmod /supdrv_idc_test.ko
step counters-with-sibling counters
step busy rmmod vboxdrv
step sibling-log dmesg
step sibling-gone rmmod supdrv_idc_test
step info /supctl info
step selftest /supctl selftest
/supctl hold > /tmp/hold &
holder=$!
for i in $(seq 100); do grep -q holding /tmp/hold && break; sleep 0.1; done
hotplug() { for i in 1 2 3; do echo 0 > /sys/devices/system/cpu/cpu1/online && echo 1 > /sys/devices/system/cpu/cpu1/online || return 1; done; }
step hotplug hotplug
step gip-after-hotplug /supctl gip --count 3
nap() { echo +4 > /sys/class/rtc/rtc0/wakealarm && echo mem > /sys/power/state; }
step sleep nap
step gip-after-sleep /supctl gip --count 3
kill -9 $holder; wait $holder 2>/dev/null; sleep 0.3
step counters-after-kill counters
many() { for i in $(seq 20); do insmod /vboxdrv.ko && rmmod vboxdrv || return 1; done; }
step unload rmmod vboxdrv
step load-many-times many
kvm() { insmod /irqbypass.ko && insmod /kvm.ko && insmod /ccp.ko && insmod /kvm-amd.ko; }
step kvm kvm
step load-for-kvm insmod /vboxdrv.ko vtx=kvm
step kvm-unused rmmod kvm-amd
step kvm-again insmod /kvm-amd.ko
step sibling-of-kvm insmod /supdrv_idc_test.ko vtx=0
step kvm-held rmmod kvm-amd
step sibling-of-kvm-gone rmmod supdrv_idc_test
step kvm-released rmmod kvm-amd
step unload-for-kvm rmmod vboxdrv
step taint cat /proc/sys/kernel/tainted
step kernel-log dmesg
"#;

/// The same on another kernel, as far as it may differ there.
const OTHER: &str = r#"
counters() { cat /sys/kernel/debug/vboxdrv/counters; }
step load insmod /vboxdrv.ko
step counters-at-rest counters
kvm() { insmod /irqbypass.ko && insmod /kvm.ko && insmod /ccp.ko && insmod /kvm-amd.ko; }
[ ! -e /kvm.ko ] || step kvm kvm
step sibling insmod /supdrv_idc_test.ko
step sibling-log dmesg
step sibling-gone rmmod supdrv_idc_test
[ ! -e /kvm.ko ] || step kvm-gone rmmod kvm-amd
step info /supctl info
step selftest /supctl selftest
step images /supctl selftest --image /exports.o --image /VMMR0.r0.o --image /rust.o --image /tracer.o
step client32 /client32
/supctl hold > /tmp/hold &
holder=$!
for i in $(seq 100); do grep -q holding /tmp/hold && break; sleep 0.1; done
hotplug() { echo 0 > /sys/devices/system/cpu/cpu1/online && echo 1 > /sys/devices/system/cpu/cpu1/online; }
step hotplug hotplug
step gip-after-hotplug /supctl gip --count 3
kill -9 $holder; wait $holder 2>/dev/null; sleep 0.3
step counters-after-kill counters
step unload rmmod vboxdrv
step taint cat /proc/sys/kernel/tainted
step kernel-log dmesg
"#;

/// KVM for the emulated CPU, in the order of loading.
const KVM: &[&str] =
    &["virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "drivers/crypto/ccp/ccp.ko", "arch/x86/kvm/kvm-amd.ko"];

/// Out-of-tree and unsigned: nothing went wrong.
const CLEAN_TAINT: &str = "12288";

/// What a kernel prints when something is wrong.
const ALARMS: &[&str] = &[
    "BUG",
    "WARNING",
    "Oops",
    "KASAN",
    "UBSAN",
    "unreferenced",
    "Call Trace",
    "general protection",
    "possible circular",
    "possible recursive",
    "possible irq",
    "suspicious RCU",
    "invalid context",
    "blocked for more",
    "stalls",
    "lockup",
    "page allocation failure",
    "Bad page",
];

struct Checks {
    tally: Tally,
}

impl Checks {
    fn check(&mut self, what: &str, passed: bool) {
        println!("{} {what}", if passed { "ok    " } else { "FAILED" });
        self.tally.add(Tally::one(passed));
    }

    fn step_ok(&mut self, steps: &[Step], name: &str, what: &str) {
        self.check(what, qemu::find(steps, name).is_ok_and(|step| step.status == 0));
    }

    /// A step that runs cases itself; in a real kernel none is skipped.
    fn cases(&mut self, steps: &[Step], name: &str, what: &str) -> Result<()> {
        let step = qemu::find(steps, name)?;
        let inner = Tally::last_in(&step.output).unwrap_or_default();
        self.tally.add(inner);
        self.check(&format!("{what}: {inner}"), step.status == 0 && inner.passed > 0 && inner.skipped == 0);
        Ok(())
    }
}

fn counters(step: &Step) -> Vec<(&str, u64)> {
    let pairs = step.output.lines().filter_map(|line| line.split_once('='));
    pairs.filter_map(|(name, value)| Some((name, value.trim().parse().ok()?))).collect()
}

fn alarms(log: &str) -> Vec<&str> {
    log.lines().filter(|line| ALARMS.iter().any(|alarm| line.contains(alarm))).collect()
}

/// The driver's counters are what they were before there was a client.
fn nothing_left(checks: &mut Checks, steps: &[Step]) -> Result<()> {
    let (rest, after) = (qemu::find(steps, "counters-at-rest")?, qemu::find(steps, "counters-after-kill")?);
    let (rest, after) = (counters(rest), counters(after));
    let left: Vec<_> = after.iter().filter(|counter| !rest.contains(counter)).collect();
    checks.check(
        &format!("nothing is left after the client was killed {left:?}"),
        after.len() >= 10 && left.is_empty(),
    );
    let at_rest = |name: &str| after.contains(&(name, 0));
    checks.check(
        "no session, object, memory reference, image or pinned page exists",
        ["sessions", "objects", "memory_refs", "images", "gip_users", "pinned_pages", "exec_pages"]
            .iter()
            .all(|name| at_rest(name)),
    );
    Ok(())
}

fn kernel_is_content(checks: &mut Checks, steps: &[Step]) -> Result<()> {
    let taint = qemu::find(steps, "taint")?.output.trim().to_owned();
    checks
        .check(&format!("the kernel is only tainted by an unsigned module ({taint})"), taint == CLEAN_TAINT);
    let log = &qemu::find(steps, "kernel-log")?.output;
    let alarms = alarms(log);
    checks.check(
        &format!("the kernel log is free of warnings {alarms:?}"),
        log.contains("supdrv:") && alarms.is_empty(),
    );
    Ok(())
}

fn judge_events(steps: &[Step]) -> Result<Tally> {
    let mut checks = Checks { tally: Tally::default() };
    checks.step_ok(steps, "load", "the driver loads on a CPU with five-level paging");
    checks.step_ok(steps, "sibling", "a sibling driver finds every inter-driver service");
    let log = &qemu::find(steps, "sibling-log")?.output;
    checks.check("the sibling's checks passed", log.contains("supdrv-idc-test: 0 failures"));
    let with_sibling = counters(qemu::find(steps, "counters-with-sibling")?);
    let one = |name: &str| with_sibling.contains(&(name, 1));
    checks.check("its session and its factory exist", one("sessions") && one("factories"));
    checks.check("the driver doesn't unload under a sibling", qemu::find(steps, "busy")?.status != 0);
    checks.step_ok(steps, "sibling-gone", "the sibling unloads");
    checks.step_ok(steps, "info", "supctl info");
    checks.cases(steps, "selftest", "supctl selftest")?;
    checks.step_ok(steps, "hotplug", "a CPU goes and comes back three times");
    checks.step_ok(steps, "gip-after-hotplug", "the time page is right after that");
    checks.step_ok(steps, "sleep", "the machine sleeps and wakes up");
    checks.step_ok(steps, "gip-after-sleep", "the time page is right after that");
    nothing_left(&mut checks, steps)?;
    checks.step_ok(steps, "unload", "the driver unloads");
    checks.step_ok(steps, "load-many-times", "it loads and unloads twenty times");
    for (name, what) in [
        ("kvm", "KVM is loaded"),
        ("load-for-kvm", "the driver loads with vtx=kvm"),
        ("kvm-unused", "KVM unloads under it"),
        ("kvm-again", "and loads again"),
        ("sibling-of-kvm", "a sibling has KVM switch virtualisation on"),
    ] {
        checks.step_ok(steps, name, what);
    }
    checks.check("KVM doesn't unload then", qemu::find(steps, "kvm-held")?.status != 0);
    checks.step_ok(steps, "sibling-of-kvm-gone", "the sibling unloads");
    checks.step_ok(steps, "kvm-released", "and then KVM does");
    checks.step_ok(steps, "unload-for-kvm", "the driver unloads");
    kernel_is_content(&mut checks, steps)?;
    Ok(checks.tally)
}

fn judge(steps: &[Step]) -> Result<Tally> {
    let mut checks = Checks { tally: Tally::default() };
    checks.step_ok(steps, "load", "the driver loads");
    checks.step_ok(steps, "nodes", "both device nodes exist");
    checks.step_ok(steps, "info", "supctl info");
    checks.cases(steps, "selftest", "supctl selftest")?;
    checks.cases(steps, "images", "ring-0 images")?;
    checks.step_ok(steps, "client32", "a 32-bit program is refused with ENOTTY");
    checks.step_ok(steps, "gip", "supctl gip");
    checks.step_ok(steps, "bench", "supctl bench");
    let held = qemu::find(steps, "counters-while-held")?;
    let held = counters(held);
    let in_use = |name: &str| held.iter().any(|(n, value)| *n == name && *value > 0);
    checks.check(
        "a client holds memory, an image and the time page",
        ["sessions", "memory_refs", "images", "gip_users", "pages", "exec_pages"]
            .iter()
            .all(|name| in_use(name)),
    );
    checks.check("the driver doesn't unload under a client", qemu::find(steps, "busy")?.status != 0);
    nothing_left(&mut checks, steps)?;
    checks.step_ok(steps, "unload", "the driver unloads");
    let wrong = qemu::find(steps, "wrong-parameter")?;
    checks.check("it refuses a value that a parameter can't have", wrong.status != 0);
    checks.step_ok(steps, "reload", "it loads again");
    checks.step_ok(steps, "image-open", "with lockdown=refuse it loads images in an open kernel");
    checks.step_ok(steps, "lock", "the kernel is locked down");
    let locked = qemu::find(steps, "image-locked")?;
    let is_refused = locked.status != 0 && locked.output.contains("VERR_NO_EXEC_MEMORY");
    let log = &qemu::find(steps, "kernel-log")?.output;
    let is_told = log.contains("no ring-0 images in a locked down kernel");
    checks.check("and refuses them in a locked one, and says so", is_refused && is_told);
    checks.step_ok(steps, "unload-again", "and unloads again");
    kernel_is_content(&mut checks, steps)?;
    Ok(checks.tally)
}

fn judge_other(steps: &[Step], with_kvm: bool) -> Result<Tally> {
    let mut checks = Checks { tally: Tally::default() };
    if with_kvm {
        checks.step_ok(steps, "kvm", "KVM is loaded");
    }
    checks.step_ok(steps, "load", "the driver loads");
    checks.step_ok(steps, "sibling", "a sibling driver finds every inter-driver service");
    let log = &qemu::find(steps, "sibling-log")?.output;
    checks.check("the sibling's checks passed", log.contains("supdrv-idc-test: 0 failures"));
    let is_told = log.contains("hardware virtualisation is in use, probably by KVM");
    let what = if with_kvm { "the log says that KVM has it" } else { "the log doesn't say that KVM has it" };
    checks.check(&format!("hardware virtualisation: {what}"), is_told == with_kvm);
    checks.step_ok(steps, "sibling-gone", "the sibling unloads");
    if with_kvm {
        checks.step_ok(steps, "kvm-gone", "KVM unloads");
    }
    checks.step_ok(steps, "info", "supctl info");
    checks.cases(steps, "selftest", "supctl selftest")?;
    checks.cases(steps, "images", "ring-0 images")?;
    checks.step_ok(steps, "client32", "a 32-bit program is refused with ENOTTY");
    checks.step_ok(steps, "hotplug", "a CPU goes and comes back");
    checks.step_ok(steps, "gip-after-hotplug", "the time page is right after that");
    nothing_left(&mut checks, steps)?;
    checks.step_ok(steps, "unload", "the driver unloads");
    kernel_is_content(&mut checks, steps)?;
    Ok(checks.tally)
}

fn files(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut files = vec![linux::build(kernel)?, linux::build_supctl()?];
    files.extend(images::build()?);
    files.push(linux::build_client32()?);
    files.iter().try_for_each(|file| qemu::must_exist(file))?;
    Ok(files)
}

/// Builds, boots, and checks everything that the demonstration shows.
pub fn in_kernel() -> Result<Tally> {
    let kernel = Kernel::newest()?;
    let files = files(&kernel)?;
    let machine = Machine {
        kernel: &kernel,
        cpus: 2,
        cpu: "max,la57=off",
        exact: false,
        files: &files,
        script: SCRIPT,
        limit_seconds: 600,
    };
    judge(&qemu::boot(&machine)?)
}

/// Builds, boots, and checks what happens to a machine while the driver is in use.
pub fn events_in_kernel() -> Result<Tally> {
    let kernel = Kernel::newest()?;
    let mut files = files(&kernel)?;
    files.push(linux::build_test_module(&kernel, "idc_client", "supdrv_idc_test")?);
    files.extend(kernel.modules(KVM)?);
    let machine = Machine {
        kernel: &kernel,
        cpus: 2,
        cpu: "max",
        exact: false,
        files: &files,
        script: EVENTS,
        limit_seconds: 600,
    };
    judge_events(&qemu::boot(&machine)?)
}

/// Builds for Debian's 6.12 kernel, boots it, and checks what may differ there. Skipped where it can't be had.
pub fn in_newer_kernel() -> Result<Tally> {
    in_other_kernel(Other::Series("6.12"))
}

/// The same for the real-time kernel, in which ordinary locks sleep.
pub fn in_real_time_kernel() -> Result<Tally> {
    in_other_kernel(Other::Series("rt"))
}

/// The same for 5.10, of Debian 11.
pub fn in_older_kernel() -> Result<Tally> {
    in_other_kernel(Other::Release("bullseye"))
}

fn in_other_kernel(other: Other) -> Result<Tally> {
    let Some(kernel) = Kernel::other(other)? else {
        println!("skipped: no package list has a kernel of {other:?}");
        return Ok(Tally { skipped: 1, ..Tally::default() });
    };
    let mut files = files(&kernel)?;
    files.push(linux::build_test_module(&kernel, "idc_client", "supdrv_idc_test")?);
    // From this one on KVM has hardware virtualisation as soon as it is loaded.
    let with_kvm = matches!(other, Other::Series("6.12"));
    if with_kvm {
        files.extend(kernel.modules(KVM)?);
    }
    let machine = Machine {
        kernel: &kernel,
        cpus: 2,
        cpu: "max,la57=off",
        exact: false,
        files: &files,
        script: OTHER,
        limit_seconds: 600,
    };
    judge_other(&qemu::boot(&machine)?, with_kvm)
}

/// `cargo xtask demo`.
pub fn run() -> Result<()> {
    let tally = in_kernel()?;
    println!("{tally}");
    if tally.failed == 0 { Ok(()) } else { Err("the demonstration failed".into()) }
}

/// What a small request may cost more than an ioctl on a module that does nothing, in instructions.
const SMALL_REQUEST: i64 = 300;
/// What a request with a bad header may cost more.
const BAD_HEADER: i64 = 150;

/// The table that `supctl cost` prints, in a kernel whose time is counted in executed instructions.
fn cost_table() -> Result<String> {
    let kernel = Kernel::newest()?;
    let mut files = files(&kernel)?;
    files.push(linux::build_test_module(&kernel, "empty", "empty")?);
    let script = "step empty insmod /empty.ko\nstep load insmod /vboxdrv.ko\nstep cost /supctl cost\nstep unload rmmod vboxdrv\n";
    let machine = Machine {
        kernel: &kernel,
        cpus: 1,
        cpu: "max,la57=off",
        exact: true,
        files: &files,
        script,
        limit_seconds: 600,
    };
    let steps = qemu::boot(&machine)?;
    let cost = qemu::find(&steps, "cost")?;
    if cost.status == 0 { Ok(cost.output.trim_end().to_owned()) } else { Err("supctl cost failed".into()) }
}

/// The figure in a line of the table: the first number after its title.
fn ticks(table: &str, title: &str) -> Result<i64> {
    let line = table.lines().find_map(|line| line.strip_prefix(title));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("no figure for {title:?} in:\n{table}").into())
}

/// Measures, and holds the figures against what requests may cost.
pub fn check_costs() -> Result<Tally> {
    let table = cost_table()?;
    println!("{table}");
    let nothing = ticks(&table, "ioctl on a module that does nothing")?;
    let mut checks = Checks { tally: Tally::default() };
    let limits = [
        ("COOKIE", SMALL_REQUEST),
        ("GET_PAGING_MODE", SMALL_REQUEST),
        ("VT_CAPS", SMALL_REQUEST),
        ("bad header", BAD_HEADER),
        ("bad cookie", BAD_HEADER),
    ];
    for (title, limit) in limits {
        let more = ticks(&table, title)? - nothing;
        checks.check(
            &format!("{title} costs {more} instructions more than nothing; {limit} are allowed"),
            more <= limit,
        );
    }
    Ok(checks.tally)
}

/// `cargo xtask bench --kernel`.
pub fn costs() -> Result<()> {
    tools::say("instructions of one raw system call, user and kernel, median:");
    let tally = check_costs()?;
    if tally.failed == 0 { Ok(()) } else { Err("requests cost too much".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_titles() {
        let table = "system call     ticks  equal\nCOOKIE            838  2000/2000  ok\nbad header        598  2000/2000\n";
        assert_eq!(ticks(table, "COOKIE").unwrap(), 838);
        assert_eq!(ticks(table, "bad header").unwrap(), 598);
        assert!(ticks(table, "VT_CAPS").is_err());
    }
}
