//! Messages for the kernel log.

use crate::os::OsLog;

/// Writes the parts as one line, each up to its first NUL, cut at 160 bytes. Class I. Kernel addresses are never logged.
pub fn log(os: &impl OsLog, parts: &[&[u8]]) {
    let mut line = [0; 160];
    let mut used = 0;
    for byte in parts.iter().flat_map(|part| part.iter().take_while(|byte| **byte != 0)).chain(b"\n") {
        let Some(place) = line.get_mut(used) else { break };
        *place = *byte;
        used += 1;
    }
    os.log_write(line.get(..used).unwrap_or(&[]));
}
