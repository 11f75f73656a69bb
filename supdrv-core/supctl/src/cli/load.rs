//! `supctl load`.

use supctl::transport::Transport;

use super::{Failure, Result, Words};

pub fn run(_: &dyn Transport, _: Words) -> Result {
    Err(Failure::Failed("not yet".into()))
}
