//! Kernels to build for and to boot.

use std::path::PathBuf;

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

    /// The kernel to boot: unpacked under `target/`, never installed.
    pub fn image(&self) -> Result<PathBuf> {
        let folder = target("kernels")?.join(&self.release);
        let image = folder.join(format!("boot/vmlinuz-{}", self.release));
        if image.exists() {
            return Ok(image);
        }
        std::fs::create_dir_all(&folder)?;
        let package = format!("linux-image-{}", self.release);
        say(&format!("downloading {package} (it is unpacked under target/, not installed)"));
        let mut download = command("apt-get", &["download", &package]);
        download.current_dir(&folder);
        if long_step("download", &mut download).is_err() {
            run(command("apt-get", &["update"]).current_dir(&folder))?;
            long_step("download", &mut download)?;
        }
        let archive = std::fs::read_dir(&folder)?
            .filter_map(std::result::Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or("apt-get downloaded nothing")?;
        run(command("dpkg", &["-x"]).arg(&archive).arg(&folder))?;
        std::fs::remove_file(&archive)?;
        if image.exists() { Ok(image) } else { Err(format!("{package} holds no {}", image.display()).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn releases_are_ordered_by_number() {
        assert!(version("6.1.0-9-amd64") < version("6.1.0-56-amd64"));
    }
}
