//! Boots a kernel with an initrd of our own and runs a script in it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use crate::kernel::Kernel;
use crate::report::Result;
use crate::tools::{command, need, run, say, target};

/// Programs of busybox that scripts may use.
const APPLETS: &[&str] = &[
    "sh", "mount", "umount", "insmod", "rmmod", "lsmod", "dmesg", "cat", "echo", "ls", "poweroff", "sleep",
    "grep", "kill", "wc", "head", "tail", "test", "id", "su", "chmod", "mkdir", "mknod", "ps", "sed", "seq",
    "true", "false", "date",
];

/// What happens before the script and after it. The kernel's log is emptied, so that it holds what the script caused; the empty line ends
/// what the firmware wrote.
/// `step NAME COMMAND…` marks a command's output and its exit status.
const PROLOGUE: &str = "#!/bin/sh
export PATH=/bin:/
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t debugfs debug /sys/kernel/debug
dmesg -n 4; dmesg -c > /dev/null
echo
step() { name=$1; shift; echo \"@@begin $name\"; \"$@\"; status=$?; echo; echo \"@@end $name $status\"; return $status; }
";
const EPILOGUE: &str = "
echo '@@done'
poweroff -f
";

/// One boot.
pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    /// Number of CPUs.
    pub cpus: u32,
    /// QEMU's CPU model.
    pub cpu: &'a str,
    /// Whether time is counted in executed instructions. Needs one CPU.
    pub exact: bool,
    /// Files for the initrd's root folder.
    pub files: &'a [PathBuf],
    /// What runs: lines of shell.
    pub script: &'a str,
    /// How long it may take, in seconds.
    pub limit_seconds: u64,
}

/// One step of the script.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: String,
    pub status: i32,
    pub output: String,
}

fn initrd(machine: &Machine<'_>) -> Result<PathBuf> {
    need(&["busybox-static", "cpio", "gzip"])?;
    let tree = target("qemu/initrd")?;
    std::fs::remove_dir_all(&tree)?;
    for folder in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
        std::fs::create_dir_all(tree.join(folder))?;
    }
    std::fs::copy("/bin/busybox", tree.join("bin/busybox"))?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet))?;
    }
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")?;
    for file in machine.files {
        let name = file.file_name().ok_or("a file without a name")?;
        std::fs::copy(file, tree.join(name)).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let init = tree.join("init");
    std::fs::write(&init, [PROLOGUE, machine.script, EPILOGUE].concat())?;
    run(command("chmod", &["755"]).arg(&init))?;
    let archive = target("qemu")?.join("initrd.gz");
    let pack = "find . | cpio -o -H newc --quiet -R 0:0 | gzip -1 > \"$0\"";
    run(command("sh", &["-c", pack]).arg(&archive).current_dir(&tree))?;
    Ok(archive)
}

/// Boots, shows what the machine prints, and returns the steps that ran to their end.
///
/// A machine that didn't get to the end of the script is an error, which carries what it printed last.
pub fn boot(machine: &Machine<'_>) -> Result<Vec<Step>> {
    need(&["qemu-system-x86"])?;
    let image = machine.kernel.image()?;
    let archive = initrd(machine)?;
    let limit = machine.limit_seconds.to_string();
    let cpus = machine.cpus.to_string();
    let mut qemu = command("timeout", &[&limit, "qemu-system-x86_64", "-accel", "tcg", "-cpu", machine.cpu]);
    qemu.args([
        "-smp",
        &cpus,
        "-m",
        "768",
        "-nographic",
        "-nodefaults",
        "-no-reboot",
        "-serial",
        "stdio",
        "-monitor",
        "none",
    ]);
    if machine.exact {
        qemu.args(["-icount", "shift=0,sleep=off"]);
    }
    qemu.arg("-kernel")
        .arg(&image)
        .arg("-initrd")
        .arg(&archive)
        .args(["-append", "console=ttyS0 panic=-1 quiet"]);
    say(&format!("booting {} in QEMU ({cpus} CPUs, emulated) …", machine.kernel.release));
    let start = Instant::now();
    let mut child = qemu.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let mut log = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned();
            if !line.starts_with("@@end") {
                eprintln!(
                    "  | {}",
                    line.strip_prefix("@@begin")
                        .map_or_else(|| line.clone(), |name| format!("--- {}", name.trim()))
                );
            }
            log.push(line);
        }
    }
    child.wait()?;
    std::fs::write(target("qemu")?.join("console.log"), log.join("\n"))?;
    say(&format!("the machine ran for {:.0} s", start.elapsed().as_secs_f32()));
    if !log.iter().any(|line| line == "@@done") {
        let tail = log.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n");
        return Err(
            format!("the machine didn't get to the end of its script; it printed last:\n{tail}").into()
        );
    }
    Ok(steps(&log))
}

fn steps(log: &[String]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open: Option<Step> = None;
    for line in log {
        if let Some(name) = line.strip_prefix("@@begin ") {
            open = Some(Step { name: name.to_owned(), status: -1, output: String::new() });
        } else if let Some(end) = line.strip_prefix("@@end ") {
            if let (Some(mut step), Some((_, status))) = (open.take(), end.rsplit_once(' ')) {
                step.status = status.parse().unwrap_or(-1);
                steps.push(step);
            }
        } else if let Some(step) = &mut open {
            step.output.push_str(line);
            step.output.push('\n');
        }
    }
    steps
}

/// A step by its name.
pub fn find<'a>(steps: &'a [Step], name: &str) -> Result<&'a Step> {
    steps
        .iter()
        .find(|step| step.name == name)
        .ok_or_else(|| format!("step {name:?} didn't run to its end").into())
}

/// Whether a file of the initrd exists on this side.
pub fn must_exist(path: &Path) -> Result<()> {
    if path.exists() { Ok(()) } else { Err(format!("{} is missing", path.display()).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_its_output_and_status() {
        let log = ["noise", "@@begin info", "a", "b", "", "@@end info 3", "@@begin cut"].map(String::from);
        let steps = steps(&log);
        assert_eq!(steps.len(), 1);
        let info = find(&steps, "info").unwrap();
        assert_eq!((info.status, info.output.as_str()), (3, "a\nb\n\n"));
        assert!(find(&steps, "cut").is_err());
    }
}
