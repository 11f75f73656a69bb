//! Counting a session's calls inside the VMMR0 image, without a lock.
//!
//! A call counts itself first and then looks whether the session still has the image; freeing withdraws the image first and then
//! looks for calls. Likewise a call that leaves counts itself out first and then looks whether it has to finish the freeing. All of it in
//! one total order (SeqCst), so that of two who pass each other one sees the other.

use super::atomics::{AtomicBool, AtomicU32, Ordering};

/// The calls of one session.
#[derive(Default)]
pub struct Calls {
    /// The session has a usage of the VMMR0 image; set under the loader mutex.
    allowed: AtomicBool,
    /// Calls inside, and those that are still looking whether they may.
    inside: AtomicU32,
    /// The image was withdrawn: the last one out looks whether it has to free it.
    withdrawn: AtomicBool,
}

impl Calls {
    /// Counts a call; whether it may go on at once. If not, it asks under the loader mutex. Either way it must [`leave`](Self::leave).
    pub fn enter(&self) -> bool {
        self.inside.fetch_add(1, Ordering::SeqCst);
        self.allowed.load(Ordering::SeqCst)
    }

    /// Counts a call out; whether it was the last one, of an image that was withdrawn meanwhile.
    pub fn leave(&self) -> bool {
        self.inside.fetch_sub(1, Ordering::SeqCst) == 1 && self.withdrawn.load(Ordering::SeqCst)
    }

    /// Lets calls in. Under the loader mutex, which knows that the session has the image.
    pub fn allow(&self) {
        self.withdrawn.store(false, Ordering::SeqCst);
        self.allowed.store(true, Ordering::SeqCst);
    }

    /// Lets no new calls in. Under the loader mutex.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
        self.allowed.store(false, Ordering::SeqCst);
    }

    /// Whether calls are inside: if not, of a withdrawn image, then none will be. Under the loader mutex.
    pub fn any_inside(&self) -> bool {
        self.inside.load(Ordering::SeqCst) != 0
    }

    /// What was withdrawn is freed: nobody needs to look again. Under the loader mutex.
    pub fn freed(&self) {
        self.withdrawn.store(false, Ordering::SeqCst);
    }
}
