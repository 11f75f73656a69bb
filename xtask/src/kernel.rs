//! Kernels to build for and to boot.

use std::path::{Path, PathBuf};

use crate::report::Result;
use crate::tools::{command, long_step, need, run, say, target};

/// An installed set of kernel headers, and the kernel that goes with it.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As in `uname -r`.
    pub release: String,
    /// Where its modules are built.
    pub headers: PathBuf,
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
        Ok(Self { release, headers })
    }

    /// The newest kernel that Debian offers beside its own 6.1: `None` if this system's package lists have none. Its headers are unpacked under
    /// `target/`, never installed: that would install the kernel too.
    pub fn second() -> Result<Option<Self>> {
        let series = "6.12";
        let listed = run(&mut command("apt-cache", &["depends", &format!("linux-headers-{series}-amd64")]));
        let prefix = "Depends: linux-headers-";
        let listed = listed.unwrap_or_default();
        let Some(release) = listed.lines().find_map(|line| line.trim().strip_prefix(prefix)) else {
            return Ok(None);
        };
        let version = release.strip_suffix("-amd64").unwrap_or(release);
        let folder = target("kernels")?.join(release);
        let kernel = Self {
            release: release.to_owned(),
            headers: folder.join(format!("usr/src/linux-headers-{release}")),
        };
        let makefile = kernel.headers.join("Makefile");
        let include =
            format!("include {}/usr/src/linux-headers-{version}-common/Makefile\n", folder.display());
        if std::fs::read_to_string(&makefile).is_ok_and(|text| text == include) {
            return Ok(Some(kernel));
        }
        for package in [
            format!("linux-headers-{release}"),
            format!("linux-headers-{version}-common"),
            format!("linux-kbuild-{version}"),
        ] {
            unpack(&package, &folder)?;
        }
        // Last: a folder with this file is complete.
        std::fs::write(&makefile, include)?;
        Ok(Some(kernel))
    }

    /// The kernel to boot: unpacked under `target/`, never installed.
    pub fn image(&self) -> Result<PathBuf> {
        let folder = target("kernels")?.join(&self.release);
        let image = folder.join(format!("boot/vmlinuz-{}", self.release));
        if image.exists() {
            return Ok(image);
        }
        let package = format!("linux-image-{}", self.release);
        unpack(&package, &folder)?;
        if image.exists() { Ok(image) } else { Err(format!("{package} holds no {}", image.display()).into()) }
    }

    /// Modules of the kernel, by their paths.
    pub fn modules(&self, paths: &[&str]) -> Result<Vec<PathBuf>> {
        self.image()?;
        let folder =
            target("kernels")?.join(&self.release).join("lib/modules").join(&self.release).join("kernel");
        Ok(paths.iter().map(|path| folder.join(path)).collect())
    }
}

/// Downloads a package and unpacks it in a folder.
fn unpack(package: &str, folder: &Path) -> Result<()> {
    let parts = folder.join("packages");
    std::fs::create_dir_all(&parts)?;
    say(&format!("downloading {package} (it is unpacked under target/, not installed)"));
    let mut download = command("apt-get", &["download", package]);
    download.current_dir(&parts);
    if long_step("download", &mut download).is_err() {
        run(command("apt-get", &["update"]).current_dir(&parts))?;
        long_step("download", &mut download)?;
    }
    let archive = std::fs::read_dir(&parts)?
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get downloaded nothing")?;
    run(command("dpkg", &["-x"]).arg(&archive).arg(folder))?;
    std::fs::remove_dir_all(&parts)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases_are_ordered_by_number() {
        assert!(version("6.1.0-9-amd64") < version("6.1.0-56-amd64"));
    }
}
