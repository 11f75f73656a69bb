//! Kernels to build for and to boot.

use std::path::PathBuf;
use std::process::Command;

use crate::report::Result;
use crate::tools::{command, long_step, need, run, say, target, write_if_changed};

/// An installed set of kernel headers, and the kernel that goes with it.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As in `uname -r`.
    pub release: String,
    /// Where its modules are built.
    pub headers: PathBuf,
    /// Options of the apt that has it.
    apt: Vec<String>,
}

/// A kernel beside the one that is always there.
#[derive(Clone, Copy, Debug)]
pub enum Other {
    /// The newest one of a series, like `6.12`, or of a kind, like `rt`.
    Series(&'static str),
    /// That of an older Debian, by its name.
    Release(&'static str),
}

/// The parts of a release that count, for comparing: 6.1.0-9 is older than 6.1.0-56.
fn version(release: &str) -> Vec<u32> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

impl Kernel {
    /// The newest installed 6.1 headers.
    pub fn newest() -> Result<Self> {
        need(&["linux-headers-amd64", "gcc", "make"])?;
        let prefix = "linux-headers-";
        let mut releases = Vec::new();
        for entry in std::fs::read_dir("/usr/src")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(release) =
                name.strip_prefix(prefix).filter(|r| r.starts_with("6.1.") && r.ends_with("-amd64"))
            {
                releases.push(release.to_owned());
            }
        }
        releases.sort_by_key(|release| version(release));
        let release =
            releases.pop().ok_or("no headers of a 6.1 kernel in /usr/src (package linux-headers-amd64)")?;
        let headers = PathBuf::from("/usr/src").join(format!("{prefix}{release}"));
        Ok(Self { release, headers, apt: Vec::new() })
    }

    /// The newest kernel of a series that this system's package lists don't have as their first one, or that of an older Debian; `None` if it can't be had.
    /// Headers are unpacked under `target/`, never installed: that would install the kernel too.
    pub fn other(other: Other) -> Result<Option<Self>> {
        let (apt, meta) = match other {
            Other::Series(series) => (Vec::new(), format!("linux-headers-{series}-amd64")),
            Other::Release(name) => (old_release(name)?, "linux-headers-amd64".to_owned()),
        };
        let newest =
            || depends(&apt, &meta).into_iter().find(|package| package.starts_with("linux-headers-"));
        let package = newest().or_else(|| {
            run(apt_get(&apt).arg("update")).ok()?;
            newest()
        });
        let Some(package) = package else { return Ok(None) };
        let release = package.trim_start_matches("linux-headers-").to_owned();
        let parts = depends(&apt, &package);
        let common =
            parts.iter().find(|part| part.contains("-common")).ok_or("headers without a common part")?;
        let sources = target("kernels")?.join(&release).join("usr/src");
        let headers = sources.join(&package);
        let makefile = headers.join("Makefile");
        let include = format!("include {}/Makefile\n", sources.join(common).display());
        let kernel = Self { release, headers, apt };
        if std::fs::read_to_string(&makefile).is_ok_and(|text| text == include) {
            return Ok(Some(kernel));
        }
        kernel.unpack(&package)?;
        for part in parts.iter().filter(|part| *part == common || part.starts_with("linux-kbuild-")) {
            kernel.unpack(part)?;
        }
        // Last: a folder with this file is complete.
        std::fs::write(&makefile, include)?;
        Ok(Some(kernel))
    }

    /// Whether it comes from an older Debian, whose compilers aren't here.
    pub fn is_old(&self) -> bool {
        !self.apt.is_empty()
    }

    /// The kernel to boot: unpacked under `target/`, never installed.
    pub fn image(&self) -> Result<PathBuf> {
        let folder = target("kernels")?.join(&self.release);
        let image = folder.join(format!("boot/vmlinuz-{}", self.release));
        if image.exists() {
            return Ok(image);
        }
        let package = format!("linux-image-{}", self.release);
        self.unpack(&package)?;
        if image.exists() { Ok(image) } else { Err(format!("{package} holds no {}", image.display()).into()) }
    }

    /// Downloads a package and unpacks it beside the kernel.
    fn unpack(&self, package: &str) -> Result<()> {
        let folder = target("kernels")?.join(&self.release);
        let parts = folder.join("packages");
        std::fs::create_dir_all(&parts)?;
        say(&format!("downloading {package} (it is unpacked under target/, not installed)"));
        let download = || {
            let mut download = apt_get(&self.apt);
            download.args(["download", package]).current_dir(&parts);
            download
        };
        if long_step("download", &mut download()).is_err() {
            run(apt_get(&self.apt).arg("update").current_dir(&parts))?;
            long_step("download", &mut download())?;
        }
        let archive = std::fs::read_dir(&parts)?
            .filter_map(std::result::Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or("apt-get downloaded nothing")?;
        run(command("dpkg", &["-x"]).arg(&archive).arg(&folder))?;
        std::fs::remove_dir_all(&parts)?;
        Ok(())
    }

    /// Modules of the kernel, by their paths; unpacked if they are compressed.
    pub fn modules(&self, paths: &[&str]) -> Result<Vec<PathBuf>> {
        self.image()?;
        need(&["xz-utils"])?;
        let folder =
            target("kernels")?.join(&self.release).join("lib/modules").join(&self.release).join("kernel");
        let mut modules = Vec::new();
        for path in paths {
            let (module, packed) = (folder.join(path), folder.join(format!("{path}.xz")));
            if packed.exists() && !module.exists() {
                run(command("xz", &["-dk"]).arg(&packed))?;
            }
            modules.push(module);
        }
        Ok(modules)
    }
}

/// Options for an apt that knows an older Debian and nothing else. Its lists are under `target/` too.
fn old_release(name: &str) -> Result<Vec<String>> {
    let folder = target(&format!("kernels/{name}"))?;
    for part in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(folder.join(part))?;
    }
    let key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    let sources = format!(
        "deb {key} http://deb.debian.org/debian {name} main\n\
         deb {key} http://deb.debian.org/debian-security {name}-security main\n"
    );
    write_if_changed(&folder.join("sources.list"), sources.as_bytes())?;
    let at = |part: &str| folder.join(part).display().to_string();
    Ok([
        format!("Dir::Etc::sourcelist={}", at("sources.list")),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", at("lists")),
        // Nothing is installed, as far as this apt can tell.
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::Cache={}", at("cache")),
        "Acquire::Languages=none".to_owned(),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect())
}

fn apt_get(options: &[String]) -> Command {
    let mut apt = command("apt-get", &[]);
    apt.args(options);
    apt
}

/// What a package depends on; nothing if no list has it.
fn depends(options: &[String], package: &str) -> Vec<String> {
    let listed = run(command("apt-cache", &[]).args(options).args(["depends", package])).unwrap_or_default();
    listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases_are_ordered_by_number() {
        assert!(version("6.1.0-9-amd64") < version("6.1.0-56-amd64"));
    }
}
