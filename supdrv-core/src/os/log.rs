//! The kernel log.

/// Log output.
pub trait OsLog {
    /// Writes one message, without a line break of its own. Class I wherever the system can print there, else dropped.
    fn log_write(&self, text: &[u8]);
}
